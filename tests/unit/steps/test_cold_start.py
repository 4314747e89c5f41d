"""The step that splits the candidate's cold start, keeps it, and refuses what is too slow."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.auth.credentials import AnonymousCredentials

from llm_release.clients.node_logs import NodeLogs
from llm_release.clients.store import Store, connect
from llm_release.core import bootdisk, nodeplace, strict
from llm_release.core.clusterspec import NodeImages
from llm_release.core.errors import Conflict, Permanent, ReleaseError, Transient, Unavailable
from llm_release.core.ledgers import Ledgers
from llm_release.core.strict import Seconds
from llm_release.steps import cold_start, record
from llm_release.steps.refused import Refused
from testbench.fakes.web import Request, Response, Server, as_json
from tests.unit.support.kube_api import KubeApi
from tests.unit.support.release import DIGEST, release
from tests.unit.support.world import Run, lease

TRACE = json.loads((Path(__file__).parents[1] / "core/traces/llm-sim-v1-no-node.json").read_text())
TOTAL_S = 15
"""Of that trace, from 15:07:19 to 15:07:34."""
RELEASE = release()
OTHER = "fedcba9876"
LABELS = {
    "llm-release/service": "sim",
    "llm-release/release": RELEASE.id,
    "llm-release/role": "server",
}


def pod(
    api: KubeApi,
    name: str,
    *,
    ready: str = "15:07:34",
    events: bool = True,
    log: bool = True,
    ending: bool = False,
) -> None:
    """A pod as the trace has it, Ready at that time of day ("" for one that is not)."""
    told = TRACE["pod"]
    conditions = {**told["conditions"], "Ready": f"2026-11-21T{ready}Z"}
    held = [{"type": t, "status": "True", "lastTransitionTime": at} for t, at in conditions.items()]
    if not ready:
        held = [{**c, "status": "False" if c["type"] == "Ready" else "True"} for c in held]
    api.put(
        *("v1", "Pod", name),
        metadata={
            "creationTimestamp": told["created"],
            "labels": LABELS,
            **({"deletionTimestamp": "2026-11-21T16:00:00Z"} if ending else {}),
        },
        spec={"nodeName": f"node-of-{name}"},
        status={
            "conditions": held,
            "containerStatuses": [{"name": "engine", "state": {"running": {"startedAt": told["started"]}}}],
        },
    )
    for n, event in enumerate(TRACE["events"] if events else ()):
        path = f"spec.containers{{{event['container']}}}" if event["container"] else ""
        api.put(
            *("v1", "Event", f"{name}.{n}"),
            reason=event["reason"],
            message=event["message"],
            firstTimestamp=event["at"],
            involvedObject={"name": name, "fieldPath": path},
        )
    api.logs[name, "engine"] = "\n".join(TRACE["log"]) if log else ""


def live(api: KubeApi, id: str = OTHER) -> None:
    annotations = {"llm-release/live": id}
    selector = {"llm-release/release": id}
    api.put("v1", "Service", "sim", metadata={"annotations": annotations}, spec={"selector": selector})


def kept(store: Store, release: str = RELEASE.id) -> Ledgers:
    found = store.read_text(f"sim/{release}/cold-start.json")
    assert found is not None
    return strict.decode(Ledgers, json.loads(found[0]))


def left_by(store: Store, run: Run, **changes: Any) -> None:
    """The live release left the ledgers of a run of this very step, changed in their one pod's."""
    cold_start.run(run.world())
    first = kept(store)
    ledger = dataclasses.replace(first.pods[0].ledger, **changes)
    pods = (dataclasses.replace(first.pods[0], ledger=ledger),)
    document = dataclasses.replace(first, release=OTHER, pods=pods)
    store.write_text(f"sim/{OTHER}/cold-start.json", json.dumps(strict.encode(document)))
    run.log.clear()


def test_every_ready_pod_gets_a_ledger_in_the_facts_and_in_the_store(
    api: KubeApi, run: Run, store: Store
) -> None:
    pod(api, "a")
    pod(api, "b", ready="15:07:36")
    pod(api, "unready", ready="")
    pod(api, "ending", ending=True)
    found = cold_start.run(run.world())
    assert not [line for line in run.log if "went away" in line]
    assert (found.outcome, found.compared_with) == ("PASS", "")
    assert [(p.pod, p.node, p.total_s) for p in found.pods] == [
        ("b", "node-of-b", 17),
        ("a", "node-of-a", 15),
    ]
    assert found.pods[1].attributed == 1
    assert found.pods[1].phases["node"] == pytest.approx(4.2, abs=0.1)
    assert (found.pods[1].image_present, found.pods[1].image_pull_s) == (False, 2.228)
    assert {p.pod: p.ledger.total_s for p in kept(store).pods} == {"a": 15, "b": 17}
    assert found.evidence.endswith(f"/sim/{RELEASE.id}/cold-start.json")
    assert strict.decode(cold_start.ColdStarted, json.loads(json.dumps(strict.encode(found)))) == found


def test_the_log_has_the_table_with_the_live_release_beside_it(api: KubeApi, run: Run, store: Store) -> None:
    pod(api, "a")
    left_by(store, run)
    live(api)
    assert cold_start.run(run.world()).compared_with == OTHER
    assert run.log[0].split() == ["seconds", "a", "release", OTHER]
    assert ["total", "15.0", "15.0"] in [line.split() for line in run.log]
    assert run.log[-1].startswith(f"cold_start=PASS compared_with={OTHER} evidence=gs://")


def test_a_budget_that_is_missed_refuses_with_the_facts_and_the_evidence(
    api: KubeApi, run: Run, store: Store
) -> None:
    pod(api, "a")
    run.gate(budget=Seconds(TOTAL_S - 0.5))
    with pytest.raises(Refused, match=r"Refused \(FAIL\): cold start: 15 s, at most 14 s wanted") as refused:
        cold_start.run(run.world())
    assert isinstance(refused.value.facts, cold_start.ColdStarted)
    assert refused.value.facts.outcome == "FAIL"
    assert refused.value.facts.pods
    assert kept(store).pods


def test_a_budget_that_is_held_is_told(api: KubeApi, run: Run) -> None:
    pod(api, "a")
    run.gate(budget=Seconds(TOTAL_S))
    found = cold_start.run(run.world())
    assert found.outcome == "PASS"
    assert "cold start: 15 s, at most 15 s wanted" in found.reasons[0]


@pytest.mark.parametrize(("meant", "outcome"), [("warn", "WARN"), ("off", "PASS")])
def test_a_start_slower_than_the_live_releases_is_told_and_goes_on(
    api: KubeApi, run: Run, store: Store, meant: str, outcome: str
) -> None:
    pod(api, "a")
    left_by(store, run)
    live(api)
    pod(api, "a", ready="15:07:44")
    run.gate(regression=meant)
    found = cold_start.run(run.world())
    assert found.outcome == outcome
    slower = [r for r in found.reasons if "took 25 s, 15 s in the last release" in r]
    assert bool(slower) == (meant == "warn")
    assert [line for line in run.log if line == f"WARN {slower[0]}"] if slower else True


def test_a_start_slower_than_the_live_releases_refuses_where_the_spec_says_so(
    api: KubeApi, run: Run, store: Store
) -> None:
    pod(api, "a")
    left_by(store, run)
    live(api)
    pod(api, "a", ready="15:07:44")
    run.gate(regression="fail")
    with pytest.raises(Refused, match="total took 25 s, 15 s in the last release"):
        cold_start.run(run.world())


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (None, f"release {OTHER} left no cold-start.json to compare with"),
        ("{", "it is no JSON"),
        ('{"schema": "cold-start/v9"}', "schema: 'cold-start/v9' is not one of"),
        ("[]", "expected a mapping"),
        ('{"schema": "cold-start/v1", "release": "x", "pods": []}', "has no pod"),
    ],
)
def test_a_live_release_without_ledgers_is_not_compared_with_and_that_is_said(
    api: KubeApi, run: Run, store: Store, document: str | None, said: str
) -> None:
    pod(api, "a")
    live(api)
    if document is not None:
        store.write_text(f"sim/{OTHER}/cold-start.json", document)
    run.gate(regression="fail")
    found = cold_start.run(run.world())
    assert (found.outcome, found.compared_with) == ("PASS", "")
    assert said in found.reasons[0]


def test_a_first_release_is_compared_with_nothing(api: KubeApi, run: Run) -> None:
    pod(api, "a")
    assert cold_start.run(run.world()).reasons == (
        "cold start: there is no earlier release to compare with.",
    )


def test_lost_events_and_a_lost_log_are_gaps_and_notes_and_no_failure(api: KubeApi, run: Run) -> None:
    pod(api, "a", events=False, log=False)
    (found,) = cold_start.run(run.world()).pods
    assert found.attributed < 0.95
    assert found.image_present is None
    assert any("no Pulled event" in n for n in found.notes)
    assert any(line.startswith("a: no line of the log") for line in run.log)


def test_a_pod_that_goes_away_while_it_is_looked_at_is_left_out(api: KubeApi, run: Run) -> None:
    pod(api, "a")
    pod(api, "b")

    def leaves(request: Request) -> int:
        return 404 if request.path.endswith("/pods/b") else 0

    api.fault = leaves
    assert [p.pod for p in cold_start.run(run.world()).pods] == ["a"]
    assert "pod=b went away while it was looked at" in run.log


def test_when_every_pod_is_replaced_the_task_tries_again(api: KubeApi, run: Run, store: Store) -> None:
    pod(api, "a")
    pod(api, "unready", ready="")

    def replaced(request: Request) -> int:
        if request.path.endswith("/pods/a"):
            pod(api, "a", ready="")
        return 0

    api.fault = replaced
    with pytest.raises(Transient, match="no pod of sim-0123456789 stayed ready"):
        cold_start.run(run.world())
    assert store.read_text(f"sim/{RELEASE.id}/cold-start.json") is None


@pytest.mark.parametrize("what", ["/pods/a", "/events", "/log", "/services/sim"])
def test_an_api_server_in_trouble_is_tried_again(api: KubeApi, run: Run, store: Store, what: str) -> None:
    pod(api, "a")
    api.fault = lambda request: 503 if request.path.endswith(what) else 0
    with pytest.raises(Transient):
        cold_start.run(run.world())
    assert store.read_text(f"sim/{RELEASE.id}/cold-start.json") is None


def test_a_store_that_cannot_be_reached_is_tried_again_because_a_ledger_cannot_be_made_later(
    api: KubeApi, run: Run
) -> None:
    pod(api, "a")
    gone = connect("http://127.0.0.1:1", project="demo")
    run.connect.documents = Store("llm-releases", "p", gone, deadline_s=0.3)
    with pytest.raises(Unavailable):
        cold_start.run(run.world())
    live(api)
    with pytest.raises(Unavailable):
        cold_start.run(run.world())


def test_a_run_that_lost_its_lease_keeps_nothing(api: KubeApi, run: Run, store: Store) -> None:
    pod(api, "a")
    lease(api, "sim", "release__sim/thief", fence=2)
    with pytest.raises(Conflict, match="held by release__sim/thief"):
        cold_start.run(run.world())
    assert store.read_text(f"sim/{RELEASE.id}/cold-start.json") is None


def test_a_release_that_serves_already_is_neither_measured_nor_refused(
    api: KubeApi, run: Run, store: Store
) -> None:
    pod(api, "a")
    live(api, RELEASE.id)
    run.facts["open.plan"]["repairs"] = True
    run.gate(budget=Seconds(1))
    found = cold_start.run(run.world())
    assert (found.outcome, found.pods) == ("PASS", ())
    assert "serves already" in found.reasons[0]
    assert store.read_text(f"sim/{RELEASE.id}/cold-start.json") is None, "what was measured is not lost"


def test_the_facts_stay_small_and_the_evidence_whole(api: KubeApi, run: Run, store: Store) -> None:
    run.cluster = dataclasses.replace(run.cluster, node_images=NODE_IMAGES)
    run.connect.logs = NodeLogs(
        project="p", credentials=AnonymousCredentials(), endpoint="http://127.0.0.1:1"
    )
    for n in range(40):
        pod(api, f"sim-0123456789-5d9c7b8f6d-{n:05d}", events=False, log=False)
    found = cold_start.run(run.world())
    assert len(json.dumps(strict.encode(found))) < 10_000
    assert len(kept(store).pods) == 40


class Clock:
    """Time that passes while somebody sleeps."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return 1000 + sum(self.slept)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    held = Clock()
    monkeypatch.setattr(cold_start, "time", held)
    return held


NODE_IMAGES = NodeImages(mode="autopilot", zone="us-central1-a", subnetwork="regions/r/subnetworks/s")
DISK = bootdisk.Names(DIGEST).image
LINE = f"Image registry.example/engine@{DIGEST} is backed by secondary boot disk caching by %s layers)"


class Said:
    """Cloud Logging with one line of the node of pod a."""

    def __init__(self) -> None:
        self.line = LINE % "100.0% (4/4"
        self.status = 200
        self.late = 0
        """Reads until the line is there."""
        self.asked: list[Any] = []

    def __call__(self, request: Request) -> Response:
        self.asked.append(json.loads(request.body))
        if len(self.asked) <= self.late:
            return as_json({})
        labels = {"node_name": "node-of-a"}
        return as_json({"entries": [{"resource": {"labels": labels}, "textPayload": self.line}]}, self.status)


@pytest.fixture
def said(run: Run) -> Iterator[Said]:
    """The cluster has secondary boot disks, and its nodes' logs can be read."""
    held = Said()
    server = Server(("127.0.0.1", 0), held)
    server.start()
    run.cluster = dataclasses.replace(run.cluster, node_images=NODE_IMAGES)
    run.connect.logs = NodeLogs(project="p", credentials=AnonymousCredentials(), endpoint=server.url)
    yield held
    server.stop()


def node(api: KubeApi, pod: str, **labels: str) -> None:
    """The pod's, which has the engine's disk by the label that GKE gives it."""
    image = {bootdisk.NODE_LABEL + bootdisk.Names(DIGEST).image: "CONTAINER_IMAGE_CACHE.demo"}
    api.put("v1", "Node", f"node-of-{pod}", metadata={"labels": labels or image})


def test_a_boot_disk_that_was_used_is_told_per_pod(api: KubeApi, run: Run, store: Store, said: Said) -> None:
    pod(api, "a")
    pod(api, "b")
    node(api, "b")
    found = cold_start.run(run.world())
    assert found.outcome == "PASS"
    assert "a: image: 4 of 4 layers were on the boot disk, the pull took 2.2 s." in found.reasons
    assert f"b: image: the pull took 2.2 s, the node's labels say that it has disk {DISK}." in found.reasons
    assert [p.image.value for p in kept(store).pods if p.image] == ["PASS", "PASS"]
    assert 'timestamp>="2026-11-21T15:07:19Z"' in said.asked[0]["filter"]
    assert '("node-of-a" OR "node-of-b")' in said.asked[0]["filter"]


def test_a_disk_that_lacks_layers_is_a_warning_unless_the_spec_makes_it_a_failure(
    api: KubeApi, run: Run, said: Said
) -> None:
    pod(api, "a")
    said.line = LINE % "75.0% (3/4"
    found = cold_start.run(run.world())
    assert found.outcome == "WARN"
    assert (
        found.reasons[0] == "a: image: 3 of 4 layers were on the boot disk (75.0 %), the others were pulled."
    )
    run.gate(image_cache="fail")
    with pytest.raises(Refused, match="3 of 4 layers"):
        cold_start.run(run.world())


def test_a_pull_over_its_budget_is_no_boot_disk(api: KubeApi, run: Run, said: Said) -> None:
    pod(api, "a")
    run.gate(image_pull=Seconds(2), image_cache="fail")
    with pytest.raises(Refused, match=r"the pull took 2.2 s, at most 2.0 s wanted"):
        cold_start.run(run.world())


def test_node_logs_that_may_not_be_read_are_not_told_and_no_failure(
    api: KubeApi, run: Run, said: Said, clock: Clock
) -> None:
    pod(api, "a")
    said.status = 403
    run.gate(image_cache="fail")
    found = cold_start.run(run.world())
    assert found.outcome == "WARN"
    assert found.reasons[0].startswith("a: image: the pull took 2.2 s, which proves no secondary boot disk")
    assert any("the snapshotter's word is not told: Cloud Logging answered 403" in line for line in run.log)
    assert clock.slept == []
    node(api, "a")
    assert cold_start.run(run.world()).outcome == "PASS"


def test_a_node_of_our_own_pools_tells_its_disk_by_our_label(api: KubeApi, run: Run, said: Said) -> None:
    pod(api, "b")
    node(api, "b", **{nodeplace.IMAGE: DISK})
    assert cold_start.run(run.world()).outcome == "PASS"


@pytest.mark.parametrize("status", [403, 404])
def test_nodes_that_may_not_be_read_or_are_gone_are_not_told_and_no_failure(
    api: KubeApi, run: Run, said: Said, status: int
) -> None:
    pod(api, "b")
    node(api, "b")
    api.fault = lambda request: status if request.path == "/api/v1/nodes/node-of-b" else 0
    run.gate(image_cache="fail")
    found = cold_start.run(run.world())
    assert found.outcome == "WARN"
    assert found.reasons[0].endswith("missing are the snapshotter's line about it and the node's labels.")
    assert any(line.startswith("the labels of node node-of-b are not told") for line in run.log)


@pytest.mark.parametrize(("status", "kind"), [(503, Transient), (401, Permanent)])
def test_an_api_server_that_tells_no_nodes_for_another_reason_is_told_as_ever(
    api: KubeApi, run: Run, said: Said, status: int, kind: type[ReleaseError]
) -> None:
    pod(api, "a")
    api.fault = lambda request: status if request.path == "/api/v1/nodes/node-of-a" else 0
    with pytest.raises(kind, match="read Node node-of-a"):
        cold_start.run(run.world())


@pytest.mark.parametrize(
    ("late", "outcome", "slept"), [(0, "PASS", 0), (2, "PASS", 6), (5, "PASS", 15), (6, "WARN", 15)]
)
def test_a_line_that_comes_late_is_waited_for(
    api: KubeApi, run: Run, said: Said, clock: Clock, late: int, outcome: str, slept: float
) -> None:
    pod(api, "a")
    said.late = late
    assert cold_start.run(run.world()).outcome == outcome
    assert sum(clock.slept) == slept


def test_the_line_that_comes_late_can_refuse_what_labels_would_let_pass(
    api: KubeApi, run: Run, said: Said
) -> None:
    pod(api, "a")
    node(api, "a")
    said.late, said.line = 1, LINE % "75.0% (3/4"
    assert cold_start.run(run.world()).outcome == "WARN"


def test_nothing_is_waited_for_where_nothing_was_pulled(
    api: KubeApi, run: Run, said: Said, clock: Clock
) -> None:
    pod(api, "a", events=False)
    said.late = 9
    cold_start.run(run.world())
    assert clock.slept == []


def test_a_cluster_without_boot_disks_asks_no_node(api: KubeApi, run: Run, store: Store) -> None:
    pod(api, "a")
    run.gate(image_pull=Seconds(0.1), image_cache="fail")
    assert cold_start.run(run.world()).outcome == "PASS"
    assert kept(store).pods[0].image is None


def test_the_record_of_a_refused_release_holds_its_cold_start(api: KubeApi, run: Run, store: Store) -> None:
    pod(api, "a")
    run.gate(budget=Seconds(1))
    with pytest.raises(Refused) as refused:
        cold_start.run(run.world())
    e = refused.value
    # As the operator leaves them (operators/step.py).
    failure = {"cause": e.cause, "next": e.next_action, "refused": True}
    left = {"roll_out.cold_start": {"facts": strict.encode(e.facts), "failure": failure}}
    assert record.run(run.world(), steps=left).outcome == "refused"
    found = store.read_text(f"sim/{RELEASE.id}/record.json")
    assert found is not None
    document = json.loads(found[0])
    assert document["reason"].startswith("Refused (FAIL): cold start: 15 s, at most 1 s wanted")
    facts = document["steps"]["roll_out.cold_start"]["facts"]
    assert facts["pods"][0]["phases"]["image"] == 2
    assert facts["outcome"] == "FAIL"
