"""The marker: the file that says what a complete volume holds. Serving pods are identified by it."""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Sequence
from pathlib import Path

from llm_release.core.exitcodes import Code, Refused
from llm_release.core.files import RemoteFile
from llm_release.jobs.hydrate.journal import Identity

NAME = ".llm-release.json"
DRAFT = f"{NAME}.new"
TOOL = "llm-release-hydrate/1"


def write(root: Path, identity: Identity, files: Sequence[RemoteFile]) -> None:
    """Puts the marker into `root`, whole or not at all; the folder is the caller's to sync."""
    draft = root / DRAFT
    with draft.open("w") as file:
        json.dump(_document(identity, files), file, indent=1)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    draft.replace(root / NAME)


def read(root: Path, identity: Identity) -> bool:
    """Whether `root` has a marker.

    Raises:
        Refused: it has one, of something else than `identity`.
    """
    try:
        found = json.loads((root / NAME).read_bytes())
    except FileNotFoundError:
        return False
    except ValueError:
        found = None
    said = found if isinstance(found, dict) else {}
    wanted = (identity.release, identity.commit, identity.listing)
    if (said.get("release"), said.get("commit"), said.get("listing")) == wanted:
        return True
    raise Refused(
        Code.FOREIGN_VOLUME,
        f"{root} holds release {said.get('release')} of {said.get('repo')}.",
        next_action="give every release a volume of its own.",
    )


def _document(identity: Identity, files: Sequence[RemoteFile]) -> dict[str, object]:
    return {
        "release": identity.release,
        "repo": identity.repo,
        "commit": identity.commit,
        "listing": identity.listing,
        "files": [_entry(f) for f in files],
        "tool": TOOL,
        "written_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _entry(file: RemoteFile) -> dict[str, object]:
    identity = {"sha256": file.sha256} if file.sha256 else {"blob_id": file.blob_id}
    return {"path": file.path, "size": file.size, **identity}
