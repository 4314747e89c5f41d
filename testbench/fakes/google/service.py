"""Routes calls to the services: who calls, may they, was this request seen before, and what is answered.

Mutating calls run one at a time and are written to <state>/writes.jsonl, so that a test can count what a
release changed.
"""

from __future__ import annotations

import copy
import json
import re
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

from testbench.fakes.google import catalog, container, disks, errors, instances, logging, sources
from testbench.fakes.google.calls import Call, Endpoint
from testbench.fakes.google.cloud import Cloud
from testbench.fakes.google.control import Control
from testbench.fakes.google.messages import Resource
from testbench.fakes.web import Request, Response, Route, as_json, find, route

_COMPUTE = re.compile(r"/(?:compute/)?(?:v1|beta|alpha)/(?=projects/)")
_SCOPE = "{place:(?:zones|regions)/[^/]+|global}"


def operation_get(call: Call) -> Resource:
    key = f"{call.scope}/operations/{call['name']}"
    with call.cloud.state.lock:
        found = call.cloud.state.held.operations.get(key)
        if found is None:
            raise errors.not_found(key)
        return dict(found)


def operation_wait(call: Call) -> Resource:
    operation_get(call)
    return call.cloud.operations.wait(f"{call.scope}/operations/{call['name']}")


def operation_list(call: Call) -> Resource:
    with call.cloud.state.lock:
        prefix = f"{call.scope}/operations/"
        found = [o for k, o in call.cloud.state.held.operations.items() if k.startswith(prefix)]
    return {"kind": "compute#operationList", "items": found} if found else {"kind": "compute#operationList"}


def project_permissions(call: Call) -> Resource:
    """testIamPermissions of Cloud Resource Manager v1 and v3."""
    try:
        asked = call.request.json().get("permissions", [])
    except ValueError as e:
        raise errors.ApiError(400, "badRequest", f"Invalid JSON payload received. {e}") from e
    allowed = call.cloud.identity.allowed(call.principal, asked)
    return {"permissions": allowed} if allowed else {}


_OPERATIONS = (
    Endpoint("GET", f"projects/{{project}}/{_SCOPE}/operations", operation_list),
    Endpoint("GET", f"projects/{{project}}/{_SCOPE}/operations/{{name}}", operation_get),
    Endpoint("POST", f"projects/{{project}}/{_SCOPE}/operations/{{name}}/wait", operation_wait),
)
_WAITING = (operation_wait,)
"""POSTs that change nothing: they neither hold the lock nor count as a write."""


def _table(endpoints: Sequence[Endpoint]) -> dict[Route, Endpoint]:
    def unused(request: Request) -> Response:
        raise AssertionError

    return {route(e.method, e.path, unused): e for e in endpoints}


COMPUTE = _table(
    (*_OPERATIONS, *disks.ENDPOINTS, *sources.ENDPOINTS, *instances.ENDPOINTS, *catalog.ENDPOINTS)
)
CONTAINER = _table(container.ENDPOINTS)
LOGGING = _table(logging.ENDPOINTS)
MANAGER = _table((Endpoint("POST", "projects/{project}:testIamPermissions", project_permissions),))


class Service:
    """The handler of the fake's one port."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._writes = cloud.settings.state / "writes.jsonl"
        self._control = Control(cloud, self._writes)

    def __call__(self, request: Request) -> Response:
        if request.path == "/healthz":
            return as_json({"status": "ok"})
        if request.path.startswith("/_bench/"):
            return self._control(request)
        if request.path == "/token":
            return self._cloud.identity.token(request)
        shape = errors.ApiError.compute_body
        try:
            seconds, error = self._cloud.faults.call(request.method, request.path)
            time.sleep(seconds)
            if error is not None:
                raise error
            table, path = _service(request.path)
            if table is not COMPUTE:
                shape = errors.ApiError.container_body
            return as_json(self._answer(request, table, path))
        except errors.ApiError as e:
            return as_json(shape(e), e.code)

    def _answer(self, request: Request, table: dict[Route, Endpoint], path: str) -> Resource:
        found = find(list(table), request.method, path)
        if found is None:
            raise errors.ApiError(
                404, "notFound", f"The requested URL {request.path} was not found on this server."
            )
        endpoint = table[found[0]]
        principal = self._cloud.identity.principal(request)
        self._cloud.identity.check(principal, endpoint.permission, path)
        call = Call(cloud=self._cloud, request=request, principal=principal, parts=found[1])
        if endpoint.handle in _WAITING:
            return endpoint.handle(call)
        if request.method == "GET" or table is MANAGER:
            with self._cloud.state.lock:
                return copy.deepcopy(endpoint.handle(call))
        with self._cloud.state.changing():
            return self._once(call, endpoint, path)

    def _once(self, call: Call, endpoint: Endpoint, path: str) -> Resource:
        """A request id that was seen on this path answers the operation that it started then."""
        asked = call.request.query.get("requestId", "")
        if not asked:
            return self._changed(call, endpoint, path)
        check_request_id(asked)
        held = self._cloud.state.held
        seen = f"{call.request.method} {path} {asked}"
        if seen in held.requests and held.requests[seen] in held.operations:
            return dict(held.operations[held.requests[seen]])
        answer = self._changed(call, endpoint, path)
        held.requests[seen] = str(answer["selfLink"]).removeprefix(self._cloud.base)
        return answer

    def _changed(self, call: Call, endpoint: Endpoint, path: str) -> Resource:
        answer = endpoint.handle(call)
        if "operationType" in answer:
            line = {
                "time": time.time(),
                "principal": call.principal,
                "method": call.request.method,
                "path": path,
            }
            append(self._writes, line)
        return answer


def check_request_id(text: str) -> None:
    """
    Raises:
        ApiError: 400, no UUID, or the zero one.
    """
    try:
        good = uuid.UUID(text).int != 0
    except ValueError:
        good = False
    if not good:
        raise errors.invalid("requestId", text, "The request id must be a valid UUID other than zero.")


def append(file: Path, line: Resource) -> None:
    with file.open("a") as f:
        f.write(json.dumps(line) + "\n")


def _service(path: str) -> tuple[dict[Route, Endpoint], str]:
    """The service that a path belongs to, and the path below its version."""
    if path.startswith(("/v1/", "/v3/", "/v1beta1/")):
        below = path.split("/", 2)[2]
        if path.endswith(":testIamPermissions"):
            return MANAGER, below
        if find(list(CONTAINER), "GET", below):
            return CONTAINER, below
    if path.startswith("/v2/"):
        return LOGGING, path.removeprefix("/v2/")
    return COMPUTE, _COMPUTE.sub("", path, count=1)
