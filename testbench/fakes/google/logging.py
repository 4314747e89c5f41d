"""Cloud Logging v2: entries:list of one log, gcfs-snapshotter, filled by what the nodes' snapshotters really said.

A filter is understood as far as a release writes it: logName, timestamp>=, resource.labels.node_name=(... OR ...) and
quoted words; any other condition is a 400 and not a wrong answer. An entry is there as soon as it was written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from testbench.fakes.google import errors
from testbench.fakes.google.calls import Call, Endpoint
from testbench.fakes.google.messages import Resource

LOG = "gcfs-snapshotter"
_SUFFIX = "-bootdisk.log"
_LINE = re.compile(r"(\d{4})/(\d\d)/(\d\d) ([\d:]{8}(?:\.\d+)?) (.*)")
_NODES = re.compile(r"resource\.labels\.node_name=\((.*)\)")


def entries(call: Call) -> Resource:
    try:
        asked = call.request.json()
    except ValueError as e:
        raise errors.ApiError(400, "badRequest", f"Invalid JSON payload received. {e}") from e
    settings = call.cloud.settings
    if asked.get("resourceNames") != [f"projects/{settings.project}"]:
        raise errors.ApiError(403, "forbidden", "Permission denied for all log views")
    found = [
        e for e in _all(settings.logs or settings.state / "logs") if _wanted(e, str(asked.get("filter", "")))
    ]
    latest_first = asked.get("orderBy") == "timestamp desc"
    found.sort(key=lambda e: _unix(str(e["timestamp"])), reverse=latest_first)
    size = int(asked.get("pageSize", 50))
    return {"entries": found[:size]} if found else {}


def _all(folder: Path) -> Iterator[Resource]:
    for file in sorted(folder.glob(f"*{_SUFFIX}")):
        node = file.name.removesuffix(_SUFFIX)
        for line in file.read_text(errors="replace").splitlines():
            if found := _LINE.fullmatch(line):
                year, month, day, clock, message = found.groups()
                at = datetime.fromisoformat(f"{year}-{month}-{day}T{clock}").astimezone()
                yield {
                    "logName": LOG,
                    "resource": {"type": "k8s_node", "labels": {"node_name": node}},
                    "timestamp": at.isoformat(),
                    "jsonPayload": {"MESSAGE": message},
                }


def _wanted(entry: Resource, conditions: str) -> bool:
    return all(_holds(entry, c.strip()) for c in conditions.split(" AND ") if c.strip())


def _holds(entry: Resource, condition: str) -> bool:
    if condition.startswith("logName="):
        return condition.strip('"').endswith(f"/logs/{LOG}")
    if condition.startswith("timestamp>="):
        return _unix(str(entry["timestamp"])) >= _unix(condition.partition(">=")[2].strip('"'))
    if found := _NODES.fullmatch(condition):
        return f'"{entry["resource"]["labels"]["node_name"]}"' in found[1].split(" OR ")
    if condition.startswith('"') and condition.endswith('"'):
        return condition.strip('"') in entry["jsonPayload"]["MESSAGE"]
    raise errors.ApiError(400, "badRequest", f"Unparseable filter: {condition}")


def _unix(text: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError as e:
        raise errors.ApiError(400, "badRequest", f"Unparseable filter: {text}") from e


ENDPOINTS = (Endpoint("POST", "entries:list", entries, "logging.logEntries.list"),)
