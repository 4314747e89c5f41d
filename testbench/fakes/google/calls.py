"""One call as the services' handlers get it, and the table entry that names its permission."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from testbench.fakes.google.cloud import Cloud
from testbench.fakes.google.messages import Resource, parse
from testbench.fakes.web import Request

PLACE = r"{place:(?:zones|regions)/[^/]+|global}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request with its caller and the named parts of its path."""

    cloud: Cloud
    request: Request
    principal: str
    parts: Mapping[str, str]

    def __getitem__(self, part: str) -> str:
        return self.parts[part]

    @property
    def scope(self) -> str:
        """projects/p/zones/z, projects/p/regions/r or projects/p/global."""
        return f"projects/{self['project']}/{self.parts.get('place', 'global')}"

    @property
    def key(self) -> str:
        """Key of the resource that the path names."""
        return f"{self.scope}/{self['kind']}/{self['name']}"

    def body(self, kind: str) -> Resource:
        return parse(kind, self.request.body)

    def started(
        self, kind: str, target: str, effect: str = "nothing", arguments: Mapping[str, Any] | None = None
    ) -> Resource:
        """Starts an operation in the caller's name and answers it."""
        return self.cloud.operations.start(kind, target, effect, arguments, user=self.principal)


Handle = Callable[[Call], Resource]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A method and path below the API's version, who answers it and what permission it takes."""

    method: str
    path: str
    handle: Handle
    permission: str = ""
