"""The fake Cloud Logging tells what the nodes' snapshotters said, to the product's own client."""

from __future__ import annotations

import json

import pytest

from llm_release.clients.node_logs import NodeLogs
from llm_release.core.errors import Permanent
from tests.unit.fakes.google_apis import EMAIL, GoogleApis

LINE = "Image r/e@sha256:1 is backed by secondary boot disk caching by {} layers), by image streaming by 0.0%"


def said(google: GoogleApis, node: str, *lines: str) -> None:
    folder = google.folder / "state/logs"
    folder.mkdir(exist_ok=True)
    (folder / f"{node}-bootdisk.log").write_text("".join(f"{line}\n" for line in lines))


def read(google: GoogleApis, *, project: str = "demo") -> object:
    client = NodeLogs(project=project, credentials=google.plain, endpoint=google.url)
    return client.snapshotter(["gpu-node-1", "gpu-node-2"], since="2026-11-21T00:00:00Z")


def test_lines_of_the_nodes_asked_for_come_in_time(google: GoogleApis) -> None:
    whole, part = LINE.format("100.0% (3/3"), LINE.format("66.7% (2/3")
    said(
        google,
        "gpu-node-1",
        f"2026/11/19 10:00:00 {part}",
        "2026/11/22 17:05:38.000493 serving 3 layers",
        f"2026/11/22 17:05:40.5 {part}",
        f"2026/11/22 17:05:41 {whole}",
        "panic: a line of its own form",
    )
    said(google, "gpu-node-3", f"2026/11/22 17:05:41 {whole}")
    assert read(google) == {"gpu-node-1": (part, whole)}


def test_a_node_that_said_nothing_has_no_lines(google: GoogleApis) -> None:
    assert read(google) == {}


def test_without_the_permission_and_of_another_project_nothing_is_told(google: GoogleApis) -> None:
    with pytest.raises(Permanent, match="403: Permission denied for all log views"):
        read(google, project="other")
    (google.folder / "iam.json").write_text(json.dumps({EMAIL: ["compute.disks.get"]}))
    with pytest.raises(Permanent, match=r"403: Required 'logging.logEntries.list'"):
        read(google)


def test_a_filter_that_is_not_understood_is_refused(google: GoogleApis) -> None:
    said(google, "gpu-node-1", "2026/11/22 17:05:38 x")
    client = NodeLogs(project="demo", credentials=google.plain, endpoint=google.url)
    with pytest.raises(Permanent, match="400: Unparseable filter"):
        client.snapshotter(["gpu-node-1"], since="yesterday")
