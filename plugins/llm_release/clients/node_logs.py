"""What GKE's image snapshotter said on the nodes, from Cloud Logging: evidence, never a condition.

One read of the REST API on google-auth's own session, which takes a timeout and an endpoint; google-cloud-logging's
client speaks gRPC alone where a timeout can be given.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from google.auth.exceptions import GoogleAuthError
from google.auth.transport.requests import AuthorizedSession

from llm_release.core.errors import Permanent, ReleaseError, Transient, Unavailable

TIMEOUT_S = 20
ENDPOINT = "https://logging.googleapis.com"
LOG = "gcfs-snapshotter"
_MOST = 500
"""Lines of one read, the latest: two or three for each image and node."""


class NodeLogs:
    """Log lines of one project's nodes."""

    def __init__(self, *, project: str, credentials: Any, endpoint: str | None = None) -> None:
        self._project = project
        self._session = AuthorizedSession(credentials)
        self._url = f"{endpoint or ENDPOINT}/v2/entries:list"

    def snapshotter(self, nodes: Sequence[str], *, since: str) -> Mapping[str, tuple[str, ...]]:
        """Lines about secondary boot disks by node, oldest first; a node that said nothing is left out.

        Args:
            since: RFC 3339; earlier lines are not looked for.

        Raises:
            Permanent: not allowed (logging.logEntries.list).
            Transient, Unavailable: ask again later.
        """
        named = " OR ".join(json.dumps(node) for node in sorted(set(nodes)))
        asked = {
            "resourceNames": [f"projects/{self._project}"],
            "filter": f'logName="projects/{self._project}/logs/{LOG}" AND timestamp>="{since}"'
            f' AND resource.labels.node_name=({named}) AND "is backed by secondary boot disk"',
            "orderBy": "timestamp desc",
            "pageSize": _MOST,
        }
        lines: dict[str, tuple[str, ...]] = {}
        for entry in reversed(self._entries(asked)):
            node = entry.get("resource", {}).get("labels", {}).get("node_name", "")
            text = entry.get("jsonPayload", {}).get("MESSAGE") or entry.get("textPayload") or ""
            lines[node] = (*lines.get(node, ()), str(text))
        return lines

    def _entries(self, asked: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        try:
            answer = self._session.post(self._url, json=asked, timeout=TIMEOUT_S)
            if answer.status_code != 200:
                raise _refused(answer.status_code, answer.text)
            return list(answer.json().get("entries") or ())
        except (GoogleAuthError, OSError) as e:
            said = (str(e).splitlines() or [type(e).__name__])[0][:200]
            raise Unavailable(
                f"Cloud Logging could not be asked: {said}.",
                next_action="check the connection's logging endpoint and credentials.",
            ) from e


def _refused(status: int, text: str) -> ReleaseError:
    try:
        said = str(json.loads(text)["error"]["message"]).rstrip(".")
    except (ValueError, KeyError, TypeError):
        said = "no reason given"
    cause = f"Cloud Logging answered {status}: {said}."
    if status == 429 or status >= 500:
        return Transient(cause, next_action="ask again later.")
    return Permanent(
        cause, next_action="grant the connection's account logging.logEntries.list (docs/gke.md)."
    )
