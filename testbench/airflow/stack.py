"""Brings the bench's Airflow up and down.

`up` is safe after a crash and when everything runs already; `down` ends exactly what was started here.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from testbench import config
from testbench.airflow import credentials, postgres
from testbench.airflow.settings import COMPONENTS, PATHS, URL, Paths, environment
from testbench.build import debian
from testbench.process import Processes

FAST_TRIGGERER = Path(__file__).with_name("fast_triggerer.py")
_HEALTHY_WITHIN_S = 120
_MIGRATE_WITHIN_S = 180
_TERM_GRACE_S = 20
"""The stock triggerer takes up to 13 s; a scheduler ended right after its start may hang for good."""
_PARTS = ("metadatabase", "scheduler", "triggerer", "dag_processor")

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Status:
    """What runs; `health` is Airflow's own word per part, empty when the API server does not answer."""

    processes: Mapping[str, bool]
    health: Mapping[str, str]

    @property
    def up(self) -> bool:
        return all(self.processes.values()) and _healthy(self.health)


def up(*, tick_s: float | None = None, say: Say = print) -> None:
    """Starts what does not run and waits until Airflow calls itself healthy.

    Args:
        tick_s: shortens the triggerer's fixed 1 s tick; for tests, whose waits are short.

    Raises:
        RuntimeError: a part did not start; the message names it and its log.
    """
    if status().up:
        say(f"airflow runs: {URL}")
        return
    processes = _processes()
    down(say=lambda _line: None)
    secrets = credentials.ensure(PATHS)
    env = environment(secrets)
    started = time.monotonic()
    debian.ensure()
    postgres.start(processes, PATHS, secrets)
    _migrate(PATHS, env, say)
    for name in COMPONENTS:
        processes.start(f"airflow-{name}", _command(name, tick_s), env=env, cwd=PATHS.home)
    _wait_healthy(processes)
    say(f"airflow is healthy after {time.monotonic() - started:.1f} s: {URL}")


def down(*, say: Say = print, purge: bool = False) -> None:
    """Ends Airflow and PostgreSQL, forgotten children of a killed component too.

    Args:
        purge: also forget every run, by removing the database, Airflow's home and the secrets.
    """
    processes = _processes()
    names = [f"airflow-{name}" for name in COMPONENTS]
    for name in names:
        processes.signal(name, signal.SIGTERM)
    for name in names:
        if not processes.end(name, grace_s=_TERM_GRACE_S):
            say(f"{name} did not end by itself and was killed")
    postgres.stop(processes)
    if purge:
        shutil.rmtree(PATHS.base, ignore_errors=True)
    say("airflow is down")


def restart(name: str, *, kill: bool = False) -> None:
    """Ends one component (by SIGKILL of all its processes where asked for) and starts it again as it was."""
    tick_s = tick() if name == "triggerer" else None
    _restart(name, kill=kill, tick_s=tick_s)


def tick() -> float | None:
    """Seconds of the running triggerer's tick, None for the stock one."""
    record = _processes().record("airflow-triggerer")
    command = Path(f"/proc/{record.pid}/cmdline") if record else None
    words = command.read_text().split("\0") if command and command.exists() else []
    shorter = next((i for i, word in enumerate(words) if word.endswith(FAST_TRIGGERER.name)), None)
    return None if shorter is None else float(words[shorter + 1])


def set_tick(tick_s: float | None) -> None:
    """Makes the running triggerer tick so: a person's Airflow has the stock tick, and so must every measurement."""
    if tick() != tick_s:
        _restart("triggerer", kill=False, tick_s=tick_s)


def _restart(name: str, *, kill: bool, tick_s: float | None) -> None:
    processes = _processes()
    label = f"airflow-{name}"
    if not kill:
        processes.signal(label, signal.SIGTERM)
    processes.end(label, grace_s=0 if kill else _TERM_GRACE_S)
    env = environment(credentials.ensure(PATHS))
    processes.start(label, _command(name, tick_s), env=env, cwd=PATHS.home)
    _wait_healthy(processes)


def status() -> Status:
    processes = _processes()
    names = (postgres.NAME, *(f"airflow-{name}" for name in COMPONENTS))
    return Status({name: processes.running(name) for name in names}, _health())


def pids() -> dict[str, tuple[int, ...]]:
    """Every process of every component, by component."""
    processes = _processes()
    names = (postgres.NAME, *(f"airflow-{name}" for name in COMPONENTS))
    return {name: processes.pids(name) for name in names}


def _processes() -> Processes:
    return Processes(records=PATHS.records, logs=config.LOGS)


def _airflow() -> list[str]:
    return [sys.executable, "-m", "airflow"]


def _command(name: str, tick_s: float | None) -> list[str]:
    if name == "triggerer" and tick_s is not None:
        return [sys.executable, str(FAST_TRIGGERER), str(tick_s)]
    return [*_airflow(), name]


def _migrate(paths: Paths, env: Mapping[str, str], say: Say) -> None:
    """Skipped (3 s) when this database was already migrated by these very requirements."""
    paths.home.mkdir(parents=True, exist_ok=True)
    mark = paths.postgres / "migrated-by"
    wanted = hashlib.sha256((config.ROOT / "requirements.lock").read_bytes()).hexdigest()
    if mark.exists() and mark.read_text() == wanted:
        return
    log = config.LOGS / "airflow-migrate.log"
    say(f"airflow db migrate (about 5 s, log {log.relative_to(config.ROOT)})")
    with log.open("wb") as file:
        done = subprocess.run(
            [*_airflow(), "db", "migrate"],
            env=dict(env),
            cwd=paths.home,
            stdout=file,
            stderr=file,
            timeout=_MIGRATE_WITHIN_S,
            check=False,
        )
    if done.returncode:
        raise RuntimeError(f"airflow db migrate failed. Next: read {log}.")
    mark.write_text(wanted)


def _wait_healthy(processes: Processes) -> None:
    deadline = time.monotonic() + _HEALTHY_WITHIN_S
    health: Mapping[str, str] = {}
    while time.monotonic() < deadline:
        for name in COMPONENTS:
            if not processes.running(f"airflow-{name}"):
                log = processes.logs / f"airflow-{name}.log"
                raise RuntimeError(f"airflow {name} ended at its start. Next: read {log}.")
        health = _health()
        if _healthy(health):
            return
        time.sleep(0.2)
    raise RuntimeError(
        f"airflow is not healthy after {_HEALTHY_WITHIN_S} s: {dict(health)}. Next: read {processes.logs}."
    )


def _healthy(health: Mapping[str, str]) -> bool:
    return all(health.get(part) == "healthy" for part in _PARTS)


def _health() -> dict[str, str]:
    try:
        with urllib.request.urlopen(f"{URL}/api/v2/monitor/health", timeout=3) as answer:
            document = json.load(answer)
    except (urllib.error.URLError, OSError, ValueError):
        return {}
    return {part: str((document.get(part) or {}).get("status")) for part in _PARTS}
