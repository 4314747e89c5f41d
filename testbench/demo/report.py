"""What a person sees of the demo: short lines while it runs, a table at its end, and the same facts as JSON."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TextIO

from testbench.demo import starts
from testbench.demo.judge import Finding
from testbench.demo.starts import Start

GROUPS = ("open", "stage", "roll_out", "gate", "decide", "promote", "close")
_GREEN, _RED, _DIM, _BOLD, _OFF = "\033[32m", "\033[31m", "\033[2m", "\033[1m", "\033[0m"


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """One run of the pipeline, as the table tells it."""

    name: str
    revision: str
    commit: str
    id: str
    run_id: str
    state: str
    outcome: str
    verdict: str
    reason: str
    seconds: float
    """From the trigger to the end of the run."""
    phases: Mapping[str, float]
    """Seconds by task group, from its first start to its last end."""
    page: str
    record: str


@dataclass(slots=True)
class Report:
    """Writes to a terminal as the story goes, and remembers what it wrote."""

    out: TextIO = field(default_factory=lambda: sys.stdout)
    findings: list[tuple[str, Finding]] = field(default_factory=list)
    releases: list[Release] = field(default_factory=list)
    starts: dict[str, Start] = field(default_factory=dict)
    """By name of the release."""
    links: dict[str, str] = field(default_factory=dict)
    facts: dict[str, object] = field(default_factory=dict)
    _chapter: str = ""
    _started: float = field(default_factory=time.monotonic)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    @property
    def held(self) -> bool:
        """Whether every claim held; no claim at all is no success."""
        return bool(self.findings) and all(f.holds for _, f in self.findings)

    def chapter(self, title: str) -> None:
        self._chapter = title
        self._print(f"\n{self._paint(_BOLD, title)}")

    def say(self, line: str) -> None:
        self._print(f"{self.seconds:7.1f} s  {line}")

    def check(self, claim: str, saw: object, holds: bool) -> None:
        self.add(Finding(claim, str(saw), holds))

    def add(self, *findings: Finding) -> None:
        for finding in findings:
            self.findings.append((self._chapter, finding))
            mark = self._paint(_GREEN, "held  ") if finding.holds else self._paint(_RED, "BROKEN")
            self._print(f"{self.seconds:7.1f} s  {mark} {finding.claim}")
            self._print(f"{'':18}{self._paint(_DIM, finding.saw)}")

    def close(self) -> None:
        """The table, the links and the last word."""
        self._print(f"\n{self._paint(_BOLD, 'Releases')} (seconds)")
        for line in _table(self.releases):
            self._print("  " + line)
        for release in self.releases:
            self._print(f"  {release.name}: {release.reason}")
        if self.starts:
            self._print(f"\n{self._paint(_BOLD, 'Cold starts')} (seconds, the slowest pod of each release)")
            for line in _lined_up(starts.rows(self.starts), left=1):
                self._print("  " + line)
        self._print(f"\n{self._paint(_BOLD, 'To look at')}")
        width = max((len(name) for name in self.links), default=0)
        for name, link in self.links.items():
            self._print(f"  {name:<{width}}  {link}")
        broken = sum(not f.holds for _, f in self.findings)
        word = f"{len(self.findings) - broken} of {len(self.findings)} claims held in {self.seconds:.0f} s"
        self._print(f"\n{self._paint(_GREEN if self.held else _RED, word)}")

    def save(self, file: Path) -> None:
        """Whole or not at all."""
        document = {
            "held": self.held,
            "seconds": round(self.seconds, 1),
            "findings": [{"chapter": chapter, **asdict(f)} for chapter, f in self.findings],
            "releases": [asdict(r) for r in self.releases],
            "cold_starts": {name: asdict(s) for name, s in self.starts.items()},
            "links": self.links,
            **self.facts,
        }
        draft = file.with_suffix(".new")
        draft.write_text(json.dumps(document, indent=1) + "\n")
        draft.replace(file)

    def _print(self, line: str) -> None:
        with self._lock:
            print(line, file=self.out, flush=True)

    def _paint(self, colour: str, text: str) -> str:
        return f"{colour}{text}{_OFF}" if self.out.isatty() else text


def _table(releases: Sequence[Release]) -> list[str]:
    heads = ("release", "model", "outcome", "verdict", "total", *GROUPS)
    rows = [
        (
            r.name,
            f"{r.revision} {r.commit[:8]}",
            r.outcome,
            r.verdict,
            f"{r.seconds:.1f}",
            *(f"{r.phases[g]:.1f}" if g in r.phases else "-" for g in GROUPS),
        )
        for r in releases
    ]
    return _lined_up([heads, *rows], left=4)


def _lined_up(rows: Sequence[Sequence[str]], *, left: int) -> list[str]:
    """
    Args:
        left: that many columns begin at their left edge, the others end at their right one.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if n < left else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
