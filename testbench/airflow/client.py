"""Airflow's REST API as a person with a terminal uses it: log in, trigger, wait, look.

Typed facts out; no policy, and no other route into Airflow than the public API.
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from testbench.airflow.facts import Run, Task, line_of, run_of, task_of

_CALL_TIMEOUT_S = 30.0
_PAGE = 100


class ApiError(Exception):
    """The API refused a call; `status` is its HTTP code, 0 when it could not be reached."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


@dataclass(slots=True, kw_only=True)
class Airflow:
    """A logged-in user."""

    url: str
    user: str
    password: str = field(repr=False)
    _token: str | None = field(default=None, repr=False)

    def trigger(
        self, dag_id: str, conf: Mapping[str, Any] | None = None, *, run_id: str | None = None
    ) -> Run:
        """Starts a run now.

        Raises:
            ApiError: 404 unknown DAG, 400 a param breaks its schema, 403 not allowed, 409 run id taken.
        """
        body: dict[str, Any] = {"logical_date": None, "conf": dict(conf or {})}
        if run_id is not None:
            body["dag_run_id"] = run_id
        return run_of(self._call("POST", f"/api/v2/dags/{_quote(dag_id)}/dagRuns", body))

    def run(self, dag_id: str, run_id: str) -> Run:
        return run_of(self._call("GET", _run_path(dag_id, run_id)))

    def runs(self, dag_id: str) -> tuple[Run, ...]:
        """Every run of a DAG, oldest first."""
        pages = self._pages(f"/api/v2/dags/{_quote(dag_id)}/dagRuns?order_by=run_after", "dag_runs")
        return tuple(run_of(r) for r in pages)

    def wait(
        self,
        run: Run,
        *,
        timeout_s: float,
        every_s: float = 0.25,
        on_change: Callable[[Task], None] | None = None,
    ) -> Run:
        """Waits for a run's end.

        Args:
            on_change: called once for each new state of each task.

        Raises:
            TimeoutError: it did not end in time; the message names the tasks it was in.
        """
        deadline = time.monotonic() + timeout_s
        seen: dict[tuple[str, int], str] = {}
        while True:
            run = self.run(run.dag_id, run.run_id)
            if on_change is not None:
                for task in _changes(self.tasks(run), seen):
                    on_change(task)
            if run.finished:
                return run
            if time.monotonic() > deadline:
                busy = [f"{t.task_id} ({t.state})" for t in self.tasks(run) if t.state not in _SETTLED]
                raise TimeoutError(
                    f"{run.dag_id} {run.run_id} is {run.state} after {timeout_s:.0f} s in {', '.join(busy)}"
                )
            time.sleep(every_s)

    def tasks(self, run: Run) -> tuple[Task, ...]:
        """Task instances of a run in the order of their start; those that have not started come last."""
        path = f"{_run_path(run.dag_id, run.run_id)}/taskInstances?order_by=start_date"
        found = [task_of(t) for t in self._pages(path, "task_instances")]
        return tuple(sorted(found, key=lambda t: (t.started is None, t.started)))

    def xcom(self, run: Run, task_id: str, *, key: str = "return_value", map_index: int = -1) -> Any:
        """What a task returned, or None when it returned nothing."""
        path = f"{_task_path(run, task_id)}/xcomEntries/{_quote(key)}"
        try:
            return self._call("GET", f"{path}?map_index={map_index}&deserialize=true")["value"]
        except ApiError as e:
            if e.status == 404:
                return None
            raise

    def log(self, run: Run, task: Task, *, attempt: int | None = None) -> str:
        """The task's log as text, one message a line with its fields."""
        path = f"{_task_path(run, task.task_id)}/logs/{attempt or task.tries}"
        lines: list[str] = []
        options = {"map_index": str(task.map_index), "full_content": "true"}
        while True:
            page = self._call("GET", f"{path}?{urllib.parse.urlencode(options)}")
            lines += [line_of(message) for message in page["content"]]
            token = page.get("continuation_token") or ""
            if not token or not page["content"]:
                return "\n".join(lines)
            options["token"] = token

    def clear(self, run: Run, task_ids: Sequence[str], *, downstream: bool = True) -> None:
        """Sets tasks (and what comes after them) back, so that the run goes on from there."""
        body = {
            "dry_run": False,
            "dag_run_id": run.run_id,
            "task_ids": list(task_ids),
            "only_failed": False,
            "include_downstream": downstream,
            "reset_dag_runs": True,
        }
        self._call("POST", f"/api/v2/dags/{_quote(run.dag_id)}/clearTaskInstances", body)

    def mark(self, run: Run, state: str) -> Run:
        """Ends a run by hand as `success` or `failed`."""
        return run_of(self._call("PATCH", _run_path(run.dag_id, run.run_id), {"state": state}))

    def import_errors(self) -> dict[str, str]:
        """DAG files that could not be loaded, with the reason."""
        return {e["filename"]: e["stack_trace"] for e in self._pages("/api/v2/importErrors", "import_errors")}

    def dag_ids(self) -> tuple[str, ...]:
        return tuple(sorted(d["dag_id"] for d in self._pages("/api/v2/dags?order_by=dag_id", "dags")))

    def parse_seconds(self) -> dict[str, float]:
        """Seconds that the dag-processor took for the file of each DAG when it last loaded it."""
        found = self._pages("/api/v2/dags?order_by=dag_id", "dags")
        return {d["dag_id"]: float(d["last_parse_duration"] or 0) for d in found}

    def wait_for_dag(self, dag_id: str, *, timeout_s: float = 60) -> None:
        """Waits until the dag-processor has loaded a DAG.

        Raises:
            TimeoutError: it has not; the message holds the import errors, which usually are the cause.
        """
        deadline = time.monotonic() + timeout_s
        while dag_id not in self.dag_ids():
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"no DAG {dag_id} after {timeout_s:.0f} s. Import errors: {self.import_errors() or None}"
                )
            time.sleep(0.5)

    def run_url(self, run: Run) -> str:
        """The run's page in the UI."""
        return f"{self.url}/dags/{_quote(run.dag_id)}/runs/{_quote(run.run_id)}"

    def _pages(self, path: str, key: str) -> Iterator[Any]:
        offset = 0
        while True:
            page = self._call("GET", f"{path}{'&' if '?' in path else '?'}limit={_PAGE}&offset={offset}")
            yield from page[key]
            offset += len(page[key])
            if not page[key] or offset >= page["total_entries"]:
                return

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        if self._token is None:
            self._token = str(self._send("POST", "/auth/token", self._login(), None)["access_token"])
        try:
            return self._send(method, path, body, self._token)
        except ApiError as e:
            if e.status != 401:
                raise
            # The stack was started anew with other secrets, or the day's token is over.
            self._token = str(self._send("POST", "/auth/token", self._login(), None)["access_token"])
            return self._send(method, path, body, self._token)

    def _login(self) -> dict[str, str]:
        return {"username": self.user, "password": self.password}

    def _send(self, method: str, path: str, body: Mapping[str, Any] | None, token: str | None) -> Any:
        headers = {"accept": "application/json", "content-type": "application/json"}
        if token is not None:
            headers["authorization"] = f"Bearer {token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, method=method, data=data, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=_CALL_TIMEOUT_S) as answer:
                text = answer.read()
        except urllib.error.HTTPError as e:
            raise ApiError(e.code, f"{method} {path}: {e.read().decode(errors='replace')[:500]}") from None
        except OSError as e:
            raise ApiError(0, f"{method} {path}: {e}") from e
        return json.loads(text) if text else None


_SETTLED = ("success", "failed", "skipped", "upstream_failed", "removed", "none")


def _changes(tasks: Sequence[Task], seen: dict[tuple[str, int], str]) -> list[Task]:
    changed = [t for t in tasks if seen.get((t.task_id, t.map_index), "none") != t.state]
    seen.update({(t.task_id, t.map_index): t.state for t in changed})
    return changed


def _quote(part: str) -> str:
    return urllib.parse.quote(part, safe="")


def _run_path(dag_id: str, run_id: str) -> str:
    return f"/api/v2/dags/{_quote(dag_id)}/dagRuns/{_quote(run_id)}"


def _task_path(run: Run, task_id: str) -> str:
    return f"{_run_path(run.dag_id, run.run_id)}/taskInstances/{_quote(task_id)}"
