"""What every client of Google's APIs for machines shares: Compute's operations, and what an error means.

The library's own `.result()` polls compute.googleapis.com whatever endpoint was given, and has no
deadline; operations are read through our own client here, and waited for by whoever has the time.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from google.api_core import exceptions as google_errors
from google.api_core.client_options import ClientOptions
from google.auth.exceptions import GoogleAuthError
from google.cloud import compute_v1

from llm_release.core.errors import Conflict, Permanent, ReleaseError, Transient, Unavailable

TIMEOUT_S = 30

_FULL = ("QUOTA_EXCEEDED", "ZONE_RESOURCE_POOL_EXHAUSTED", "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS")
_LATER = ("RATE_LIMIT_EXCEEDED", "INTERNAL_ERROR", "SERVICE_UNAVAILABLE", "RESOURCE_OPERATION_RATE_EXCEEDED")


@dataclass(frozen=True, slots=True)
class Operation:
    """A running or finished change; `error` is set only when it is done and failed."""

    name: str
    zone: str
    """Empty for a global one."""
    done: bool
    error: ReleaseError | None = None
    seconds: float = 0.0


class Operations:
    """Reads the operations of one project."""

    def __init__(self, *, project: str, credentials: Any, options: ClientOptions | None) -> None:
        self._project = project
        self._zones = compute_v1.ZoneOperationsClient(credentials=credentials, client_options=options)
        self._global = compute_v1.GlobalOperationsClient(credentials=credentials, client_options=options)

    def look(self, zone: str, name: str) -> Operation:
        """Looks at a change once; it does not wait."""
        with told(f"read operation {name}"):
            if zone:
                found = self._zones.get(project=self._project, zone=zone, operation=name, timeout=TIMEOUT_S)
            else:
                found = self._global.get(project=self._project, operation=name, timeout=TIMEOUT_S)
        return _operation(zone, found)


def _operation(zone: str, o: Any) -> Operation:
    if o.status != compute_v1.Operation.Status.DONE:
        return Operation(o.name, zone, False)
    errors = list(o.error.errors) if o.error else []
    if not errors:
        return Operation(o.name, zone, True)
    return Operation(o.name, zone, True, _failed(str(errors[0].code), str(errors[0].message)))


def _failed(code: str, message: str) -> ReleaseError:
    """Errors of an operation come with HTTP 200, inside the finished operation."""
    said = f"Compute refused: {message.rstrip('.')} ({code})."
    if code in _FULL:
        return Permanent(said, next_action="raise the quota or choose another zone, then trigger again.")
    if code in _LATER:
        return Transient(said, next_action="the task will try again.")
    if "IN_USE" in code.upper() or code == "resourceInUseByAnotherResource":
        return Conflict(said, next_action="wait until the named user is gone, then clear this task.")
    return Permanent(said, next_action="correct what it names, then trigger again.")


@contextlib.contextmanager
def told(what: str, *, service: str = "Compute") -> Iterator[None]:
    """Runs a call; any error of the library leaves as one of our four, with `what` ("read disk x") in it."""
    try:
        yield
    except (
        google_errors.Conflict,
        google_errors.BadRequest,
        google_errors.Forbidden,
        google_errors.NotFound,
        google_errors.PreconditionFailed,
    ) as e:
        raise _refused(what, e) from e
    except (google_errors.TooManyRequests, google_errors.ServerError) as e:
        raise Transient(
            f"could not {what}: {service} answered {e.code}: {_said(e)}.",
            next_action="the task will try again.",
        ) from e
    except google_errors.GoogleAPICallError as e:
        raise Permanent(f"could not {what}: {_said(e)}.", next_action="correct what it names.") from e
    except (google_errors.RetryError, GoogleAuthError, OSError) as e:
        raise Unavailable(
            f"{service} could not be reached to {what}: {_said(e)}.",
            next_action="check the connection's endpoint and credentials.",
        ) from e


def _refused(what: str, e: google_errors.GoogleAPICallError) -> ReleaseError:
    reason = next((str(d.get("reason", "")) for d in e.errors if isinstance(d, Mapping)), "")
    said = f"could not {what}: {_said(e)}."
    if "constraints/" in said:
        return Permanent(
            said,
            next_action="an organisation policy forbids it: ask for an exception, or change the cluster's file.",
        )
    changed = isinstance(e, google_errors.Conflict | google_errors.PreconditionFailed)
    if changed or reason == "resourceInUseByAnotherResource":
        return Conflict(said, next_action="look at who uses it; nothing was forced.")
    if reason == "resourceNotReady":
        return Transient(said, next_action="the task will try again.")
    if "quota" in f"{reason} {said}".lower():
        return Permanent(said, next_action="raise that quota or choose another region, then trigger again.")
    if isinstance(e, google_errors.Forbidden):
        return Permanent(said, next_action="grant the connection's account that permission (docs/gke.md).")
    return Permanent(said, next_action="correct what it names.")


def _said(e: BaseException) -> str:
    text = getattr(e, "message", "") or str(e)
    return str(text).splitlines()[0][:300].rstrip(".") if text else type(e).__name__


def last(url: str) -> str:
    return url.rsplit("/", 1)[-1]
