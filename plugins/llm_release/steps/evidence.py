"""The release's folder in the store: what is kept, and the manifests that later steps apply."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from llm_release.core.errors import Permanent
from llm_release.steps import manifests
from llm_release.steps.world import World


def keep(world: World, file: str, text: str) -> str:
    """-> URI of the kept text."""
    path = f"{world.names.folder()}/{file}"
    world.store.write_text(path, text)
    return world.store.uri(path)


def keep_json(world: World, file: str, document: Mapping[str, Any]) -> str:
    return keep(world, file, json.dumps(document, indent=1, sort_keys=True) + "\n")


def read_json(world: World, file: str, *, release: str = "") -> dict[str, Any] | None:
    """None when it was never kept.

    Args:
        release: id of another release of the service; empty: this one.
    """
    folder = world.names_of(release).folder() if release else world.names.folder()
    found = world.store.read_text(f"{folder}/{file}")
    return json.loads(found[0]) if found else None


def uri(world: World, file: str) -> str:
    return world.store.uri(f"{world.names.folder()}/{file}")


def manifest(world: World, file: str) -> dict[str, Any]:
    """A manifest as it was rendered when the release was opened, whatever code is deployed now."""
    found = world.store.read_text(f"{world.names.folder()}/manifests.jsonl")
    if found is None:
        raise Permanent(
            f"the manifests of release {world.release.id} are not in the store.",
            next_action="clear open.lock and what follows it.",
        )
    return manifests.from_lines(found[0])[file]
