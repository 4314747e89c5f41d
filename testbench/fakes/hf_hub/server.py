"""Both origins of the hub in one process, so that they share faults and log."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path

from testbench.fakes.hf_hub.access import Tokens
from testbench.fakes.hf_hub.answers import Server
from testbench.fakes.hf_hub.cdn import CdnHandler
from testbench.fakes.hf_hub.faults import Faults, Log
from testbench.fakes.hf_hub.origin import HubHandler, Settings

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Pair:
    """The running hub and its CDN."""

    hub: Server
    cdn: Server

    @property
    def url(self) -> str:
        return f"http://{self.hub.server_address[0]!s}:{self.hub.server_port}"

    def start(self) -> None:
        """Serves from threads of their own until `stop`."""
        for server in (self.hub, self.cdn):
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        self.hub.faults.clear()
        for server in (self.hub, self.cdn):
            server.shutdown()
            server.server_close()


def build(
    root: Path,
    listen: Address = ("127.0.0.1", 0),
    listen_cdn: Address = ("127.0.0.1", 0),
    *,
    rate: float | None = None,
    tokens: Tokens | None = None,
    page: int = 100,
    link_seconds: float = 3600,
) -> Pair:
    """Both servers, bound and not yet serving. Several pairs can live in one process.

    Args:
        root: the folder of repositories.
        listen: of the hub; port 0 picks one.
        listen_cdn: of the CDN; must be another origin.
        rate: bytes per second of each connection; None is as fast as it goes.
        tokens: that are known.
        page: entries of a tree per page.
        link_seconds: life of a CDN address.
    """
    faults, log = Faults(), Log()
    at_cdn = type("BoundCdn", (CdnHandler,), {"root": root})
    cdn = Server(listen_cdn, at_cdn, faults=faults, log=log, rate=rate)
    settings = Settings(
        root=root, cdn_port=cdn.server_port, tokens=tokens or Tokens(), page=page, link_seconds=link_seconds
    )
    at_hub = type("BoundHub", (HubHandler,), {"settings": settings})
    return Pair(Server(listen, at_hub, faults=faults, log=log, rate=rate), cdn)
