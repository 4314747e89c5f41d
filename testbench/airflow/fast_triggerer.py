"""`airflow triggerer` with a shorter tick, for tests only.

A deferral costs three ticks of the trigger runner, and Airflow 3.3.2 fixes the tick at 1 s in
`TriggerRunner.arun`: a suite of short waits would spend minutes on them. A person's Airflow keeps the stock
tick, and so do the demo and the measurements. Usage: fast_triggerer.py <seconds>
"""

from __future__ import annotations

import inspect
import sys
from typing import Any

import anyio

TICK_S = float(sys.argv[1])
# Airflow's local settings look at the command line: it must read as the stock one before they are imported.
sys.argv[1:] = ["triggerer"]

import airflow.jobs.triggerer_job_runner as runner  # noqa: E402
from airflow.__main__ import main  # noqa: E402


class _ShortTick:
    """`anyio` with a ceiling on `move_on_after`, which the runner uses for its tick alone."""

    def __getattr__(self, name: str) -> Any:
        return getattr(anyio, name)

    def move_on_after(self, delay: float | None, **options: Any) -> anyio.CancelScope:
        return anyio.move_on_after(TICK_S if delay is None else min(delay, TICK_S), **options)


if runner.anyio is not anyio or "move_on_after(1)" not in inspect.getsource(runner.TriggerRunner.arun):
    sys.exit("this Airflow's trigger runner ticks in another way: start the stock triggerer instead")
runner.anyio = _ShortTick()
main()
