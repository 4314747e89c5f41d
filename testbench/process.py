"""Starts and ends the processes of the bench and of its Airflow, and only those.

Each process leads a session of its own; its pid and start time are written down before anything waits for
it. Ending means the whole session, so that nothing forked by a component that was killed outlives it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Record:
    """A started process; `ticks` is its start time in clock ticks since boot, so that a reused pid is not it."""

    pid: int
    ticks: int
    boot: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Processes:
    """Processes by name, with their records in one folder."""

    records: Path
    logs: Path

    def start(
        self, name: str, argv: Sequence[str], *, env: Mapping[str, str], cwd: Path, prefix: Sequence[str] = ()
    ) -> Record:
        """Starts `argv` unless it runs already; its output goes to `<logs>/<name>.log`."""
        running = self.record(name)
        if running is not None and _leads(running):
            return running
        self.records.mkdir(parents=True, exist_ok=True)
        self.logs.mkdir(parents=True, exist_ok=True)
        with (self.logs / f"{name}.log").open("ab") as log:
            child = subprocess.Popen(
                [*prefix, *argv],
                env=dict(env),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        record = Record(child.pid, _stat(child.pid)[1], _boot())
        draft = self.records / f"{name}.new"
        draft.write_text(json.dumps(asdict(record)))
        draft.replace(self.records / f"{name}.json")
        return record

    def record(self, name: str) -> Record | None:
        try:
            record = Record(**json.loads((self.records / f"{name}.json").read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None
        return record if record.boot == _boot() else None

    def running(self, name: str) -> bool:
        record = self.record(name)
        return record is not None and _leads(record)

    def pids(self, name: str) -> tuple[int, ...]:
        """Every process of the component, those forked by it too."""
        record = self.record(name)
        return () if record is None else _session(record)

    def signal(self, name: str, number: signal.Signals) -> None:
        """Sends a signal to the component's first process, if it runs."""
        record = self.record(name)
        if record is not None and _leads(record):
            os.kill(record.pid, number)

    def end(self, name: str, *, grace_s: float) -> bool:
        """Waits until the component is gone; after `grace_s` seconds kills what is left of it.

        Returns: whether it went by itself.
        """
        record = self.record(name)
        if record is None:
            (self.records / f"{name}.json").unlink(missing_ok=True)
            return True
        deadline = time.monotonic() + grace_s
        while _leads(record) and time.monotonic() < deadline:
            time.sleep(0.05)
        clean = not _leads(record)
        while members := _session(record):
            for pid in members:
                _kill(pid)
            time.sleep(0.05)
        (self.records / f"{name}.json").unlink(missing_ok=True)
        return clean


def _session(record: Record) -> tuple[int, ...]:
    """Processes of the session that `record` leads or led; a pid is not reused while its session lives."""
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        session, ticks = _stat(int(entry))
        if session == record.pid and ticks >= record.ticks:
            found.append(int(entry))
    leader = _stat(record.pid)[1]
    return tuple(found) if leader in (0, record.ticks) else ()


def _leads(record: Record) -> bool:
    return _stat(record.pid)[1] == record.ticks


def _stat(pid: int) -> tuple[int, int]:
    """(session id, start time in ticks) of a process; zeros when it is gone or waits only to be reaped."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0, 0
    if fields[0] == "Z":
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
        return 0, 0
    return int(fields[3]), int(fields[19])


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
