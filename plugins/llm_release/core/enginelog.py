"""What engines say while they start: log lines that tell a moment of the cold start, version by version.

A new engine, or a version that words its lines anew, is a row here and a trace in the tests.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

Milestones = dict[str, tuple[float, str]]
"""Name -> Unix seconds, and who told it."""


@dataclass(frozen=True, slots=True)
class Line:
    """A log line that tells a milestone, and the engine's versions in whose log it was seen."""

    engine: str
    milestone: str
    pattern: re.Pattern[str]
    seen: str


LINES = tuple(
    Line(engine, milestone, re.compile(pattern), seen)
    for engine, milestone, pattern, seen in (
        ("vllm", "engine", r"[A-Z]{4,7} \d\d-\d\d \d\d:\d\d:\d\d \[?\w+\.py:\d+\]", "0.5 to 0.32"),
        ("vllm", "load", r"Starting to load model", "0.5 to 0.32, not 0.6 on CPU"),
        ("vllm", "load", r"checkpoint shards: +0% Completed", "0.6 to 0.32"),
        ("vllm", "loaded", r"checkpoint shards: 100% Completed", "0.6 to 0.32"),
        ("vllm", "loaded", r"Loading model weights took", "0.5 and 0.6, on GPU"),
        ("vllm", "loaded", r"Loading weights took", "0.8 to 0.32"),
        ("vllm", "loaded", r"Model loading took", "0.8 to 0.20, on GPU"),
        ("vllm", "inited", r"# \w+ blocks: \d+", "0.5 to 0.8, engine V0"),
        ("vllm", "inited", r"Graph capturing finished in", "0.5 to 0.11, on GPU"),
        ("vllm", "inited", r"init engine \(profile, .*\) took", "0.7 to 0.32"),
        ("vllm", "serving", r"Application startup complete", "0.6 to 0.32"),
        ("tgi", "engine", r"text_generation_launcher", "2.2 and 3"),
        ("tgi", "download", r"Starting check and download process", "2.2 and 3"),
        ("tgi", "downloaded", r"Successfully downloaded weights", "2.2 and 3"),
        ("tgi", "load", r"Starting shard", "2.2 and 3"),
        ("tgi", "loaded", r"Shard ready in", "2.2 and 3"),
        ("tgi", "inited", r"Setting max batch total tokens to", "2.2 and 3"),
        ("tgi", "serving", r"text_generation_router.*: Connected$", "2.2 and 3"),
        ("llm-sim", "up", r"^serving \S+ as \S+ on port \d+$", "v1, whose only line it is"),
    )
)
_FIRST_COUNTS = ("engine", "download", "load")
"""Of several such lines the first counts; of others the last, because ranks end at different times."""
LISTENS = ("serving", "up")

_ANSI = re.compile(r"\x1b\[[0-9;]*m")


def milestones(log: Iterable[str], *, since: float = 0.0) -> Milestones:
    """The milestones that a log tells, up to the line that says that the server listens.

    Args:
        log: lines as `kubectl logs --timestamps` prints them; one without a stamp is passed over.
        since: Unix seconds; earlier lines are of another start.
    """
    known: Milestones = {}
    for raw in log:
        stamp, _, text = raw.partition(" ")
        at = unix(stamp)
        if not at or at < since:
            continue
        text = _ANSI.sub("", text).rstrip()
        for line in LINES:
            wanted = line.milestone not in known or line.milestone not in _FIRST_COUNTS
            if wanted and (match := line.pattern.search(text)):
                words = "first line" if line.milestone == "engine" else match[0]
                known[line.milestone] = (at, f"{line.engine} log: {words}")
        if any(m in known for m in LISTENS):
            break
    return known


def unix(text: str) -> float:
    """RFC 3339 -> Unix seconds; 0 for what is no such stamp, as the head of a line without one."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return 0.0
    return at.timestamp() if at.tzinfo else 0.0
