"""What the whole stack costs while it stands: memory by part, disk by folder."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from pathlib import Path

from testbench import bench, config
from testbench.airflow import stack
from testbench.cluster import nodes
from testbench.cluster.node import Node

_MIB = 1024 * 1024


def memory() -> dict[str, float]:
    """MiB by part, as proportional set size: shared pages are counted once over all parts.

    Containers of the nodes (engine, gate Jobs) are a part of their own.
    """
    parts = {"airflow: " + name: _pss(pids) for name, pids in stack.pids().items()}
    names = sorted(p.stem for p in config.PIDS.glob("*.json"))
    groups: dict[str, set[int]] = {}
    for name in names:
        groups.setdefault(_group(name), set()).update(bench.PROCESSES.pids(name))
    contained = _contained()
    parts |= {"bench: " + name: _pss(pids - contained) for name, pids in sorted(groups.items())}
    return parts | {"containers": _pss(contained)}


def disk() -> dict[str, float]:
    """GiB by folder; files with several names are counted once over all of them."""
    folders = [*sorted(p for p in config.CACHE.iterdir() if p.is_dir()), config.BENCH]
    argv = ["du", "-sx", "--block-size=1M", *map(str, folders)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    sizes = (line.split("\t") for line in done.stdout.splitlines())
    return {_short(Path(name)): int(size) / 1024 for size, name in sizes}


def _group(name: str) -> str:
    """Parts that a reader tells apart: every node is one, whatever it is made of."""
    return "-".join(name.split("-")[:3]) if name.startswith("gpu-node") else name


def _contained() -> set[int]:
    return {pid for index in nodes.indexes() for pid in nodes.contained(Node(index))}


def _pss(pids: Iterable[int]) -> float:
    total = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue  # it ended meanwhile
        total += next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)
    return total / _MIB


def _short(folder: Path) -> str:
    return f"cache/{folder.name}" if folder.parent == config.CACHE else folder.name
