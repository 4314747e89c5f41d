"""The judge of the background client's record: each rule holds on a good record and breaks for its own reason."""

from __future__ import annotations

from dataclasses import replace

import pytest

from testbench.demo.client import Exchange
from testbench.demo.judge import Finding, Handover, handover, undisturbed

CHANGE = Handover(old="aaa", new="bbb", switched_at=100.0, drained_at=120.0)


def exchange(number: int, sent: float, *, slot: int | None = None, release: str = "") -> Exchange:
    return Exchange(
        number=number,
        sent=sent,
        ended=sent + 0.1,
        slot=slot,
        connection=number,
        release=release or ("aaa" if sent < CHANGE.switched_at else "bbb"),
        text="Tokyo.",
        error="",
        cut="",
    )


def good() -> list[Exchange]:
    """Pooled connections stay on the old release until the drain cuts them once; new ones move at the switch."""
    new = [exchange(2 * i, 90.0 + i) for i in range(50)]
    pooled = []
    for i in range(50):
        sent = 90.5 + i
        there = exchange(2 * i + 1, sent, slot=i % 3, release="aaa" if sent < 118 else "bbb")
        pooled.append(replace(there, cut="reset") if 118 <= sent < 121 else there)
    return new + pooled


def broken(findings: tuple[Finding, ...]) -> list[str]:
    return [f.claim for f in findings if not f.holds]


def changed(where: Exchange, **to: object) -> list[Exchange]:
    return [replace(e, **to) if e is where else e for e in RECORD]  # type: ignore[arg-type]


RECORD = good()
FIRST_NEW = RECORD[0]
LATE_NEW = RECORD[40]
EARLY_POOLED = RECORD[50]
CUT = next(e for e in RECORD if e.cut)
LATE_POOLED = RECORD[-1]


def test_a_clean_handover_holds() -> None:
    assert broken(handover(RECORD, CHANGE)) == []


@pytest.mark.parametrize(
    ("record", "claim"),
    [
        (changed(FIRST_NEW, error="ConnectionRefusedError"), "no request on a new connection fails"),
        (changed(LATE_NEW, error="TimeoutError"), "no request on a new connection fails"),
        (changed(CUT, error="Refused: 503"), "every request of the pool is answered"),
        (changed(EARLY_POOLED, cut="reset"), "a pooled connection is cut at most once"),
        (changed(LATE_POOLED, cut="closed"), "a pooled connection is cut at most once"),
        (changed(FIRST_NEW, release="bbb"), "before the switch every answer comes from aaa"),
        (changed(LATE_NEW, release="aaa"), "after the drain every answer comes from bbb"),
        (changed(LATE_POOLED, release="aaa"), "after the drain every answer comes from bbb"),
    ],
)
def test_each_rule_breaks_for_its_own_reason(record: list[Exchange], claim: str) -> None:
    found = broken(handover(record, CHANGE))
    assert any(f.startswith(claim) for f in found), found


def test_two_cuts_of_one_place_during_the_drain_are_one_too_many() -> None:
    again = next(e for e in RECORD if e.slot == CUT.slot and e.number > CUT.number)
    assert broken(handover(changed(again, cut="reset"), CHANGE)) == [
        "a pooled connection is cut at most once, by the drain"
    ]


@pytest.mark.parametrize("phase", [range(0, 10), range(10, 31), range(31, 50)])
def test_a_phase_without_requests_is_no_evidence(phase: range) -> None:
    left = [e for e in RECORD if e.slot is not None or e.number // 2 not in phase]
    assert broken(handover(left, CHANGE))[0].startswith("the client asked before, during and after")


def test_an_empty_record_proves_nothing() -> None:
    assert len(broken(handover([], CHANGE))) >= 4
    assert broken(undisturbed([], "bbb"))


def test_a_refused_release_must_go_unnoticed() -> None:
    calm = [e for e in RECORD if e.sent > 125]
    assert broken(undisturbed(calm, "bbb")) == []
    for spoiled in ({"error": "x"}, {"cut": "closed"}, {"release": "ccc"}):
        assert broken(undisturbed([replace(calm[0], **spoiled), *calm[1:]], "bbb"))
