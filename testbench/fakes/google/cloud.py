"""The parts of the fake cloud in one place, as the services' modules are given them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from testbench.fakes.google.devices import Devices
from testbench.fakes.google.faults import Faults
from testbench.fakes.google.iam import Identity
from testbench.fakes.google.machines import Machines
from testbench.fakes.google.operations import Operations
from testbench.fakes.google.state import State


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the command line says. `api_server` is the endpoint of the one GKE cluster."""

    state: Path
    disks: Path
    node_roots: Path
    ca: Path
    bearer: Path
    api_server: str
    url: str
    project: str = "demo"
    project_number: str = "123456789012"
    zone: str = "us-central1-a"
    cluster: str = "demo"
    location: str = "us-central1"
    autopilot: bool = False
    auto_provisioning: bool = True
    """Of a Standard cluster: the bench's provisioner makes nodes for labels, too."""
    image_streaming: bool = True
    """Of new node pools of a Standard cluster."""
    cluster_version: str = "1.36.3-gke.1000000"
    latency_s: float = 0.2
    records: Path | None = None
    """Where the bench records what it starts; without it instances run nothing."""
    logs: Path | None = None
    iam: Path | None = None
    service_accounts: tuple[Path, ...] = ()


class Cloud:
    """State, operations, devices, faults and identities of one running fake."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.base = f"{settings.url}/compute/v1/"
        self.state = State(settings.state)
        self.faults = Faults(settings.latency_s)
        self.devices = Devices(settings.disks, settings.node_roots)
        self.operations = Operations(self, self.state, self.faults, self.base)
        self.machines = Machines(
            self,
            folder=settings.state / "machines",
            records=settings.records or settings.state / "records",
            logs=settings.logs or settings.state / "logs",
        )
        self.identity = Identity(settings.bearer, settings.iam, settings.service_accounts, self.state)

    def key(self, url: str, *, within: str) -> str:
        """Key of a resource given as a full URL, a partial path or a bare name of the collection `within`.

        >>> # "zones/z/disks/d" within "projects/p/zones/z/disks" is "projects/p/zones/z/disks/d"
        """
        path = re.sub(r"^https?://[^/]+/", "", url)
        path = re.sub(r"^(compute/)?(v1|beta|alpha)/", "", path)
        if path.startswith("projects/"):
            return path
        return f"{within}/{path}" if "/" not in path else f"{'/'.join(within.split('/')[:2])}/{path}"
