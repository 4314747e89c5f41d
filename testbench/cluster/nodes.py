"""The nodes that the bench has: one more, one less, while the others work.

A node is taken away as a scale-down does it: cordoned, emptied, its volumes detached, then its processes, its Node
object, its instance and its files.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

from testbench import config
from testbench.cluster import google, host, kube
from testbench.cluster.node import Node, until
from testbench.process import Processes

_PARTS = ("kubelet", "csi", "registrar", "metadata", "containerd", "bootdisk", "namespace")
_ATTACHMENTS = "/apis/storage.k8s.io/v1/volumeattachments"
_GRACE_S = 8.0


def indexes() -> list[int]:
    """Of the nodes that have files here, whether they run or not."""
    return sorted(int(f.name.rsplit("-", 1)[1]) for f in (config.BENCH / "nodes").glob("gpu-node-*"))


def remove(index: int, processes: Processes) -> None:
    """
    Raises:
        RuntimeError: its pods or volumes did not go; the node then stays, cordoned.
    """
    node = Node(index)
    path = f"/api/v1/nodes/{node.name}"
    kube.call("PATCH", path, {"spec": {"unschedulable": True}}, kind="application/merge-patch+json")
    _empty(node)
    for part in _PARTS:
        processes.signal(node.process(part), signal.SIGTERM)
        processes.end(node.process(part), grace_s=_GRACE_S)
    kube.call("DELETE", path)
    google.remove_instance(node.name)
    forget(node)
    (config.BENCH / "node-roots" / node.name).unlink(missing_ok=True)
    host.quiet("ip", "link", "delete", node.bridge)


def power_off(index: int, processes: Processes) -> None:
    """As when the machine loses its power: nothing is asked to end, mounts and containers are gone, files stay.

    `Node(index).start(...)` switches it on again; its disks are still attached, as they are on Compute Engine.
    """
    node = Node(index)
    for part in _PARTS:
        processes.end(node.process(part), grace_s=0)
    _end_containers(node)
    shutil.rmtree(node.base / "state", ignore_errors=True)


def forget(node: Node) -> None:
    """What a node leaves once its processes have ended: containers, cgroups, files."""
    _end_containers(node)
    shutil.rmtree(node.base, ignore_errors=True)


def contained(node: Node) -> set[int]:
    """Pids of everything that runs in the node's containers."""
    files = Path("/sys/fs/cgroup").glob(f"*{node.cgroup}/**/cgroup.procs")
    return {int(pid) for file in files for pid in file.read_text().split()}


def _empty(node: Node) -> None:
    for pod in pods(node):
        meta = pod["metadata"]
        kube.call(
            "DELETE", f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}?gracePeriodSeconds=1"
        )
    until(lambda: not pods(node), 30, f"the pods of {node.name} to end")
    until(lambda: not _attachments(node), 30, f"the volumes of {node.name} to be detached")


def pods(node: Node) -> list[dict[str, Any]]:
    """Everything that is bound to the node."""
    found = kube.call("GET", f"/api/v1/pods?fieldSelector=spec.nodeName%3D{node.name}") or {}
    return list(found.get("items", []))


def _attachments(node: Node) -> list[dict[str, Any]]:
    found = kube.call("GET", _ATTACHMENTS) or {}
    return [a for a in found.get("items", []) if a["spec"]["nodeName"] == node.name]


def _end_shims(node: Node) -> None:
    """Shims outlive their containerd by design; those of the node's socket are ours."""
    socket = str(node.socket).encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"containerd-shim" in words[0] and socket in words:
            _kill(int(entry.name))


def _end_containers(node: Node) -> None:
    """The shims first: a container whose shim was killed still runs in the node's cgroups."""
    _end_shims(node)
    for pid in contained(node):
        _kill(pid)
    time.sleep(0.2)
    node.remove_cgroups()


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
