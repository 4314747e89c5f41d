"""Repositories on disk: what the fake hub serves, and how a folder becomes a commit of one.

A repository is `ROOT/<owner>/<name>/repo.json` (branches, tags, gates) beside
`commits/<sha>/{files/,index.json}`. Identities are the real ones (git blob ids, SHA-256 of LFS files),
because clients verify downloads with them; they are computed once, at publication. The commit id comes
from the content alone, so that a test can name it before and after the bench was rebuilt.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

LFS_ABOVE = 1 << 20
COMMIT = re.compile(r"[0-9a-f]{40}")
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True, slots=True)
class FileFacts:
    """One file of a commit."""

    path: str
    size: int
    blob_id: str
    """Git's id of the file, or of its pointer if it is an LFS file."""
    sha256: str | None
    """None: kept in git itself."""


@dataclass(frozen=True, slots=True)
class Repo:
    """A repository's settings: the content of repo.json."""

    name: str
    branches: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    gated: bool = False
    private: bool = False
    license: str | None = None


def read(root: Path, name: str) -> Repo | None:
    """The repository as it is now: read anew each time, so that a publication shows at once."""
    if not _NAME.fullmatch(name):
        return None
    try:
        found: dict[str, Any] = json.loads((root / name / "repo.json").read_bytes())
    except FileNotFoundError:
        return None
    return Repo(**found)


def resolve(root: Path, repo: Repo, revision: str) -> str | None:
    """The commit that a branch, a tag or a commit id names."""
    named = repo.branches.get(revision) or repo.tags.get(revision)
    if named:
        return named
    known = COMMIT.fullmatch(revision) and _commit(root, repo.name, revision).is_dir()
    return revision if known else None


def files(root: Path, repo: str, commit: str) -> Mapping[str, FileFacts]:
    """Every file of a commit, by path, sorted."""
    return _index(_commit(root, repo, commit) / "index.json")


def location(root: Path, repo: str, commit: str, path: str) -> Path:
    """Where the bytes of a file are."""
    return _commit(root, repo, commit) / "files" / path


def publish(
    root: Path,
    repo: str,
    folder: Path,
    branch: str = "main",
    *,
    tag: str | None = None,
    gated: bool = False,
    private: bool = False,
    license: str | None = None,
    link: bool = False,
) -> str:
    """Makes the files of `folder` the head of `branch`. The first publication is also `main`.

    Args:
        root: the hub's folder.
        repo: owner/name.
        folder: what to publish; hidden files too.
        branch: made if there is none.
        tag: also name the commit so.
        gated, private, license: of the whole repository from now on.
        link: hard-link the files instead of copying; whoever writes them in place later breaks the hub.

    Returns:
        The commit id.
    """
    if not _NAME.fullmatch(repo):
        raise ValueError(f"{repo!r} is not owner/name")
    facts = [_facts(folder, path) for path in sorted(folder.rglob("*")) if path.is_file()]
    facts.sort(key=lambda f: f.path)
    lines = [repo, *(f"{f.path}\0{f.size}\0{f.blob_id}" for f in facts)]
    commit = hashlib.sha1("\n".join(lines).encode()).hexdigest()
    if not _commit(root, repo, commit).is_dir():
        _store(_commit(root, repo, commit), folder, facts, link=link)
    before = read(root, repo) or Repo(repo)
    branches = {"main": commit, **before.branches, branch: commit}
    tags = {**before.tags, tag: commit} if tag else before.tags
    after = replace(
        before, branches=branches, tags=tags, gated=gated, private=private, license=license or before.license
    )
    _write(root / repo / "repo.json", asdict(after))
    return commit


def _commit(root: Path, repo: str, commit: str) -> Path:
    return root / repo / "commits" / commit


@functools.lru_cache(maxsize=256)
def _index(path: Path) -> Mapping[str, FileFacts]:
    return {entry["path"]: FileFacts(**entry) for entry in json.loads(path.read_bytes())}


def _facts(folder: Path, path: Path) -> FileFacts:
    name, size = path.relative_to(folder).as_posix(), path.stat().st_size
    if size <= LFS_ABOVE and path.suffix != ".safetensors":
        return FileFacts(name, size, _blob_id(path.read_bytes()), None)
    with path.open("rb") as f:
        sha256 = hashlib.file_digest(f, "sha256").hexdigest()
    return FileFacts(name, size, _blob_id(pointer(sha256, size)), sha256)


def pointer(sha256: str, size: int) -> bytes:
    """What git holds in place of an LFS file."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


def _blob_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _store(commit: Path, folder: Path, facts: list[FileFacts], *, link: bool) -> None:
    part = commit.with_name(f"{commit.name}.{os.getpid()}.part")
    shutil.rmtree(part, ignore_errors=True)
    for fact in facts:
        to = part / "files" / fact.path
        to.parent.mkdir(parents=True, exist_ok=True)
        if link:
            os.link(folder / fact.path, to)
        else:
            shutil.copyfile(folder / fact.path, to)
    part.mkdir(parents=True, exist_ok=True)
    _write(part / "index.json", [asdict(f) for f in facts])
    part.rename(commit)


def _write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_text(json.dumps(content, indent=1), encoding="utf-8")
    part.replace(path)
