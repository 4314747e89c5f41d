"""The folder on the volume: what may be in it, room for what comes, and the marker that says it is complete.

Decided here: a folder that holds anything which is not of this release is refused, never tidied; a complete
volume is hashed again in full before it is called complete once more, because sealing cannot be undone.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from llm_release.core.exitcodes import Code, Refused
from llm_release.core.files import RemoteFile
from llm_release.core.spans import Spans
from llm_release.jobs.hydrate import journal as journals
from llm_release.jobs.hydrate import marker
from llm_release.jobs.hydrate.journal import Identity, Journal
from llm_release.jobs.hydrate.writing import unwritable, written

_OURS = {marker.NAME, marker.DRAFT, journals.NAME, journals.DRAFT}
_NOT_A_FILE = {"lost+found"}
"""mkfs.ext4 makes it, only root can read it, and no server looks at it."""
_OWN_BYTES = 1 << 20
"""Room for the journal and the marker."""


class Volume:
    """The folder that one release's files go to.

    Args:
        root: the folder; made when it is not there.
        identity: what it is for.
        files: the listing, in its order.
    """

    def __init__(self, root: Path, identity: Identity, files: Sequence[RemoteFile]) -> None:
        self.root = root
        self.identity = identity
        self.files = files
        self._marked = False

    def inspect(self) -> list[Spans]:
        """What is there of each file, by the account of the marker or of the journal: not verified.

        Raises:
            Refused: the folder holds something else, or cannot be written.
        """
        with written(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            self._refuse_strangers()
            self._marked = marker.read(self.root, self.identity)
            claimed = journals.load(self.root, self.identity, self.files)
            if self._marked:
                claimed = [Spans([(0, f.size)]) for f in self.files]
            elif claimed is None and (left := self._present()):
                raise _strange(self.root, sorted(left))
            sizes = self._present()
        nothing = [Spans() for _ in self.files]
        return [
            h if sizes.get(f.path) == f.size else Spans()
            for f, h in zip(self.files, claimed or nothing, strict=True)
        ]

    def allocate(self) -> None:
        """Makes every file with all its blocks, so that a full disk shows before anything is fetched.

        Raises:
            Refused: no room; what this call made is gone again.
        """
        sizes = self._present()
        lacking = [f for f in self.files if sizes.get(f.path) != f.size]
        needed = sum(f.size for f in lacking) + _OWN_BYTES
        with written(self.root):
            room = os.statvfs(self.root)
            # Blocks of our own unfinished files come back when they are cut.
            free = room.f_bavail * room.f_frsize + sum(sizes.get(f.path, 0) for f in lacking)
        if needed > free:
            raise disk_full(self.root, needed, free)
        made: list[RemoteFile] = []
        try:
            for file in lacking:
                made.append(file)
                self._allocate(file)
        except OSError as e:
            for file in made:
                self.path(file).unlink(missing_ok=True)
            if e.errno in (errno.ENOSPC, errno.EDQUOT):
                raise disk_full(self.root, needed, free) from e
            raise unwritable(self.root, e) from e

    def path(self, file: RemoteFile) -> Path:
        return self.root / file.path

    def open(self, file: RemoteFile) -> int:
        """A descriptor to read and write the file with; the caller closes it."""
        return os.open(self.path(file), os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)

    def forget(self, file: RemoteFile) -> None:
        """Wrong bytes do not stay: the file is cut to nothing and given fresh blocks."""
        with written(self.root):
            fd = self.open(file)
            try:
                os.ftruncate(fd, 0)
                _fill(fd, file.size)
            finally:
                os.close(fd)

    def remove(self, file: RemoteFile) -> None:
        with written(self.root):
            self.path(file).unlink(missing_ok=True)

    def unmark(self) -> None:
        """The volume is not complete (any more); durable before anything is changed."""
        if not self._marked:
            return
        with written(self.root):
            (self.root / marker.NAME).unlink(missing_ok=True)
            sync_folder(self.root)
            self._marked = False

    def complete(self, journal: Journal) -> None:
        """Folders to the disk, then the marker, then the journal goes. The files are on the disk already.

        Raises:
            Refused: something came into the folder that is not of this release.
        """
        with written(self.root):
            self._refuse_strangers()
            if not self._marked:
                for folder in sorted({p for f in self.files for p in self.path(f).parents}, reverse=True):
                    if folder == self.root or self.root in folder.parents:
                        sync_folder(folder)
                marker.write(self.root, self.identity, self.files)
                sync_folder(self.root)
                self._marked = True
                sync_folder(self.root.parent)
            journal.remove()
            sync_folder(self.root)

    def _present(self) -> dict[str, int]:
        """Sizes of the regular files, by path; without our own."""
        return {path: status.st_size for path, status in self._walk() if stat.S_ISREG(status.st_mode)}

    def _refuse_strangers(self) -> None:
        listed = {f.path for f in self.files}
        strangers = [
            path for path, status in self._walk() if path not in listed or not stat.S_ISREG(status.st_mode)
        ]
        if strangers:
            raise _strange(self.root, strangers)

    def _walk(self) -> Iterator[tuple[str, os.stat_result]]:
        folders = [self.root]
        while folders:
            for entry in sorted(os.scandir(folders.pop()), key=lambda e: e.name):
                path = Path(entry.path).relative_to(self.root).as_posix()
                if path in _OURS or path in _NOT_A_FILE:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    folders.append(Path(entry.path))
                else:
                    yield path, entry.stat(follow_symlinks=False)

    def _allocate(self, file: RemoteFile) -> None:
        path = self.path(file)
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        try:
            _fill(fd, file.size)
        finally:
            os.close(fd)


def _fill(fd: int, size: int) -> None:
    if size:
        os.posix_fallocate(fd, 0, size)


def sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def disk_full(root: Path, needed: int, free: int) -> Refused:
    return Refused(
        Code.DISK_FULL,
        f"the volume at {root} is too small: {needed} bytes are needed, {free} are free.",
        next_action=f"make a volume with at least {needed - free} bytes more.",
    )


def _strange(root: Path, paths: Sequence[str]) -> Refused:
    return Refused(
        Code.FOREIGN_VOLUME,
        f"{root} holds {len(paths)} things that are not of this release: {', '.join(paths[:3])}.",
        next_action="give the release an empty volume; nothing was removed.",
    )
