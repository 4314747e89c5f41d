"""A release that is pinned, for steps that are run against fakes."""

from __future__ import annotations

from llm_release.core.release import Release

DIGEST = "sha256:" + "0123456789abcdef" * 4


def release(service: str = "sim", **changed: object) -> Release:
    fields: dict[str, object] = {
        "id": "0123456789",
        "service": service,
        "cluster": "demo",
        "namespace": "llm",
        "repo": "acme/sim",
        "revision": "v1",
        "commit": "c" * 40,
        "listing": "sha256:" + "a" * 64,
        "weight_bytes": 1 << 30,
        "total_bytes": 1 << 30,
        "files": 3,
        "gated": False,
        "license": None,
        "image": f"registry.example/engine@{DIGEST}",
        "image_tag": "registry.example/engine:v1",
        "toolbox": f"registry.example/toolbox@{DIGEST}",
        "zone": "us-central1-a",
        "probe_file": "model.safetensors",
    }
    return Release(**{**fields, **changed})  # type: ignore[arg-type]
