"""What Airflow's REST API says about a run, as values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

_ENDED = ("success", "failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A DAG run; times are the API's own clock."""

    dag_id: str
    run_id: str
    state: str
    conf: Mapping[str, Any]
    queued_at: datetime | None
    started: datetime | None
    ended: datetime | None

    @property
    def finished(self) -> bool:
        return self.state in _ENDED

    @property
    def seconds(self) -> float:
        """From the trigger to the end, as the person at the terminal waited; 0 while it runs."""
        since = self.queued_at or self.started
        return (self.ended - since).total_seconds() if self.ended and since else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One task instance at its latest try."""

    task_id: str
    map_index: int
    state: str
    tries: int
    started: datetime | None
    ended: datetime | None

    @property
    def group(self) -> str:
        return self.task_id.rpartition(".")[0]

    @property
    def seconds(self) -> float:
        return (self.ended - self.started).total_seconds() if self.started and self.ended else 0.0


def run_of(document: Mapping[str, Any]) -> Run:
    return Run(
        dag_id=document["dag_id"],
        run_id=document["dag_run_id"],
        state=document["state"],
        conf=document.get("conf") or {},
        queued_at=_time(document.get("queued_at")),
        started=_time(document.get("start_date")),
        ended=_time(document.get("end_date")),
    )


def task_of(document: Mapping[str, Any]) -> Task:
    return Task(
        task_id=document["task_id"],
        map_index=document["map_index"],
        state=document["state"] or "none",
        tries=document["try_number"],
        started=_time(document.get("start_date")),
        ended=_time(document.get("end_date")),
    )


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def line_of(message: Any) -> str:
    """One message of a task's log, with its fields."""
    if not isinstance(message, dict):
        return str(message)
    fields = " ".join(
        f"{k}={v if isinstance(v, str) else json.dumps(v)}"
        for k, v in message.items()
        if k not in ("event", "timestamp")
    )
    return f"{message.get('timestamp') or ''} {message.get('event')} {fields}".strip()
