"""Who may read what: tokens, gates and private repositories, in the hub's own words and codes.

Of a gated repository the facts are public and the files are not; a check that lists files proves nothing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from testbench.fakes.hf_hub.repos import Repo

Who = Literal["anonymous", "good", "no_terms", "invalid"]


@dataclass(frozen=True, slots=True)
class Denied:
    """An answer other than the thing itself."""

    code: int
    kind: str | None
    message: str


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens that the hub knows."""

    good: frozenset[str] = frozenset({"hf_good"})
    no_terms: frozenset[str] = frozenset({"hf_noterms"})
    """Valid, of an account that has not accepted the terms of gated models."""

    @classmethod
    def load(cls, path: Path) -> Tokens:
        found = json.loads(path.read_bytes())
        return cls(frozenset(found.get("good", ())), frozenset(found.get("no_terms", ())))

    def who(self, header: str | None) -> Who:
        """Whose request this is, from its Authorization header."""
        if not header:
            return "anonymous"
        token = header.removeprefix("Bearer ").strip()
        if token in self.good:
            return "good"
        return "no_terms" if token in self.no_terms else "invalid"


def to_repo(who: Who, repo: Repo | None) -> Denied | None:
    """Whether the facts of a repository may be read. A private one looks like none."""
    if who == "invalid":
        return Denied(401, None, "Invalid credentials in Authorization header")
    if repo is None or (repo.private and who != "good"):
        if who == "anonymous":
            return Denied(401, "RepoNotFound", "Invalid username or password.")
        return Denied(404, "RepoNotFound", "Repository not found")
    return None


def to_files(who: Who, repo: Repo) -> Denied | None:
    """Whether the files of a repository whose facts are readable may be downloaded."""
    if not repo.gated or who == "good":
        return None
    if who == "anonymous":
        message = (
            f"Access to model {repo.name} is restricted. You must have access to it and be authenticated "
        )
        return Denied(401, "GatedRepo", message + "to access it. Please log in.")
    message = f"Access to model {repo.name} is restricted and you are not in the authorized list. "
    return Denied(403, "GatedRepo", message + f"Visit /{repo.name} to ask for access.")
