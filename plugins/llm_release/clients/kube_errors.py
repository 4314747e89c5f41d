"""Foreign errors of the Kubernetes client become ours, once, here."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator

from kubernetes.client import ApiException
from urllib3.exceptions import HTTPError

from llm_release.core.errors import Conflict, Permanent, ReleaseError, Transient, Unavailable


@contextlib.contextmanager
def told(what: str) -> Iterator[None]:
    """Runs a call; any error of the client leaves as one of our four, with `what` ("read pod x") in it."""
    try:
        yield
    except ApiException as e:
        raise _told(what, e) from e
    except (HTTPError, OSError) as e:
        raise Unavailable(
            f"the API server did not answer when asked to {what}: {_first_line(str(e))}",
            next_action="check that the cluster's endpoint can be reached from the worker; the task will try again.",
        ) from e


def _told(what: str, e: ApiException) -> ReleaseError:
    status, said = int(e.status or 0), _message(e)
    if status == 409:
        return Conflict(f"could not {what}: {said}.", next_action="look at who owns it; nothing was forced.")
    if status in (401, 403):
        return Permanent(
            f"not allowed to {what}: {said}.",
            next_action="run the platform DAG of this cluster, or grant that verb.",
        )
    # A field that does not exist answers 500 under server-side apply (seen on 1.36): a typo, not an outage.
    if status == 500 and "failed to create typed patch object" in said:
        return Permanent(f"could not {what}: {said}.", next_action="correct the manifest.")
    if status == 429 or status >= 500:
        return Transient(
            f"could not {what}: the API server answered {status}: {said}.",
            next_action="the task will try again.",
        )
    return Permanent(
        f"could not {what}: the API server answered {status}: {said}.", next_action="correct what it names."
    )


def _message(e: ApiException) -> str:
    try:
        return str(json.loads(e.body)["message"]).rstrip(".")
    except (TypeError, ValueError, KeyError):
        return str(e.reason or e.body or "no reason given").rstrip(".")


def _first_line(text: str) -> str:
    return text.splitlines()[0][:200] if text else "no reason given"
