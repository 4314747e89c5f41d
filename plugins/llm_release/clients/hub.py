"""The Hugging Face hub: what a revision is. Read only.

Facts come from the hub's documented HTTP API (revision, tree with paging, resolve), not through
huggingface_hub: its listing takes no timeout, waits for ever on a hub that stalls, and its errors hide the
status (2.4). A test compares the facts with what huggingface_hub reads from the same hub.
"""

from __future__ import annotations

import json
import re
import time
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from llm_release.clients.hub_errors import Busy
from llm_release.clients.hub_http import HubHttp, Lines, read_all
from llm_release.clients.wire import Target, target
from llm_release.core.errors import Permanent, Transient, Unavailable
from llm_release.core.exitcodes import Code, Refused
from llm_release.core.files import RemoteFile

T = TypeVar("T")

ENDPOINT = "https://huggingface.co"
COMMIT = re.compile(r"[0-9a-f]{40}")
_REPO = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_NEXT = re.compile(r'<([^>]+)>\s*;[^,]*\brel="?next"?')
_MAX_PAGES = 1000
_MAX_JSON = 64 << 20
_PAUSES_S = (1.0, 3.0)
"""Before the second and the third try of a metadata call; a longer outage is the task's retry."""
_MAX_PAUSE_S = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRevision:
    """A repository at one commit."""

    repo: str
    commit: str
    """40 hex."""
    gated: bool
    private: bool
    license: str | None
    """As the model card says it (`gemma`, `apache-2.0`, ...)."""
    files: tuple[RemoteFile, ...]
    """Sorted by path."""


class Hub:
    """The hub at `endpoint`, with or without a token.

    Args:
        endpoint: its address.
        token: sent to `endpoint` alone. None: anonymous.
        timeout_s: longest wait for a connection, and for each piece of an answer.

    Raises:
        Refused: the token is none; its text is not repeated.
    """

    def __init__(self, endpoint: str = ENDPOINT, token: str | None = None, timeout_s: float = 20) -> None:
        self.http = HubHttp(endpoint, token)
        self._timeout_s = timeout_s

    def model(self, repo: str, revision: str) -> ModelRevision:
        """The commit that `revision` (branch, tag or commit) is now, and every file of it.

        Raises:
            Refused: no such repository or revision; gated or private and not for us. All told apart.
            Transient, Unavailable: ask again later.
        """
        info = self._about(repo, revision)
        commit = str(info.get("sha"))
        if not COMMIT.fullmatch(commit) or (COMMIT.fullmatch(revision) and commit != revision):
            raise Refused(
                Code.NOT_FOUND,
                f"the hub names no commit for {repo} at {revision}.",
                next_action="check the revision; write a commit in full (40 digits).",
            )
        return ModelRevision(
            repo=repo,
            commit=commit,
            gated=bool(info.get("gated", False)),
            private=bool(info.get("private", False)),
            license=_license(info),
            files=self.files(repo, commit),
        )

    def files(self, repo: str, commit: str) -> tuple[RemoteFile, ...]:
        """Every file at `commit`, sorted by path. Raises: as `model`."""
        page: str | None = self._api(repo, "tree", commit) + "?recursive=true&expand=false"
        found: list[RemoteFile] = []
        for _ in range(_MAX_PAGES):
            if page is None:
                return tuple(sorted(found, key=lambda f: f.path))
            entries, page = self._json(page, f"the files of {repo} at {commit[:12]}")
            found += _remote_files(entries, repo)
        raise Permanent(f"{repo} has too many files to list.", next_action="pick another repository.")

    def read_small(self, repo: str, commit: str, path: str, limit: int = 1 << 20) -> bytes:
        """The whole content of a file of at most `limit` bytes.

        Raises:
            Refused: not there, not for us, or larger than `limit`.
            Transient, Unavailable: ask again later.
        """
        return _patiently(lambda: self._read_small(repo, commit, path, limit))

    def check_download(self, repo: str, commit: str, path: str) -> None:
        """Fetches the first byte of a file: proof that we may download it, not only list it.

        Raises:
            Refused: gated without a token, terms not accepted, token refused, not found: told apart.
            Transient, Unavailable: ask again later.
        """
        _patiently(lambda: self._first_byte(repo, commit, path))

    def _about(self, repo: str, revision: str) -> Mapping[str, Any]:
        path = self._api(repo, "revision", urllib.parse.quote(revision, safe=""))
        info, _ = self._json(path, f"{repo} at {revision}")
        return info if isinstance(info, Mapping) else {}

    def _api(self, repo: str, kind: str, revision: str) -> str:
        if not _REPO.fullmatch(repo):
            raise Refused(
                Code.BAD_INPUT,
                f"{repo!r} is no repository name.",
                next_action="write it as owner/name, as the hub does.",
            )
        return f"{self.http.endpoint}/api/models/{repo}/{kind}/{revision}"

    def _json(self, url: str, what: str) -> tuple[Any, str | None]:
        """-> (document, address of the next page)."""
        where = target(url)
        if where.origin != self.http.hub.origin:
            raise Permanent(
                f"{what}: the hub's next page is on another origin.", next_action="check the hub's endpoint."
            )
        return _patiently(lambda: self._json_once(where, what))

    def _json_once(self, where: Target, what: str) -> tuple[Any, str | None]:
        with Lines(self._timeout_s) as lines:
            found = self.http.open(where, lines, what=what)
            body = read_all(found.response, found.line, limit=_MAX_JSON)
        following = _NEXT.search(found.response.headers.get("Link") or "")
        try:
            return json.loads(body), following[1] if following else None
        except ValueError as e:
            raise Transient(
                f"{what}: the hub's answer is no JSON.", next_action="check the hub's endpoint."
            ) from e

    def _read_small(self, repo: str, commit: str, path: str, limit: int) -> bytes:
        what = f"{path} of {repo}"
        with Lines(self._timeout_s) as lines:
            found = self.http.open(self.http.file(repo, commit, path), lines, what=what)
            body = read_all(found.response, found.line, limit=limit + 1)
        if len(body) > limit:
            raise Refused(
                Code.BAD_INPUT, f"{what} is larger than {limit} bytes.", next_action="pick another revision."
            )
        return body

    def _first_byte(self, repo: str, commit: str, path: str) -> None:
        with Lines(self._timeout_s) as lines:
            self.http.open(self.http.file(repo, commit, path), lines, what=f"{path} of {repo}", span=(0, 1))


def _patiently(call: Callable[[], T]) -> T:
    for pause in _PAUSES_S:
        try:
            return call()
        except (Transient, Unavailable) as e:
            asked = e.after_s if isinstance(e, Busy) else None
            if asked is not None and asked > _MAX_PAUSE_S:
                raise
            time.sleep(max(pause, asked or 0.0))
    return call()


def _remote_files(entries: Any, repo: str) -> list[RemoteFile]:
    try:
        return [_remote_file(e) for e in entries if e["type"] == "file"]
    except (TypeError, KeyError, ValueError) as e:
        raise Transient(
            f"the hub's list of {repo} has an unknown form.", next_action="check the hub's endpoint."
        ) from e


def _remote_file(entry: Mapping[str, Any]) -> RemoteFile:
    lfs = entry.get("lfs")
    return RemoteFile(
        path=str(entry["path"]),
        size=int(lfs["size"] if lfs else entry["size"]),
        sha256=str(lfs["oid"]) if lfs else None,
        blob_id=str(entry["oid"]),
    )


def _license(info: Mapping[str, Any]) -> str | None:
    card = info.get("cardData")
    if isinstance(card, Mapping) and isinstance(card.get("license"), str):
        return str(card["license"])
    tags = info.get("tags")
    found = (
        [t.partition(":")[2] for t in tags if str(t).startswith("license:")] if isinstance(tags, list) else []
    )
    return str(found[0]) if found else None
