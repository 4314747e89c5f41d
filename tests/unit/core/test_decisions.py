"""Small decisions: the lease, the plan, the size of a disk, the filling of a manifest."""

from __future__ import annotations

import pytest

from llm_release.core import lease, plan, template, volume
from llm_release.core.errors import Permanent
from llm_release.core.lease import DURATION_S, Lease
from llm_release.core.plan import Change, Live

HELD = Lease(holder="release__gemma/other", fence=3, renewed="t", version="7")


def decide(found: Lease | None, *, over: bool = False, unchanged: float = 0) -> str:
    return lease.decide(found, me="release__gemma/me", holder_is_over=over, unchanged_for=unchanged).act


def test_a_free_lease_is_taken_and_our_own_is_kept() -> None:
    assert decide(None) == "take"
    assert decide(Lease("", 3, "t", "7")) == "take"
    assert decide(Lease("release__gemma/me", 3, "t", "7")) == "keep"
    assert decide(Lease("release__gemma/me#closing", 3, "t", "7")) == "keep"


def test_a_living_holder_is_never_robbed_however_old_its_renewal() -> None:
    assert decide(HELD, unchanged=10_000) == "refuse"


def test_a_dead_holder_is_watched_before_it_is_taken_over() -> None:
    assert decide(HELD, over=True, unchanged=DURATION_S - 1) == "watch"
    assert decide(HELD, over=True, unchanged=DURATION_S) == "take"


def test_the_refusal_names_the_holder() -> None:
    found = lease.decide(HELD, me="x", holder_is_over=False, unchanged_for=0)
    assert "release__gemma/other" in found.message


LIVE = Live(release="r1", previous="r0", selected="r1", ready=2)


def make(release: str, live: Live) -> plan.Plan:
    return plan.make(
        release=release,
        live=live,
        stage=[Change("create", "Disk d")],
        promote=[Change("change", "Service s")],
    )


def test_a_release_that_is_live_and_ready_has_nothing_to_do() -> None:
    found = make("r1", LIVE)
    assert found.nothing_to_do
    assert not found.changes


@pytest.mark.parametrize(
    "live",
    [
        Live("r1", "", "r0", 2),
        Live("r1", "", "r1", 0),
        Live("r0", "", "r1", 2),
        Live(),
        Live("r1", "r0", "r1", 2, previous_replicas=2),
    ],
    ids=["selector elsewhere", "no ready pod", "annotation elsewhere", "nothing serves", "not drained"],
)
def test_anything_less_is_worked_on(live: Live) -> None:
    assert make("r1", live).changes


@pytest.mark.parametrize(
    ("live", "repairs"),
    [
        (Live("r1", "r0", "r1", 2, previous_replicas=2), True),
        (Live("r1", "r0", "r1", 0), True),
        (Live("r1", "r0", "r0", 2), False),
        (Live("r0", "", "r0", 2), False),
        (Live(), False),
    ],
)
def test_only_a_release_that_serves_is_repaired(live: Live, repairs: bool) -> None:
    found = make("r1", live)
    assert found.repairs is repairs
    assert ("what is left of its promotion is done" in found.text()) is repairs


def test_what_is_selected_or_recorded_serves() -> None:
    assert Live("r1", "r0", "r2").serves("r1")
    assert Live("r1", "r0", "r2").serves("r2")
    assert not Live("r1", "r0", "r2").serves("r0")


def test_the_plan_reads_as_a_list_of_acts() -> None:
    text = make("r2", LIVE).text()
    assert text.splitlines() == ["release r2, live now: r1", "  create  Disk d", "  change  Service s"]


@pytest.mark.parametrize(
    ("size", "gib"), [(0, 4), (4 << 30, 6), (18_490_000_000, 20), (140_000_000_000, 145)]
)
def test_a_disk_holds_the_files_and_the_file_system(size: int, gib: int) -> None:
    assert volume.size_gib(size) == gib
    assert volume.size_gib(size) * (1 << 30) >= size * 1.07


def test_a_throughput_that_no_disk_of_that_size_takes_is_refused() -> None:
    assert not volume.problem(1, 400)
    assert "400 to 6400 MiB/s" in volume.problem(1, 7000)
    assert "64 TiB" in volume.problem(70 << 40, 400) or "65536 GiB at most" in volume.problem(70 << 40, 400)


def fill(document: object, **values: object) -> object:
    return template.fill(document, values, source="pv.yaml")


def test_a_placeholder_alone_keeps_the_type_of_its_value() -> None:
    filled = fill({"n": "${N}", "m": "${M}", "t": "a-${N}-b"}, N=3, M={"x": "y"})
    assert filled == {"n": 3, "m": {"x": "y"}, "t": "a-3-b"}


def test_a_list_in_a_list_is_spliced() -> None:
    assert fill(["a", "${ARGS}", "b"], ARGS=["1", "2"]) == ["a", "1", "2", "b"]


def test_a_placeholder_without_a_value_names_the_manifest() -> None:
    with pytest.raises(Permanent, match=r"pv.yaml has a placeholder \$\{NAME\}"):
        fill({"a": ["${NAME}"]})


def test_text_that_looks_like_yaml_stays_text() -> None:
    assert fill({"a": "${X}"}, X="1: {evil: true}") == {"a": "1: {evil: true}"}
