"""What the tests of the fake Google share: a running fake, its clients, and waiting for an operation."""

from __future__ import annotations

import functools
import json
import tempfile
import urllib.request
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from google.api_core.client_options import ClientOptions
from google.auth.transport.requests import Request
from google.cloud import compute_v1, container_v1
from google.oauth2 import credentials as oauth
from google.oauth2 import service_account

from testbench.fakes import keys
from testbench.fakes.google.__main__ import build
from testbench.fakes.google.cloud import Cloud, Settings
from testbench.fakes.google.service import Service
from testbench.fakes.web import Response, Server

PLACE = {"project": "demo", "zone": "us-central1-a"}
NODE = "gpu-node-1"
EMAIL = "release@demo.iam.gserviceaccount.com"
HDML = "projects/demo/zones/us-central1-a/diskTypes/hyperdisk-ml"


@dataclass
class GoogleApis:
    """One fake with its files under `folder`; `stop` and `start` are its restart."""

    folder: Path
    server: Server | None = None
    settings: Settings | None = None
    cloud: Cloud | None = None
    clients: dict[Any, Any] = field(default_factory=dict)

    def start(self, **changed: Any) -> None:
        bearer, ca, key = self.folder / "bearer", self.folder / "ca.crt", self.folder / "sa.json"
        self.server = Server(("127.0.0.1", self.port), lambda request: Response(status=503))
        if not bearer.exists():
            bearer.write_text("bearer-of-the-cluster\n")
            ca.write_text("the CA")
            write_key(key, f"{self.server.url}/token")
        self.settings = Settings(
            state=self.folder / "state",
            disks=self.folder / "disks",
            node_roots=self.folder / "roots",
            ca=ca,
            bearer=bearer,
            api_server="https://10.0.0.1:6443",
            url=self.server.url,
            latency_s=0.0,
            iam=self.folder / "iam.json",
            service_accounts=(key,),
        )
        self.settings = replace(self.settings, **changed)
        self.cloud = build(self.settings, [NODE])
        self.server.handler = Service(self.cloud)
        self.server.start()

    def stop(self) -> None:
        assert self.server is not None
        self.server.stop()

    @property
    def port(self) -> int:
        return int(self.server.server_address[1]) if self.server else 0

    @property
    def url(self) -> str:
        assert self.server is not None
        return self.server.url

    # The real clients -----------------------------------------------------------------------------

    @functools.cached_property
    def credentials(self) -> Any:
        return service_account.Credentials.from_service_account_file(str(self.folder / "sa.json"))

    @functools.cached_property
    def plain(self) -> Any:
        """What the key was exchanged for; with the key itself google-auth asks Google for the account's regions."""
        scoped = self.credentials.with_scopes(["https://www.googleapis.com/auth/cloud-platform"])
        scoped.refresh(Request())
        return oauth.Credentials(scoped.token)

    def client(self, kind: Any, *, credentials: Any = None, **more: Any) -> Any:
        """A client of this kind; without credentials of its own, the same one each time."""
        options = ClientOptions(api_endpoint=self.url)
        if credentials is not None:
            return kind(credentials=credentials, client_options=options, **more)
        if kind not in self.clients:
            self.clients[kind] = kind(credentials=self.plain, client_options=options, **more)
        return self.clients[kind]

    @property
    def disks(self) -> Any:
        return self.client(compute_v1.DisksClient)

    @property
    def instances(self) -> Any:
        return self.client(compute_v1.InstancesClient)

    @property
    def clusters(self) -> Any:
        return self.client(container_v1.ClusterManagerClient, transport="rest")

    def done(self, started: Any) -> Any:
        """The finished operation."""
        operation = self.client(compute_v1.ZoneOperationsClient).wait(operation=started.name, **PLACE)
        assert operation.status == compute_v1.Operation.Status.DONE
        return operation

    # Shorthands -----------------------------------------------------------------------------------

    def insert(self, name: str, **fields: Any) -> Any:
        wanted = {"type_": HDML, "size_gb": 10, "provisioned_throughput": 400, **fields}
        return self.disks.insert(disk_resource=compute_v1.Disk(name=name, **wanted), **PLACE)

    def made(self, name: str, **fields: Any) -> Any:
        """A new disk, ready."""
        assert not self.done(self.insert(name, **fields)).error.errors
        return self.disk(name)

    def disk(self, name: str) -> Any:
        return self.disks.get(disk=name, **PLACE)

    def update(self, name: str, paths: str, **fields: Any) -> Any:
        request = compute_v1.UpdateDiskRequest(
            disk=name, paths=paths, disk_resource=compute_v1.Disk(name=name, **fields), **PLACE
        )
        return self.disks.update(request=request)

    def attach(self, disk: str, instance: str = NODE, *, mode: str = "READ_WRITE", device: str = "") -> Any:
        wanted = compute_v1.AttachedDisk(
            source=f"zones/us-central1-a/disks/{disk}", mode=mode, device_name=device or disk
        )
        return self.instances.attach_disk(instance=instance, attached_disk_resource=wanted, **PLACE)

    def detach(self, device: str, instance: str = NODE) -> Any:
        return self.instances.detach_disk(instance=instance, device_name=device, **PLACE)

    def second_instance(self, name: str = "gpu-node-2") -> str:
        machine = "zones/us-central1-a/machineTypes/g2-standard-24"
        wanted = compute_v1.Instance(name=name, machine_type=machine)
        self.done(self.instances.insert(instance_resource=wanted, **PLACE))
        return name

    def control(self, method: str, path: str, **body: Any) -> Any:
        return self.http(method, f"/_bench/{path}", body)

    def http(self, method: str, path: str, body: Any = None, bearer: str = "") -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, method=method)
        if bearer:
            request.add_header("Authorization", f"Bearer {bearer}")
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)


@functools.cache
def _key_text() -> str:
    """Making an RSA key takes longer than most tests."""
    with tempfile.TemporaryDirectory() as folder:
        keys.write(Path(folder, "key"), email=EMAIL, project="demo", token_uri="http://later/token")
        return Path(folder, "key").read_text()


def write_key(path: Path, token_uri: str) -> None:
    path.write_text(json.dumps({**json.loads(_key_text()), "token_uri": token_uri}))


def reasons(refused: Any) -> list[str]:
    """The reasons that Compute gave in an error answer."""
    return [str(e["reason"]) for e in refused.errors]


def codes(operation: Any) -> list[str]:
    """The codes inside a finished operation."""
    return [str(e.code) for e in operation.error.errors]
