"""Compares what two folders hold, down to what copies lose."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import Any


def tree(root: Path, *, unpacked_since: float) -> dict[str, dict[str, Any]]:
    """Everything about every file below `root` and the root itself, by its path; hard links as groups of names.

    Args:
        unpacked_since: Unix seconds. Later times are no part of the layer (whiteouts, folders that it does not
            name) and differ from unpack to unpack: they are shown as "unpacked".
    """
    found: dict[bytes, dict[str, Any]] = {}
    links: dict[tuple[int, int], list[str]] = {}
    top = os.fsencode(root)
    for folder, folders, files in os.walk(top):
        for name in [b"", *folders, *files] if folder == top else [*folders, *files]:
            path = os.path.join(folder, name) if name else folder
            status = os.lstat(path)
            shown = os.path.relpath(path, top)
            if stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
                links.setdefault((status.st_dev, status.st_ino), []).append(os.fsdecode(shown))
            found[shown] = {
                "mode": oct(status.st_mode),
                "owner": (status.st_uid, status.st_gid),
                "device": status.st_rdev,
                "mtime": status.st_mtime_ns if status.st_mtime < unpacked_since else "unpacked",
                "xattrs": {
                    k: os.getxattr(path, k, follow_symlinks=False)
                    for k in sorted(os.listxattr(path, follow_symlinks=False))
                },
                "content": _content(path, status.st_mode),
            }
    result = {os.fsdecode(name): about for name, about in found.items()}
    for names in links.values():
        for name in names:
            result[name]["links"] = sorted(names)
    return result


def _content(path: bytes, mode: int) -> str:
    if stat.S_ISLNK(mode):
        return os.fsdecode(os.readlink(path))
    if stat.S_ISREG(mode):
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    return ""
