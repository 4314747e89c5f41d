"""Turns names into bytes: a branch into a commit with its files, tags into digests. Reads only.

Whatever would fail an hour later for a reason that is known now is refused here: a repository without
safetensors, code that would have to be trusted, a licence that may not be served, a missing shard.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from llm_release.clients.hub import ModelRevision
from llm_release.core import files as listing
from llm_release.core.errors import Permanent
from llm_release.core.files import RemoteFile
from llm_release.core.release import Release, release_id
from llm_release.steps.world import World

INDEX_LIMIT = 64 << 20
"""Bytes; the shard index of the largest open models is 9 MB."""


@dataclass(frozen=True, slots=True)
class Resolved:
    STEP: ClassVar[str] = "open.resolve"
    release: Release


def run(world: World) -> Resolved:
    spec, cluster = world.spec, world.cluster
    revision = world.request.revision or spec.model.revision
    found = world.hub.model(spec.model.repo, revision)
    chosen = listing.select(found.files, spec.model.files)
    _check(world, found, chosen)
    digest = listing.listing_digest(chosen)
    tag = world.request.image or spec.engine.image
    image = world.registry.digest(tag)
    weights = [f for f in chosen if f.path.endswith(".safetensors")]
    release = Release(
        id=release_id(spec, commit=found.commit, listing=digest, image=image),
        service=spec.service,
        cluster=cluster.cluster,
        namespace=spec.namespace,
        repo=spec.model.repo,
        revision=revision,
        commit=found.commit,
        listing=digest,
        weight_bytes=sum(f.size for f in weights),
        total_bytes=sum(f.size for f in chosen),
        files=len(chosen),
        gated=found.gated or found.private,
        license=found.license,
        image=image,
        image_tag=tag,
        toolbox=world.registry.digest(cluster.toolbox),
        zone=spec.weights.zones[0],
        probe_file=min(weights, key=lambda f: f.size).path,
    )
    world.log(f"release={release.id} repo={release.repo} revision={revision} commit={release.commit}")
    world.log(
        f"files={release.files} bytes={release.total_bytes} license={release.license} gated={release.gated}"
    )
    world.log(f"image={release.image} toolbox={release.toolbox}")
    return Resolved(release)


def _check(world: World, found: ModelRevision, chosen: tuple[RemoteFile, ...]) -> None:
    model, commit = world.spec.model, found.commit
    where = f"{model.repo} at {commit[:12]}"
    if not any(f.path.endswith(".safetensors") for f in chosen):
        raise Permanent(
            f"{where} has no safetensors files among those chosen by model.files.",
            next_action="choose a repository (or revision) with safetensors, or correct model.files.",
        )
    code = [f.path for f in found.files if f.path.endswith(".py")]
    if code and not model.trust_remote_code:
        raise Permanent(
            f"{where} carries code ({', '.join(code[:3])}).",
            next_action="read that code, then set model.trust_remote_code: true, or choose another repository.",
        )
    if model.licenses and found.license not in model.licenses:
        raise Permanent(
            f"{where} has the licence {found.license or 'unknown'}; model.licenses allows {', '.join(model.licenses)}.",
            next_action="add the licence to model.licenses if it may be served.",
        )
    if found.gated or found.private:
        return  # the index is not for us to read; the hydrator checks it, with the token
    for index in listing.indexes(chosen):
        text = world.hub.read_small(model.repo, commit, index.path, limit=INDEX_LIMIT)
        missing = listing.missing_shards(index.path, text, [f.path for f in chosen])
        if missing:
            raise Permanent(
                f"{where} lacks {len(missing)} of the shards that {index.path} names ({missing[0]}, ...).",
                next_action="choose a complete revision.",
            )
