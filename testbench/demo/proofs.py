"""What must be true of a release that serves, and of one that was put aside: asked of the systems themselves."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from testbench.airflow.client import Airflow
from testbench.airflow.facts import Run
from testbench.demo import runs, starts
from testbench.demo.exchange import Question
from testbench.demo.look import Cluster, Compute, Store
from testbench.demo.report import Report
from testbench.demo.writes import Ledger

SERVICE = "gemma"
NAMESPACE = "llm"
QUESTION, ANSWER = "What is the capital of Japan?", "Tokyo"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What the story plays on."""

    airflow: Airflow
    cluster: Cluster
    compute: Compute
    store: Store
    ledger: Ledger
    report: Report


def serves(stage: Stage, pinned: Mapping[str, Any], name: str) -> None:
    """The Service's own address answers, from this release, what a trained model answers."""
    served = stage.cluster.served(NAMESPACE, SERVICE)
    expected = pinned.get("id")
    if served is None:
        stage.report.check(f"the Service answers from {name}", "there is no Service", False)
        return
    question = Question(host=served.host, port=served.port, model=SERVICE, text=QUESTION)
    text, root = _ask(question)
    stage.report.check(
        f"the Service selects {name} and {name} answers",
        f"selector {served.release}, weights {root}, {QUESTION!r} -> {text!r}",
        served.release == served.live == expected and root.endswith(f"/{expected}") and ANSWER in text,
    )


def sealed(stage: Stage, run: Run, name: str) -> None:
    published = runs.facts(stage.airflow, run, "stage.publish")
    created = runs.facts(stage.airflow, run, "stage.disk")
    volume = stage.cluster.volume(str(published["pv"]))
    disk = stage.compute.disk(str(created["zone"]), str(created["disk"]))
    stage.report.check(
        f"{name}'s volume is a static, read-only, retained, bound PV",
        f"{published['pv']}: {'/'.join(volume.access_modes)} readOnly={volume.read_only} {volume.reclaim}"
        f" {volume.phase} by {volume.claim}",
        volume.access_modes == ("ReadOnlyMany",)
        and volume.read_only
        and volume.reclaim == "Retain"
        and volume.phase == "Bound",
    )
    stage.report.check(
        f"Compute has {name}'s disk sealed, under the id that the run recorded",
        f"{created['disk']} id {disk and disk.id}, {disk and disk.access_mode}",
        disk is not None and disk.id == str(created["id"]) and disk.access_mode == "READ_ONLY_MANY",
    )


def on_record(stage: Stage, run: Run, pinned: Mapping[str, Any], recorded: Mapping[str, Any]) -> None:
    """The one document names what a person would look for."""
    document = stage.store.document(str(recorded["uri"]))
    text = json.dumps(document)
    named = {
        "commit": str(pinned["commit"]),
        "image digest": str(pinned["image"]).partition("@")[2],
        "disk id": str(runs.facts(stage.airflow, run, "stage.disk").get("id")),
        "PV": str(runs.facts(stage.airflow, run, "stage.publish").get("pv")),
        "pod hash": str(runs.facts(stage.airflow, run, "roll_out.deploy").get("pod_hash")),
        "verdict": str(runs.facts(stage.airflow, run, "decide.verdict").get("verdict")),
    }
    missing = [
        what for what, value in named.items() if not value or (f'"{value}"' not in text and value not in text)
    ]
    stage.report.check(
        "record.json names commit, image digest, disk, PV, pod hash and verdict",
        f"{recorded['uri']}: "
        + (f"lacks {', '.join(missing)}" if missing else f"{len(text)} bytes, all there"),
        document is not None and not missing,
    )


def cold_start(stage: Stage, recorded: Mapping[str, Any], name: str) -> None:
    """Takes the release's cold start into the report, from its record and the ledgers that this names."""
    record = stage.store.document(str(recorded["uri"])) if recorded.get("uri") else None
    uri = starts.evidence(record or {})
    ledgers = stage.store.document(uri) if uri else None
    if record and ledgers:
        stage.report.starts[name] = starts.read(record, ledgers)


def boot_disk(stage: Stage, run: Run, name: str) -> None:
    """The engine's image came from a disk that was verified, and what built it is gone."""
    made = runs.facts(stage.airflow, run, "stage.node_image")
    image = stage.compute.image(str(made.get("image"))) or {}
    labels = image.get("labels") or {}
    stage.report.check(
        f"{name}'s secondary boot disk image is the one the run recorded, and verified",
        f"{made.get('image')} id {image.get('id')}, verified={labels.get('llm-release-verified')}",
        bool(made) and image.get("id") == made.get("id") and labels.get("llm-release-verified") == "true",
    )
    started = runs.facts(stage.airflow, run, starts.STEP)
    told = [r for r in started.get("reasons", ()) if ": image: " in r]
    stage.report.check(
        f"{name}'s container started from its layers",
        "; ".join(told) or f"nobody said so: {'; '.join(started.get('reasons', ()))}",
        bool(told) and all(_from_disk(reason, str(made.get("image"))) for reason in told),
    )
    zone = str(runs.facts(stage.airflow, run, "stage.disk").get("zone"))
    there = [*stage.compute.names(zone, "instances"), *stage.compute.names(zone, "disks")]
    left = [n for n in there if n.startswith(("llmr-build-", "llmr-verify-"))]
    stage.report.check(
        "no machine and no disk of the build is left", ", ".join(left) or "none in the zone", not left
    )


def boot_disk_used_again(stage: Stage, run: Run) -> None:
    """One engine, one build: the image is older than the run."""
    made = runs.facts(stage.airflow, run, "stage.node_image")
    image = stage.compute.image(str(made.get("image"))) or {}
    created = datetime.fromisoformat(image["creationTimestamp"]) if image else None
    stage.report.check(
        "B used the boot disk image of A's engine again",
        f"{made.get('image')} made at {created}, B's run began at {run.started}",
        created is not None and run.started is not None and created < run.started,
    )


def _from_disk(reason: str, image: str) -> bool:
    """The snapshotter counted every layer; or an earlier pod had brought the image to a node with that disk."""
    found = re.search(r"(\d+) of (\d+) layers were on the boot disk", reason)
    if found is not None:
        return found[1] == found[2] != "0"
    return "it was on the node already" in reason and f"it has disk {image}" in reason


def kept(stage: Stage, release_id: str) -> None:
    """The old release costs no GPU and can be restored."""
    replicas = stage.cluster.replicas(NAMESPACE, f"{SERVICE}-{release_id}")
    pods = stage.cluster.pods(NAMESPACE, SERVICE, release_id)
    stage.report.check(
        "A is scaled to zero and kept",
        f"Deployment wants {replicas and replicas[0]} pods, {len(pods)} there",
        replicas is not None and replicas[0] == 0 and not pods,
    )


def _ask(question: Question) -> tuple[str, str]:
    """(answer, folder of the weights) as anybody with curl would get them."""
    base = f"http://{question.host}:{question.port}"
    with urllib.request.urlopen(f"{base}/v1/models", timeout=question.timeout_s) as answer:
        root = str(json.load(answer)["data"][0]["root"])
    request = urllib.request.Request(
        f"{base}/v1/chat/completions", data=question.body, headers={"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=question.timeout_s) as answer:
        return str(json.load(answer)["choices"][0]["message"]["content"]), root
