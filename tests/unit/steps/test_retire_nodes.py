"""What no Deployment names any more goes; what somebody may still need stays, and it is said why."""

from __future__ import annotations

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
    assert f"deleting {name}: no Deployment names it" in bed.run.log


@pytest.mark.parametrize("mode", MADE)
def test_a_release_that_is_kept_at_zero_pods_keeps_its_nodes(bed: Bed, mode: str) -> None:
    name = unneeded(bed, mode)
    bed.deployment("sim-previous", {nodeplace.MADE[mode]: name})
    assert retired(bed, bed.world(mode)).left == ()
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
