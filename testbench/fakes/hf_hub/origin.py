"""The hub itself: facts of repositories, the tree in pages, and where each file is."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

from testbench.fakes.hf_hub import access, cdn, repos
from testbench.fakes.hf_hub.answers import Handler
from testbench.fakes.hf_hub.faults import Fault
from testbench.fakes.hf_hub.repos import FileFacts, Repo

_DATE = "2026-01-01T00:00:00.000Z"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How this hub is set up."""

    root: Path
    cdn_port: int
    tokens: access.Tokens = access.Tokens()
    page: int = 100
    """Entries of a tree per page; the real hub gives 1000."""
    link_seconds: float = 3600
    """How long a CDN address works."""


class HubHandler(Handler):
    """Routes of the API and of files."""

    origin = "hub"
    settings: ClassVar[Settings]

    def route(self) -> None:
        parts = [unquote(p) for p in urlsplit(self.path).path.strip("/").split("/")]
        match parts:
            case ["_bench", what]:
                self._bench(what)
            case ["api", "models", owner, name]:
                self._with(f"{owner}/{name}", "main", self._info)
            case ["api", "models", owner, name, "revision", revision]:
                self._with(f"{owner}/{name}", revision, self._info)
            case ["api", "models", owner, name, "tree", revision, *under]:
                self._with(f"{owner}/{name}", revision, lambda r, c: self._tree(r, c, "/".join(under)))
            case [owner, name, "resolve", revision, *path] if path:
                self._with(f"{owner}/{name}", revision, lambda r, c: self._file(r, c, "/".join(path)))
            case _:
                self.error(404, None, "Sorry, we can't find the page you are looking for.")

    def do_POST(self) -> None:
        self.do_GET()

    def do_DELETE(self) -> None:
        self.do_GET()

    def _with(self, name: str, revision: str, then: Callable[[Repo, str], None]) -> None:
        """Answers with the repository at a revision, or with why not."""
        found = repos.read(self.settings.root, name)
        who = self.settings.tokens.who(self.headers.get("Authorization"))
        denied = access.to_repo(who, found)
        if denied is None and found is not None:
            commit = repos.resolve(self.settings.root, found, revision)
            if commit is not None:
                then(found, commit)
                return
            denied = access.Denied(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        if denied is not None:
            self.error(denied.code, denied.kind, denied.message)

    def _info(self, repo: Repo, commit: str) -> None:
        license = {"license": repo.license} if repo.license else {}
        files = repos.files(self.settings.root, repo.name, commit)
        about = {
            "_id": commit[:24],
            "id": repo.name,
            "modelId": repo.name,
            "author": repo.name.partition("/")[0],
            "sha": commit,
            "private": repo.private,
            "gated": "manual" if repo.gated else False,
            "disabled": False,
            "tags": [f"license:{v}" for v in license.values()],
            "cardData": license,
            "siblings": [{"rfilename": path} for path in files],
            "lastModified": _DATE,
            "createdAt": _DATE,
            "downloads": 0,
            "likes": 0,
        }
        self.json(about, headers={"X-Repo-Commit": commit})

    def _tree(self, repo: Repo, commit: str, under: str) -> None:
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        deep = query.get("recursive", "false").lower() in ("true", "1")
        entries = _entries(repos.files(self.settings.root, repo.name, commit), under, deep=deep)
        if under and not entries:
            self.error(404, "EntryNotFound", f"{under} does not exist on {commit}")
            return
        size = min(int(query.get("limit", self.settings.page)), self.settings.page)
        start = int(query.get("cursor", 0))
        headers = {"X-Repo-Commit": commit}
        if start + size < len(entries):
            following = urlencode({**query, "cursor": start + size})
            headers["Link"] = f'<http://{self.headers["Host"]}{url.path}?{following}>; rel="next"'
        self.json(entries[start : start + size], headers=headers)

    def _file(self, repo: Repo, commit: str, path: str) -> None:
        root, named = self.settings.root, {"X-Repo-Commit": commit}
        denied = access.to_files(self.settings.tokens.who(self.headers.get("Authorization")), repo)
        if denied is not None:
            self.error(denied.code, denied.kind, denied.message)
            return
        fact = repos.files(root, repo.name, commit).get(path)
        if fact is None:
            self.error(404, "EntryNotFound", "Entry not found", named)
        elif fact.sha256 is None:
            self.file(repos.location(root, repo.name, commit, path), {**named, "ETag": f'"{fact.blob_id}"'})
        else:
            host = self.headers["Host"].rpartition(":")[0] or self.headers["Host"]
            where = cdn.signed(repo.name, commit, path, self.settings.link_seconds)
            linked = {"X-Linked-Etag": f'"{fact.sha256}"', "X-Linked-Size": str(fact.size)}
            self.redirect(f"http://{host}:{self.settings.cdn_port}{where}", {**named, **linked})

    def _bench(self, what: str) -> None:
        """The controls: faults and the log."""
        faults, log = self.server.faults, self.server.log
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            match self.command, what:
                case "POST", "faults":
                    faults.add(Fault.parse(json.loads(body)))
                case "DELETE", "faults":
                    faults.clear()
                case "DELETE", "log":
                    log.reset()
                case "GET", "faults" | "log" | "health":
                    pass
                case _:
                    self.error(404, None, "no such control")
                    return
        except (ValueError, TypeError, AttributeError) as e:
            self.error(400, None, str(e))
            return
        self.json(log.listing() if what == "log" else faults.listing())


def _entries(files: Mapping[str, FileFacts], under: str, *, deep: bool) -> list[dict[str, Any]]:
    """The tree below a folder, folders included, as the hub lists it."""
    base = PurePosixPath(under)
    found: dict[str, dict[str, Any]] = {}
    for path, fact in files.items():
        place = PurePosixPath(path)
        if under and base not in place.parents:
            continue
        for folder in reversed([p for p in place.parents if p != base and base in p.parents]):
            if deep or folder.parent == base:
                found[str(folder)] = {"type": "directory", "oid": "0" * 40, "size": 0, "path": str(folder)}
        if deep or place.parent == base:
            found[path] = _entry(fact)
    return [found[path] for path in sorted(found)]


def _entry(fact: FileFacts) -> dict[str, Any]:
    entry = {"type": "file", "oid": fact.blob_id, "size": fact.size, "path": fact.path}
    if fact.sha256 is None:
        return entry
    size = len(repos.pointer(fact.sha256, fact.size))
    return entry | {"lfs": {"oid": fact.sha256, "size": fact.size, "pointerSize": size}}
