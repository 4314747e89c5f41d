"""What nothing names any more goes; what somebody may still need stays, and it is said why."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from llm_release.core import nodeplace
from llm_release.core.clusterspec import NodePool
from llm_release.core.errors import Permanent
from llm_release.core.names import RELEASE
from llm_release.core.spec import Accelerator
from llm_release.steps import nodes, retire_nodes, tidy
from llm_release.steps.world import Skipped, World
from tests.unit.support.bed import Bed

MADE = ("standard", "compute-class")


def unneeded(bed: Bed, mode: str) -> str:
    """A pool or class of ours that nothing names. -> its name"""
    bed.allow("projects/demo/global/images/llmr-engine-.*")
    changed = (
        {"pool": NodePool(machine="g2-standard-12", max=1)}
        if mode == "standard"
        else {"accelerator": Accelerator(type="nvidia-l4", count=2)}
    )
    found = bed.until_done(nodes.run, bed.world(mode, **changed))
    return str(found.name)


def retired(bed: Bed, world: World) -> retire_nodes.Retired:
    found = bed.until_done(retire_nodes.run, world)
    assert isinstance(found, retire_nodes.Retired)
    return found


def there(bed: Bed, mode: str) -> set[str]:
    if mode == "standard":
        return {p.name for p in bed.run.connect.node_pools().list()} - {"default-pool"}
    return {name for plural, _, name in bed.api.objects if plural == "computeclasses"}


@pytest.mark.parametrize("mode", MADE)
def test_what_nothing_names_is_deleted(bed: Bed, mode: str) -> None:
    name = unneeded(bed, mode)
    assert there(bed, mode) == {name}
    assert retired(bed, bed.world(mode)).left == ()
    assert there(bed, mode) == set()
    assert f"deleting {name}: nothing names it" in bed.run.log


@pytest.mark.parametrize("mode", MADE)
def test_a_release_that_is_kept_at_zero_pods_keeps_its_nodes(bed: Bed, mode: str) -> None:
    name = unneeded(bed, mode)
    bed.deployment("sim-previous", {nodeplace.MADE[mode]: name})
    assert retired(bed, bed.world(mode)).left == ()
    assert there(bed, mode) == {name}


def affinity(key: str, value: str) -> dict[str, Any]:
    term = {"matchExpressions": [{"key": key, "operator": "In", "values": [value]}]}
    required = {"nodeSelectorTerms": [term]}
    return {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}}


@pytest.mark.parametrize("mode", MADE)
@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet"])
@pytest.mark.parametrize("asked", [lambda key, value: {"nodeSelector": {key: value}}, affinity])
def test_what_somebody_else_deploys_beside_us_keeps_its_nodes(
    bed: Bed, mode: str, kind: str, asked: Callable[[str, str], dict[str, Any]]
) -> None:
    name = unneeded(bed, mode)
    pod = asked(nodeplace.MADE[mode], name)
    bed.api.put("apps/v1", kind, "theirs", spec={"replicas": 0, "template": {"spec": pod}})
    assert retired(bed, bed.world(mode)).left == ()
    assert there(bed, mode) == {name}


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet"])
def test_what_is_being_deleted_keeps_no_nodes(bed: Bed, kind: str) -> None:
    name = unneeded(bed, "compute-class")
    ending = {"deletionTimestamp": "2026-11-21T16:00:00Z"}
    pod = {"nodeSelector": {nodeplace.CLASS: name}}
    bed.api.put("apps/v1", kind, "ours", metadata=ending, spec={"template": {"spec": pod}})
    retired(bed, bed.world("compute-class"))
    assert there(bed, "compute-class") == set()


@pytest.mark.parametrize(
    ("phase", "stays"), [("Running", True), ("Pending", True), ("Succeeded", False), ("Failed", False)]
)
def test_a_pod_that_has_not_finished_keeps_its_class(bed: Bed, phase: str, stays: bool) -> None:
    name = unneeded(bed, "compute-class")
    pod = {"nodeSelector": {nodeplace.CLASS: name}}
    bed.api.put("v1", "Pod", "theirs", spec=pod, status={"phase": phase})
    retired(bed, bed.world("compute-class"))
    assert there(bed, "compute-class") == ({name} if stays else set())


@pytest.mark.parametrize("mode", MADE)
def test_nothing_goes_when_it_may_not_be_asked_what_is_named(bed: Bed, mode: str) -> None:
    name = unneeded(bed, mode)
    bed.api.fault = lambda request: 403 if request.path.endswith("/statefulsets") else 0
    with pytest.raises(Permanent, match="not allowed to list StatefulSet in llm"):
        retire_nodes.run(bed.world(mode))
    bed.api.fault = lambda request: 0
    assert there(bed, mode) == {name}


@pytest.mark.parametrize("mode", MADE)
def test_the_release_that_serves_keeps_its_nodes(bed: Bed, mode: str) -> None:
    bed.allow("projects/demo/global/images/llmr-engine-.*")
    world = bed.world(mode)
    name = bed.until_done(nodes.run, world).name
    spec = {"selector": {RELEASE: world.release.id}}
    bed.api.put("v1", "Service", "sim", metadata={"annotations": {}}, spec=spec)
    retired(bed, world)
    assert there(bed, mode) == {name}


def test_a_class_of_somebody_else_stays_whatever_its_name(bed: Bed) -> None:
    bed.api.put("cloud.google.com/v1", "ComputeClass", "llmr-theirs")
    retired(bed, bed.world("compute-class"))
    assert there(bed, "compute-class") == {"llmr-theirs"}


@pytest.mark.parametrize("mode", MADE)
def test_nothing_goes_while_another_service_is_being_released(bed: Bed, mode: str) -> None:
    """Its candidate's Deployment, which would name them, may not be there yet."""
    name = unneeded(bed, mode)
    bed.lease("gemma", "release__gemma/two")
    assert retired(bed, bed.world(mode)).left == (name,)
    assert there(bed, mode) == {name}
    assert any("gemma is being released by release__gemma/two" in line for line in bed.run.log)


def test_a_pool_with_somebodys_pods_on_it_stays_and_its_nodes_are_not_cordoned(bed: Bed) -> None:
    name = unneeded(bed, "standard")
    bed.node("n1", {nodeplace.POOL: name})
    bed.pod("stranger", "n1")
    assert retired(bed, bed.world("standard")).left == (name,)
    assert "unschedulable" not in bed.api.objects["nodes", "", "n1"]["spec"]
    assert any("pods run on it: other/stranger" in line for line in bed.run.log)


def test_pods_that_end_with_their_node_do_not_keep_it(bed: Bed) -> None:
    name = unneeded(bed, "standard")
    bed.node("n1", {nodeplace.POOL: name})
    bed.pod("daemon", "n1", ownerReferences=[{"kind": "DaemonSet", "name": "d"}])
    bed.pod("mirror", "n1", annotations={"kubernetes.io/config.mirror": "x"})
    bed.pod("elsewhere", "n2")
    assert retired(bed, bed.world("standard")).left == ()
    assert there(bed, "standard") == set()
    assert bed.api.objects["nodes", "", "n1"]["spec"]["unschedulable"] is True


def test_a_failure_says_that_the_release_serves(bed: Bed) -> None:
    unneeded(bed, "standard")
    said = "Required 'container.clusters.update' permission"
    bed.google.control("POST", "faults", kind="api-error", code=403, message=said, match="DELETE", count=1)
    with pytest.raises(
        Permanent, match=r"release 0123456789 serves, and nodes that nothing needs are left"
    ) as e:
        retire_nodes.run(bed.world("standard"))
    assert e.value.next_action.startswith("nothing for the service, the next release tries again")


def test_autopilot_takes_its_nodes_away_by_itself(bed: Bed) -> None:
    with pytest.raises(Skipped):
        retire_nodes.run(bed.world("autopilot"))
    assert retire_nodes.remove(bed.world("autopilot")) == ()
    assert retire_nodes.remove(bed.world("")) == ()


@pytest.mark.parametrize("mode", MADE)
def test_tidying_takes_the_nodes_of_a_refused_candidate(bed: Bed, mode: str) -> None:
    bed.allow("projects/demo/global/images/llmr-engine-.*")
    world = bed.world(mode)
    selector = dict(bed.until_done(nodes.run, world).selector)
    bed.deployment(world.names.deployment, selector)
    bed.until_done(tidy.run, world)
    assert there(bed, mode) == set()
