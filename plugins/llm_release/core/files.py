"""Which files of a model repository are served, and what identifies them.

Pure: lists in, lists and digests out. What the hub says is read in clients/hub.py; what a volume holds is
checked in jobs/hydrate.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Protocol

from llm_release.core.exitcodes import Code, Refused

WEIGHTS_SUFFIX = ".safetensors"
INDEX_SUFFIX = ".safetensors.index.json"
_WILD = {"**/": "(?:[^/]+/)*", "**": ".*", "*": "[^/]*", "?": "[^/]"}
RESERVED = ".llm-release"
"""Names that start with this are ours on every volume; a repository's file of that name is refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFile:
    """A file at one commit. Its content is pinned by `sha256` (LFS and Xet files) or else by `blob_id`."""

    path: str
    """Relative to the repository's root, with `/`."""
    size: int
    """Bytes."""
    sha256: str | None
    """64 hex of the content; None for files that git holds itself."""
    blob_id: str
    """40 hex: git's id of the content, or of the LFS pointer where `sha256` is given."""

    @property
    def identity(self) -> str:
        """`sha256:...` or `blob:...`: what the bytes on a volume must hash to."""
        return f"sha256:{self.sha256}" if self.sha256 else f"blob:{self.blob_id}"


class Hash(Protocol):
    """What hashlib's objects are."""

    def update(self, data: bytes | memoryview, /) -> None: ...
    def hexdigest(self) -> str: ...


def new_hash(file: RemoteFile) -> Hash:
    """The hash whose hex digest over the content is the file's `sha256`, or else its `blob_id`."""
    if file.sha256:
        return hashlib.sha256()
    return hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)


def select(files: Iterable[RemoteFile], patterns: Sequence[str]) -> tuple[RemoteFile, ...]:
    """The files that match any pattern, sorted by path; no pattern at all selects everything.

    `*` and `?` stop at `/`, `**/` is any depth, a pattern that ends in `/` is everything below. That is
    stricter than `hf download --include`, where `*` crosses folders: repositories keep duplicates of their
    weights in `original/` or `onnx/`, and a served model reads its root.

    Raises:
        Refused: nothing was selected, or a selected path may not be written to a volume.
    """
    every = sorted(files, key=lambda f: f.path)
    found = tuple(f for f in every if not patterns or any(_regex(p).fullmatch(f.path) for p in patterns))
    if not found:
        shown = ", ".join(f.path for f in every[:5]) or "no file at all"
        raise Refused(
            Code.NOT_FOUND,
            f"no file matches {', '.join(patterns) or 'anything'}; the repository has {shown}.",
            next_action="correct model.files in the service spec.",
        )
    folders = {folder.as_posix() for f in found for folder in PurePosixPath(f.path).parents}
    for file, after in zip(found, (*found[1:], None), strict=True):
        if file.path in folders or (after is not None and after.path == file.path):
            raise Refused(
                Code.BAD_INPUT,
                f"the repository lists {file.path!r} twice, or as a file and as a folder.",
                next_action="check the hub's endpoint: no repository can hold that.",
            )
        if not is_safe(file.path):
            raise Refused(
                Code.BAD_INPUT,
                f"the repository lists a file that may not be written: {file.path!r}.",
                next_action="exclude it with model.files, and look at who published it.",
            )
    return found


def is_safe(path: str) -> bool:
    """True for a relative path that stays below the root, in normal form, and is none of our own names."""
    if not path or not path.isprintable() or len(path.encode()) > 1024 or path.startswith(RESERVED):
        return False
    if "\\" in path:
        return False
    return all(part not in ("", ".", "..") and len(part.encode()) <= 255 for part in path.split("/"))


def listing_digest(files: Iterable[RemoteFile]) -> str:
    """`sha256:<hex>` over path, size and identity of every file; the order does not matter."""
    lines = sorted(f"{f.path}\0{f.size}\0{f.identity}\n".encode() for f in files)
    return "sha256:" + hashlib.sha256(b"".join(lines)).hexdigest()


def weights(files: Iterable[RemoteFile]) -> tuple[RemoteFile, ...]:
    return tuple(f for f in files if f.path.endswith(WEIGHTS_SUFFIX))


def weight_bytes(files: Iterable[RemoteFile]) -> int:
    """Bytes of all safetensors files."""
    return sum(f.size for f in weights(files))


def total_bytes(files: Iterable[RemoteFile]) -> int:
    return sum(f.size for f in files)


def indexes(files: Iterable[RemoteFile]) -> tuple[RemoteFile, ...]:
    """The shard indexes among the files; each names the shards that it needs."""
    return tuple(f for f in files if f.path.endswith(INDEX_SUFFIX))


def missing_shards(index_path: str, index_text: str | bytes, present: Iterable[str]) -> tuple[str, ...]:
    """Paths that the shard index names and `present` lacks, sorted; relative to the index's folder.

    Raises:
        Refused: the index is no JSON object with a `weight_map` of texts.
    """
    here = posixpath.dirname(index_path)
    have = set(present)
    needed = {posixpath.join(here, shard) for shard in _shards(index_path, index_text)}
    return tuple(sorted(needed - have))


def _shards(index_path: str, index_text: str | bytes) -> set[str]:
    try:
        document = json.loads(index_text)
        shards = set(document["weight_map"].values())
        if shards and all(isinstance(s, str) for s in shards):
            return shards
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    raise Refused(
        Code.INCOMPLETE_MODEL,
        f"{index_path} is no shard index: it has no weight_map that names files.",
        next_action="pick a revision whose index is valid.",
    )


@lru_cache(maxsize=256)
def _regex(pattern: str) -> re.Pattern[str]:
    if pattern.endswith("/"):
        pattern += "**"
    tokens = re.findall(r"\*\*/|\*\*|\*|\?|[^*?]+", pattern)
    return re.compile("".join(_WILD.get(t) or re.escape(t) for t in tokens), re.DOTALL)
