"""The story: prepare, release A, release B under traffic, refuse C, find B already live.

Every chapter ends with claims, each checked against the cluster, Compute, the store or the client's record.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from testbench.airflow.facts import Run
from testbench.demo import proofs, runs
from testbench.demo.client import BackgroundClient
from testbench.demo.judge import Handover, handover, undisturbed
from testbench.demo.proofs import NAMESPACE, SERVICE, Stage
from testbench.demo.writes import START

DAG = f"release__{SERVICE}"
PLATFORM = "platform__demo"
ACCOUNTS = frozenset({"llm-hydrator", "llm-server", "llm-gate"})
_STEADY_S = 6.0
"""The client runs this long before a change and after it, so that there is something to compare with."""


class Stopped(Exception):
    """A chapter failed that the next ones stand on."""


def prepare(stage: Stage) -> None:
    """Chapter 1: the platform DAG makes what releases need."""
    report = stage.report
    report.chapter("1. Prepare the cluster")
    stage.airflow.wait_for_dag(PLATFORM)
    stage.airflow.wait_for_dag(DAG)
    run = runs.run_told(stage.airflow, report, PLATFORM, {})
    classes = stage.cluster.reclaim_policies()
    accounts = stage.cluster.service_accounts(NAMESPACE)
    bindings = stage.cluster.role_bindings(NAMESPACE)
    report.check("the platform run is green", run.state, run.state == "success")
    report.check(
        "a StorageClass of ours retains its volumes",
        ", ".join(f"{k}={v}" for k, v in classes.items()),
        any(name.startswith("llm-release") and policy == "Retain" for name, policy in classes.items()),
    )
    report.check(
        f"namespace {NAMESPACE} has the service accounts of hydrator, server and gate",
        ", ".join(sorted(accounts)),
        accounts >= ACCOUNTS,
    )
    report.check("the release's identity is bound there", ", ".join(sorted(bindings)), bool(bindings))
    report.check("no DAG has import errors", stage.airflow.import_errors(), not stage.airflow.import_errors())


def release(stage: Stage, *, name: str, revision: str) -> tuple[Run, Mapping[str, Any]]:
    """Chapters 2 and 3: a good version goes live.

    Returns: the run, and the release as `resolve` pinned it.

    Raises:
        Stopped: it did not go live.
    """
    run = runs.run_told(stage.airflow, stage.report, DAG, {"revision": revision})
    pinned = runs.facts(stage.airflow, run, "open.resolve").get("release", {})
    recorded = runs.facts(stage.airflow, run, "close.record")
    stage.report.releases.append(
        runs.summary(stage.airflow, run, name=name, link=_link(stage, recorded.get("uri")))
    )
    if runs.facts(stage.airflow, run, "open.plan").get("nothing_to_do"):
        stage.report.say(f"{name} is live from an earlier demo")
        proofs.serves(stage, pinned, name)
        return run, pinned
    stage.report.check(
        f"release {name} ({revision}) is green",
        f"{run.state}, record says {recorded.get('outcome')}: {recorded.get('reason')}",
        run.state == "success" and recorded.get("outcome") == "live",
    )
    if run.state != "success" or not recorded:
        step, reason = runs.failure(stage.airflow, run)
        raise Stopped(f"release {name} did not go live: {step or run.state}: {reason or recorded}")
    proofs.serves(stage, pinned, name)
    proofs.sealed(stage, run, name)
    proofs.on_record(stage, run, pinned, recorded)
    proofs.boot_disk(stage, run, name)
    proofs.cold_start(stage, recorded, name)
    return run, pinned


def takeover(
    stage: Stage, client: BackgroundClient, old: Mapping[str, Any], *, revision: str
) -> Mapping[str, Any]:
    """Chapter 3: B takes over from A while the client asks."""
    stage.report.chapter("3. Release B while A serves and a client keeps asking")
    time.sleep(_STEADY_S)
    had = stage.cluster.replicas(NAMESPACE, f"{SERVICE}-{old['id']}")
    run, new = release(stage, name="B", revision=revision)
    time.sleep(_STEADY_S)
    switched = runs.facts(stage.airflow, run, "promote.switch")
    drained = runs.facts(stage.airflow, run, "promote.drain")
    if not (switched and drained.get("drained_at")):
        raise Stopped("B's run switched or drained nothing")
    change = Handover(
        old=str(old["id"]),
        new=str(new["id"]),
        switched_at=float(switched["switched_at"]),
        drained_at=float(drained["drained_at"]),
    )
    stage.report.add(*handover(client.exchanges, change))
    ready = len(switched["pods"])
    stage.report.check(
        "B had as many pods as A when traffic switched to it",
        f"A had {had and had[1]} ready, B {ready}",
        had is not None and ready >= had[1] > 0,
    )
    proofs.kept(stage, str(old["id"]))
    proofs.boot_disk_used_again(stage, run)
    stage.report.facts["handover"] = {
        "seconds_of_drain": round(change.drained_at - change.switched_at, 1),
        "requests": len(client.exchanges),
        "served_by_old_after_switch": drained.get("served_during"),
    }
    return new


def refuse(stage: Stage, client: BackgroundClient, live: Mapping[str, Any], *, revision: str) -> None:
    """Chapter 4: C is healthy and talks garbage."""
    report = stage.report
    report.chapter("4. Refuse C: healthy pods, garbage text")
    began = len(client.exchanges)
    run = runs.run_told(stage.airflow, report, DAG, {"revision": revision})
    pinned = runs.facts(stage.airflow, run, "open.resolve").get("release", {})
    recorded = runs.facts(stage.airflow, run, "close.record")
    step, reason = runs.failure(stage.airflow, run)
    report.releases.append(runs.summary(stage.airflow, run, name="C", link=_link(stage, recorded.get("uri"))))
    report.check(
        "C's run is red, and the verdict says why in one sentence",
        f"{run.state} in {step or 'no step'}: {reason or 'no reason'}",
        run.state == "failed" and step == "decide.verdict" and "smoke" in reason and "\n" not in reason,
    )
    smoke = runs.facts(stage.airflow, run, "gate.smoke")
    report.check(
        "it was the smoke gate, on pods that were ready",
        f"{smoke.get('passed')} of {smoke.get('total')} answers right,"
        f" pods {runs.facts(stage.airflow, run, 'roll_out.deploy').get('pods')}",
        smoke.get("verdict") == "FAIL"
        and bool(runs.facts(stage.airflow, run, "roll_out.deploy").get("pods")),
    )
    left = stage.cluster.pods(NAMESPACE, SERVICE, str(pinned.get("id")))
    report.check("C's pods are gone, their GPUs are free", ", ".join(left) or "no pod of C", not left)
    report.check(
        "the record names the refusal", recorded.get("outcome"), recorded.get("outcome") == "refused"
    )
    proofs.cold_start(stage, recorded, "C")
    proofs.serves(stage, live, "B")
    report.add(*undisturbed(client.exchanges[began:], str(live["id"])))


def again(stage: Stage, live: Mapping[str, Any], *, revision: str) -> None:
    """Chapter 5: what is live already is left alone, by the word of those who would have been written to."""
    report = stage.report
    report.chapter("5. Release B again")
    mark = stage.ledger.mark()
    run = runs.run_told(stage.airflow, report, DAG, {"revision": revision})
    written = stage.ledger.since(mark)
    before = stage.ledger.since(START).total
    report.releases.append(runs.summary(stage.airflow, run, name="B again", link=""))
    planned = runs.facts(stage.airflow, run, "open.plan")
    report.check(
        "the run is green and its plan says: already live",
        f"{run.state}: {planned.get('text')}",
        run.state == "success" and planned.get("nothing_to_do") is True,
    )
    report.check(
        "nothing was written, where the same records know the writes of before",
        f"{written}; before: {before}",
        not written.total and before > 0,
    )
    proofs.serves(stage, live, "B")


def _link(stage: Stage, uri: object) -> str:
    return stage.store.link(str(uri)) if uri else ""
