"""How big and how fast a Hyperdisk ML for a model must be.

Limits: 4 GiB to 64 TiB; throughput from max(400, 0.12 x GiB) to 1,600 x GiB MiB/s (Compute's Hyperdisk
ML page; reference: gke.md C1).
"""

from __future__ import annotations

import math

GIB = 1 << 30
MIN_GIB, MAX_GIB = 4, 64 * 1024
HEADROOM = 1.1
"""ext4's own tables and the reserved blocks take about 7 %."""


def size_gib(total_bytes: int) -> int:
    """Smallest disk that holds the files with room for the file system, in GiB."""
    return max(MIN_GIB, math.ceil(total_bytes * HEADROOM / GIB) + 1)


def problem(total_bytes: int, throughput_mibps: int) -> str:
    """A sentence when no disk can be made like that, else empty."""
    size = size_gib(total_bytes)
    low, high = max(400, math.ceil(0.12 * size)), 1600 * size
    if size > MAX_GIB:
        return f"the files need {size} GiB; a Hyperdisk ML holds {MAX_GIB} GiB at most."
    if not low <= throughput_mibps <= high:
        return f"weights.throughput_mibps is {throughput_mibps}; a disk of {size} GiB takes {low} to {high} MiB/s."
    return ""
