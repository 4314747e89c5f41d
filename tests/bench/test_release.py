"""A release on the real cluster, step by step: what it makes, what it leaves, what it never touches."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from llm_release.clients.kube_objects import Ref
from llm_release.clients.kubernetes import Kubernetes
from llm_release.core.errors import Conflict, Permanent
from llm_release.hooks.cluster import ClusterHook
from llm_release.steps.world import Skipped
from tests.bench.conftest import NAMESPACE, Kept, writes
from tests.bench.runner import Run
from tests.bench.tools import kubectl, until

Start = Callable[..., Run]
pytestmark = pytest.mark.timeout(300)


def record(connect: ClusterHook, run: Run) -> dict[str, Any]:
    found = connect.store().read_text(f"{run.spec.service}/{run.world().release.id}/record.json")
    assert found is not None
    document: dict[str, Any] = json.loads(found[0])
    return document


def test_a_first_release_serves_from_a_sealed_read_only_disk(
    kept: Kept, kube: Kubernetes, connect: ClusterHook
) -> None:
    run = kept.live("v1")
    document = record(connect, run)
    assert document["outcome"] == "live"
    assert {"commit", "image", "listing"} <= set(document["release"])
    (started,) = document["steps"]["roll_out.cold_start"]["facts"]["pods"]
    assert started["attributed"] >= 0.95

    world = run.world()
    pv = kube.get(Ref("v1", "PersistentVolume", world.names.pv))
    assert pv is not None
    assert pv["spec"]["accessModes"] == ["ReadOnlyMany"]
    assert pv["spec"]["csi"]["readOnly"] is True
    assert pv["spec"]["persistentVolumeReclaimPolicy"] == "Retain"
    assert pv["status"]["phase"] == "Bound"
    disk = connect.disks().get(world.release.zone, world.names.disk)
    assert disk is not None
    assert (disk.access_mode, disk.id) == ("READ_ONLY_MANY", document["steps"]["stage.disk"]["facts"]["id"])
    assert kube.get(Ref("v1", "PersistentVolume", world.names.staging_pv)) is None

    left = kube.list("batch/v1", "Job", NAMESPACE, f"llm-release/service={kept.service}")
    assert [j["metadata"]["name"] for j in left if "deletionTimestamp" not in j["metadata"]] == []


def test_the_same_release_again_writes_nothing_anywhere(kept: Kept) -> None:
    kept.live("v1")
    since = time.time()
    again = kept.start("v1", holder="again")
    again.until("open.plan")
    with pytest.raises(Skipped, match="already live: nothing was written"):
        again.step("open.lock")
    mine = [w for w in writes(since) if kept.service in w["path"]]
    assert mine == []


def test_garbage_is_refused_and_the_live_release_was_never_touched(
    kept: Kept, kube: Kubernetes, connect: ClusterHook
) -> None:
    first = kept.live("v1")
    before = kube.get(Ref("apps/v1", "Deployment", first.world().names.deployment, NAMESPACE))
    serving = set(kube.endpoints(NAMESPACE, kept.service))

    bad = kept.start("garbage", holder="bad")
    with pytest.raises(Permanent, match=r"Refused \(FAIL\): smoke: 5 of 5 answers are wrong"):
        bad.everything()

    assert "gate.load" not in bad.facts
    document = record(connect, bad)
    assert document["outcome"] == "refused"
    assert str(document["reason"]).startswith("Refused (FAIL): smoke")
    assert kube.deployment(NAMESPACE, bad.world().names.deployment) is None
    assert kube.pods(NAMESPACE, f"llm-release/release={bad.world().release.id}") == ()
    after = kube.get(Ref("apps/v1", "Deployment", first.world().names.deployment, NAMESPACE))
    assert before is not None
    assert after is not None
    assert before["spec"] == after["spec"]
    assert set(kube.endpoints(NAMESPACE, kept.service)) == serving != set()


def test_a_new_release_gets_as_many_pods_as_the_live_one_before_traffic_moves(
    kept: Kept, kube: Kubernetes
) -> None:
    first = kept.live("v1")
    old = first.world().names.deployment
    kube.scale(NAMESPACE, old, 2)
    until(lambda: (d := kube.deployment(NAMESPACE, old)) is not None and d.ready == 2)

    second = kept.start("v2", holder="two")
    second.everything()

    switched = second.facts["promote.switch"]["facts"]
    assert switched["replicas"] == 2
    assert switched["previous"] == first.world().release.id
    assert set(kube.endpoints(NAMESPACE, kept.service)) == set(switched["pods"])
    retired = kube.deployment(NAMESPACE, old)
    assert retired is not None
    assert (retired.replicas, retired.total) == (0, 0)
    assert kube.get(Ref("v1", "PersistentVolume", first.world().names.pv)) is not None


def test_a_refused_retry_of_the_previous_release_keeps_it_restorable(kept: Kept, kube: Kubernetes) -> None:
    kept.live("v2", after="v1")
    back = kept.start("v1", holder="back")
    back.until("roll_out.deploy")
    back.close()
    previous = kube.deployment(NAMESPACE, back.world().names.deployment)
    assert previous is not None
    assert (previous.replicas, previous.total) == (0, 0)


def test_a_promotion_that_broke_off_after_the_switch_is_finished_by_the_next_trigger(
    kept: Kept, kube: Kubernetes
) -> None:
    old = kept.live("v2", after="v1").world().names.deployment
    broken = kept.start("v1", holder="broken")
    broken.until("promote.switch")
    broken.close()
    left = kube.deployment(NAMESPACE, old)
    assert left is not None
    assert left.replicas == 1, "nobody drained it"
    now = kube.deployment(NAMESPACE, broken.world().names.deployment)

    again = kept.start("v1", holder="again")
    assert again.everything()["outcome"] == "live"
    assert again.facts["open.plan"]["facts"]["repairs"] is True
    assert any("skipped gate.load: the release serves already" in line for line in again.log)
    drained = kube.deployment(NAMESPACE, old)
    assert drained is not None
    assert drained.replicas == 0
    after = kube.deployment(NAMESPACE, broken.world().names.deployment)
    assert now is not None
    assert after is not None
    assert now.generation == after.generation, "the serving Deployment was not touched"
    assert kept.start("v1", holder="third").until("open.plan").nothing_to_do


def test_a_second_run_is_refused_while_one_works_and_names_it(start: Start) -> None:
    one = start("v1", holder="one")
    one.until("open.lock")
    two = start("v1", holder="two")
    two.until("open.plan")
    with pytest.raises(Conflict, match=rf"release__{one.spec.service}/one is working on this service"):
        two.step("open.lock")


def test_the_lease_of_a_run_that_ended_without_giving_it_back_is_taken_over(start: Start) -> None:
    start("v1", holder="dead").until("open.lock")
    heir = start("v1", holder="heir")
    heir.run_is_over = lambda holder: holder.endswith("/dead")
    assert heir.until("open.lock").fence == 2
    assert any("whose run is over" in line for line in heir.log)


def test_a_step_of_a_run_that_lost_its_lease_changes_nothing(start: Start, connect: ClusterHook) -> None:
    one = start("v1", holder="one")
    one.until("stage.access")
    thief = start("v1", holder="thief")
    thief.run_is_over = lambda holder: True
    thief.until("open.lock")
    with pytest.raises(Conflict, match=r"held by release__.*/thief, not by this run"):
        one.step("stage.disk")
    world = one.world()
    assert connect.disks().get(world.release.zone, world.names.disk) is None


def test_every_step_can_run_twice_and_makes_nothing_twice(start: Start, connect: ClusterHook) -> None:
    run = start("v1")
    run.until("roll_out.identify")
    since = time.time()
    for step in ("open.lock", "stage.access", "stage.disk", "stage.hydrate", "stage.seal", "stage.publish"):
        before = run.facts[step]["facts"]
        run.step(step)
        same = {k: v for k, v in before.items() if k not in ("fetched_bytes", "seconds")}
        assert {k: run.facts[step]["facts"][k] for k in same} == same, step
    assert [w for w in writes(since) if run.world().names.disk in w["path"]] == []


def test_a_step_that_outlives_the_close_of_its_run_changes_nothing(start: Start, kube: Kubernetes) -> None:
    run = start("v1")
    run.until("stage.publish")
    run.step("close.tidy")
    with pytest.raises(Conflict, match="#closing, not by this run"):
        run.step("roll_out.deploy")
    assert kube.deployment(NAMESPACE, run.world().names.deployment) is None


def test_a_selector_that_was_changed_by_hand_is_never_guessed_about(kept: Kept, kube: Kubernetes) -> None:
    first = kept.live("v1")
    second = kept.start("v2", holder="two")
    second.until("promote.switch")
    old, new = first.world().release.id, second.world().release.id
    _select(kept.service, old)
    try:
        with pytest.raises(Conflict, match=f"selects {old}, not {new} any more"):
            second.step("promote.drain")
        second.close()
        for release, revision in ((old, "v1"), (new, "v2")):
            third = kept.start(revision, holder=f"to-{revision}")
            with pytest.raises(Conflict, match=rf"selects release {old}, and is recorded to serve"):
                third.until("open.plan")
            serving = kube.deployment(NAMESPACE, f"{kept.service}-{release}")
            assert serving is not None
            assert serving.ready == 1, "neither the selected nor the recorded release loses a pod"
    finally:
        _select(kept.service, new)


def _select(service: str, release: str) -> None:
    change = json.dumps({"spec": {"selector": {"llm-release/release": release}}})
    kubectl("-n", NAMESPACE, "patch", "service", service, "--type=merge", "-p", change)
