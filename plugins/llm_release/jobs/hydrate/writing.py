"""Errors of the file system that a volume is on, as ours: which of them a retry would help, and which not."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

from llm_release.core.errors import ReleaseError, Transient
from llm_release.core.exitcodes import Code, Refused


@contextlib.contextmanager
def written(what: Path | str) -> Iterator[None]:
    """Errors of the file system leave as ours.

    Args:
        what: the volume's folder, or in words what is being written.
    """
    try:
        yield
    except OSError as e:
        raise unwritable(what, e) from e


def unwritable(what: Path | str, e: OSError) -> ReleaseError:
    name = f"the volume at {what}" if isinstance(what, Path) else what
    if e.errno in (errno.ENOSPC, errno.EDQUOT):
        return Refused(Code.DISK_FULL, f"{name} is full: {e.strerror}.", next_action="make a larger volume.")
    if e.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return Refused(
            Code.VOLUME_UNWRITABLE,
            f"{name} cannot be written: {e.strerror}.",
            next_action="mount it read-write, with the job's group as fsGroup.",
        )
    return Transient(f"{name} failed: {e.strerror or e}.", next_action="look at the disk; it is tried again.")
