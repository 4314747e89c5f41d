"""One look at what a step waits for. The operator looks inline for a short while, the trigger for long."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llm_release.core import bootdisk, readiness
from llm_release.core.errors import Permanent
from llm_release.core.readiness import Pod, Readiness
from llm_release.steps.world import Connect, Wait

if TYPE_CHECKING:
    from llm_release.clients.compute import Disks
    from llm_release.clients.kubernetes import Kubernetes
    from llm_release.clients.machines import Machines
    from llm_release.clients.node_pools import NodePools
    from llm_release.clients.operations import Operation

LOG_EVERY_S = 5.0
_KEPT = 4000
"""Characters of a machine's serial port that are kept from look to look."""


@dataclass(slots=True)
class Look:
    """Looks again and again at one wait; remembers what it saw so that progress is told once.

    It never raises for what it waits for: that is a `failed` readiness, and the step says what it means.
    """

    wait: Wait
    connect: Connect
    started: float = field(default_factory=time.time)
    """Unix time of the first look; a trigger that starts again keeps it."""
    _kube: Kubernetes | None = None
    _disks: Disks | None = None
    _homeless_since: float | None = None
    _said: str = ""
    _log_at: float = 0.0
    _machines: Machines | None = None
    _node_pools: NodePools | None = None
    _read_to: int = 0
    _printed: str = ""

    def once(self) -> Readiness:
        found = getattr(self, f"_{self.wait.kind}")()
        assert isinstance(found, Readiness)
        if found.state == "waiting" and time.time() - self.started > self.wait.within:
            return Readiness(
                "failed",
                f"waited {self.wait.within:.0f} s for {self.wait.what}; last seen: {found.message}",
                "look at what it says last; raise the deadline in the spec if it only needs longer.",
            )
        return found

    def news(self, found: Readiness) -> str:
        """What to log now; empty when nothing changed."""
        if self.wait.kind == "job" and (line := self._progress()):
            return line
        if found.message == self._said:
            return ""
        self._said = found.message
        return f"waiting for {self.wait.what}: {found.message}" if found.state == "waiting" else found.message

    def _job(self) -> Readiness:
        status = self.kube.job(self.wait.namespace, self.wait.name)
        pods = self.kube.job_pods(self.wait.namespace, self.wait.name)
        return readiness.job(
            status, pods, unschedulable_for=self._homeless(pods), patience=self.wait.patience
        )

    def _deployment(self) -> Readiness:
        found = self.kube.deployment(self.wait.namespace, self.wait.name)
        labels = dict(found.labels) if found else {}
        selector = ",".join(f"{k}={v}" for k, v in labels.items() if k.startswith("llm-release/"))
        pods = self.kube.pods(self.wait.namespace, f"{selector},llm-release/role=server") if found else ()
        pods = tuple(p for p in pods if not p.terminating)
        return readiness.rollout(
            found, pods, unschedulable_for=self._homeless(pods), patience=self.wait.patience
        )

    def _disk(self) -> Readiness:
        found = self.disks.get(self.wait.zone, self.wait.name)
        if found is None:
            return Readiness(
                "failed",
                f"disk {self.wait.name} is gone.",
                "clear the task that makes it and what follows it.",
            )
        if found.users:
            return Readiness("waiting", f"disk {found.name} is attached to {', '.join(found.users)}.")
        if found.status != "READY":
            return Readiness("waiting", f"disk {found.name} is {found.status}.")
        return Readiness("done", f"disk {found.name} is ready and attached nowhere.")

    def _image(self) -> Readiness:
        found = self.machines.image(self.wait.name)
        if found is None or found.status == "FAILED":
            return Readiness(
                "failed", f"image {self.wait.name} is gone.", "clear this task: it is made again."
            )
        if found.status != "READY":
            return Readiness("waiting", f"image {found.name} is {found.status}.")
        return Readiness("done", f"image {found.name} is ready.")

    def _machine(self) -> Readiness:
        """Until its script has said how it ended; its last line is the progress."""
        found = self.machines.machine(self.wait.zone, self.wait.name)
        if found is None or found.status in ("STOPPED", "TERMINATED"):
            return Readiness(
                "failed",
                f"machine {self.wait.name} {'is gone' if found is None else 'was stopped'} before it said a result.",
                "look for who deleted it (Compute itself does after build_within); the task will try again.",
                final=True,
                again=True,
            )
        printed, self._read_to = self.machines.serial(self.wait.zone, self.wait.name, self._read_to)
        self._printed = (self._printed + printed)[-_KEPT:]
        lines = [line for line in self._printed.splitlines() if "llm-release-" in line]
        said = lines[-1].partition("startup-script: ")[2] if lines else "it has said nothing yet"
        if "RESULT=" in said or self.machines.attribute(self.wait.zone, self.wait.name, bootdisk.WORD):
            return Readiness("done", said)
        if bootdisk.SCRIPT_ENDED in self._printed:
            return Readiness(
                "failed",
                f"the startup script of {self.wait.name} ended without a result; last seen: {said}",
                "look at the machine's serial port (it may have been out of memory); the task will try again.",
                final=True,
                again=True,
            )
        return Readiness("waiting", said)

    def _operation(self) -> Readiness:
        return _change(self.disks.operation(self.wait.zone, self.wait.name))

    def _node_pool(self) -> Readiness:
        return _change(self.node_pools.operation(self.wait.name))

    def _pods(self) -> Readiness:
        left = self.kube.pods(self.wait.namespace, self.wait.name)
        if not left:
            return Readiness("done", "no pod is left.")
        return Readiness("waiting", f"{len(left)} pods are still there: {', '.join(p.name for p in left)}.")

    def _attachments(self) -> Readiness:
        nodes = self.kube.attachments(self.wait.name)
        if not nodes:
            return Readiness("done", f"volume {self.wait.name} is attached nowhere.")
        return Readiness("waiting", f"volume {self.wait.name} is still attached to {', '.join(nodes)}.")

    def _time(self) -> Readiness:
        left = float(self.wait.name) - time.time()
        return (
            Readiness("waiting", f"until {_clock(float(self.wait.name))}.")
            if left > 0
            else Readiness("done", "the time has passed.")
        )

    @property
    def machines(self) -> Machines:
        if self._machines is None:
            self._machines = self.connect.machines()
        return self._machines

    @property
    def node_pools(self) -> NodePools:
        if self._node_pools is None:
            self._node_pools = self.connect.node_pools()
        return self._node_pools

    @property
    def kube(self) -> Kubernetes:
        if self._kube is None:
            self._kube = self.connect.kubernetes()
        return self._kube

    @property
    def disks(self) -> Disks:
        if self._disks is None:
            self._disks = self.connect.disks()
        return self._disks

    def _homeless(self, pods: Sequence[Pod]) -> float:
        if not any(p.unschedulable for p in pods):
            self._homeless_since = None
            return 0.0
        if self._homeless_since is None:
            self._homeless_since = time.time()
        return time.time() - self._homeless_since

    def _progress(self) -> str:
        """The Job's own last progress line, every few seconds at most."""
        if time.monotonic() - self._log_at < LOG_EVERY_S:
            return ""
        self._log_at = time.monotonic()
        pods = self.kube.job_pods(self.wait.namespace, self.wait.name)
        lines = self.kube.pod_log(self.wait.namespace, pods[-1].name, tail=1).splitlines() if pods else []
        line = lines[-1] if lines else ""
        if not line or line == self._said or line.startswith("result "):
            return ""
        self._said = line
        return line


def _change(found: Operation) -> Readiness:
    if not found.done:
        return Readiness("waiting", f"operation {found.name} is running.")
    if found.error:
        again = not isinstance(found.error, Permanent)
        return Readiness("failed", found.error.cause, found.error.next_action, final=True, again=again)
    return Readiness("done", f"operation {found.name} is done.")


def _clock(unix: float) -> str:
    return time.strftime("%H:%M:%S UTC", time.gmtime(unix))
