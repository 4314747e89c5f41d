"""The plan tells what would be made for nodes with the boot disk, before anything is."""

from __future__ import annotations

import pytest

from llm_release.core.plan import Change
from llm_release.steps import nodes, plan
from tests.unit.support.bed import NAMES, Bed


def shown(changes: list[Change]) -> list[str]:
    return [f"{c.act} {c.what.partition(' llmr-')[0]}" for c in changes]


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("", []),
        ("autopilot", ["create Disk image"]),
        ("compute-class", ["create Disk image", "create ComputeClass"]),
        ("standard", ["create Disk image", "create Node pool"]),
    ],
)
def test_what_is_not_there_is_to_be_created(bed: Bed, mode: str, expected: list[str]) -> None:
    assert shown(plan.node_changes(bed.world(mode))) == expected


@pytest.mark.parametrize(("mode", "what"), [("compute-class", "ComputeClass"), ("standard", "Node pool")])
def test_what_is_there_is_kept(bed: Bed, mode: str, what: str) -> None:
    bed.allow("projects/demo/global/images/llmr-engine-.*")
    world = bed.world(mode)
    bed.until_done(nodes.run, world)
    planned = plan.node_changes(world)
    assert shown(planned) == ["create Disk image", f"keep {what}"]
    assert planned[0].what == f"Disk image {NAMES.image}"
