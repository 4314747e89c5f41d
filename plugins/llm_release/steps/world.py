"""What a step is given: the specs, the clients (connected when first used) and what earlier steps found."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

from llm_release.core.clusterspec import ClusterSpec
from llm_release.core.errors import Permanent
from llm_release.core.names import Names
from llm_release.core.release import Release
from llm_release.core.request import ReleaseRequest
from llm_release.core.spec import ServiceSpec
from llm_release.core.strict import decode

if TYPE_CHECKING:
    from llm_release.clients.compute import Disks
    from llm_release.clients.hub import Hub
    from llm_release.clients.kubernetes import Kubernetes
    from llm_release.clients.machines import Machines
    from llm_release.clients.node_logs import NodeLogs
    from llm_release.clients.node_pools import NodePools
    from llm_release.clients.registry import Registry
    from llm_release.clients.store import Store


class StepFacts(Protocol):
    """What one step found: a frozen dataclass that names its step."""

    STEP: ClassVar[str]


F = TypeVar("F", bound=StepFacts)

FAILURE = "failure"
"""Key under which a step leaves the reason of its failure: {"cause", "next", "refused"}."""
SPAN = "span"
"""Key under which a step leaves when it ran: {"started", "ended"} in Unix seconds, waits included."""


class Connect(Protocol):
    """Makes the clients of one cluster; the Airflow hook does, and so does a test."""

    def kubernetes(self) -> Kubernetes: ...
    def disks(self) -> Disks: ...
    def machines(self) -> Machines: ...
    def node_logs(self) -> NodeLogs: ...
    def node_pools(self) -> NodePools: ...
    def hub(self) -> Hub: ...
    def registry(self) -> Registry: ...
    def store(self) -> Store: ...


@dataclass(frozen=True, slots=True)
class Wait:
    """A step's way of saying "not yet": it is run again from its start once this is over.

    `kind` says what is looked at: a ``job`` or a ``deployment`` by namespace and name, an ``operation`` of
    Compute by zone (empty: a global one) and name, a ``disk`` by zone and name to be ready and unused, a ``machine``
    by zone and name to say its result, an ``image`` by name to be ready, a ``node_pool`` operation of GKE by name,
    ``pods`` with the selector `name` to be gone, a volume's ``attachments`` by PV name to be gone, or ``time`` to pass.
    """

    kind: str
    name: str
    within: float
    """Seconds from the first look until it is called a failure."""
    what: str
    """Ends the sentence "waiting for ..."."""
    namespace: str = ""
    zone: str = ""
    patience: float = 60.0
    """Seconds that a pod may be without a node."""


AS_SPECIFIED = ReleaseRequest()


class Skipped(Exception):
    """There is nothing for this step to do in this run; the message says why.

    What hangs on the step is skipped too.
    """


class Surroundings:
    """What any step has: the cluster, its clients, and what earlier steps found.

    Args:
        home: the project's folder that holds include/.
        facts: what the step with that name found, None when it did not run.
        holder: who works, as in the Lease: ``<dag id>/<run id>``.
    """

    def __init__(
        self,
        *,
        cluster: ClusterSpec,
        connect: Connect,
        home: Path,
        holder: str,
        facts: Callable[[str], Mapping[str, Any] | None] = lambda step: None,
        log: Callable[[str], None] = print,
    ) -> None:
        self.cluster = cluster
        self.home = home
        self.holder = holder
        self.log = log
        self.connect = connect
        self.began = time.time()
        """Unix time when this try of the step began; whoever runs a step again after a wait keeps it."""
        self._facts = facts

    @cached_property
    def kube(self) -> Kubernetes:
        return self.connect.kubernetes()

    @cached_property
    def disks(self) -> Disks:
        return self.connect.disks()

    @cached_property
    def machines(self) -> Machines:
        return self.connect.machines()

    @cached_property
    def node_logs(self) -> NodeLogs:
        return self.connect.node_logs()

    @cached_property
    def node_pools(self) -> NodePools:
        return self.connect.node_pools()

    @cached_property
    def hub(self) -> Hub:
        return self.connect.hub()

    @cached_property
    def registry(self) -> Registry:
        return self.connect.registry()

    @cached_property
    def store(self) -> Store:
        return self.connect.store()

    def maybe(self, kind: type[F]) -> F | None:
        """What an earlier step found, None when it has not run (or was skipped)."""
        found = self._facts(kind.STEP)
        return decode(kind, found) if found else None

    def of(self, kind: type[F]) -> F:
        found = self.maybe(kind)
        if found is None:
            raise Permanent(
                f"step {kind.STEP} left no facts.", next_action=f"clear {kind.STEP} so that it runs again."
            )
        return found


class World(Surroundings):
    """One release's surroundings.

    Args:
        resumed: True when the step runs again after one of its own waits, within the same try.
        run_is_over: whether another run (by holder name) has ended.
    """

    def __init__(
        self,
        *,
        spec: ServiceSpec,
        cluster: ClusterSpec,
        connect: Connect,
        home: Path,
        holder: str,
        request: ReleaseRequest = AS_SPECIFIED,
        facts: Callable[[str], Mapping[str, Any] | None] = lambda step: None,
        log: Callable[[str], None] = print,
        run_is_over: Callable[[str], bool] = lambda holder: False,
        resumed: bool = False,
    ) -> None:
        super().__init__(cluster=cluster, connect=connect, home=home, holder=holder, facts=facts, log=log)
        self.spec = spec
        self.request = request
        self.run_is_over = run_is_over
        self.resumed = resumed

    @cached_property
    def release(self) -> Release:
        from llm_release.steps.resolve import Resolved

        return self.of(Resolved).release

    @cached_property
    def names(self) -> Names:
        return Names(self.spec.service, self.spec.namespace, self.release.id)

    def names_of(self, release: str) -> Names:
        """Names of another release of the same service."""
        return Names(self.spec.service, self.spec.namespace, release)
