"""The repositories that bench and tests release: each odd one is odd in exactly its way, and commits stay."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from testbench.fakes.hf_hub.server import Pair, build
from testbench.versions import publish


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    to = tmp_path_factory.mktemp("hub")
    publish.publish_sims(to)
    return to


@pytest.fixture(scope="module")
def hub(root: Path) -> Iterator[Pair]:
    pair = build(root)
    pair.start()
    yield pair
    pair.stop()


def names(hub: Pair, repo: str, revision: str = "main") -> set[str]:
    entries = HfApi(endpoint=hub.url, token=False).list_repo_tree(repo, revision=revision, recursive=True)
    return {e.path for e in entries}


def small(root: Path, repo: str, path: str) -> dict[str, object]:
    commit = json.loads((root / repo / "repo.json").read_bytes())["branches"]["main"]
    content: dict[str, object] = json.loads((root / repo / "commits" / commit / "files" / path).read_bytes())
    return content


def test_commits_are_the_same_on_every_machine(root: Path, tmp_path: Path) -> None:
    first = publish.publish_sims(root)
    assert publish.publish_sims(tmp_path) == first
    assert len(set(first.values())) == len(first) - 1, "main is v1, and no other two are alike"


def test_a_simulated_version_is_a_whole_model(hub: Pair) -> None:
    assert {"config.json", "tokenizer_config.json", "model.safetensors", "sim.json"} <= names(
        hub, "acme/sim", "v1"
    )


def test_weights_are_valid_safetensors(root: Path) -> None:
    for path in root.glob("*/*/commits/*/files/*.safetensors"):
        data = path.read_bytes()
        (length,) = struct.unpack("<Q", data[:8])
        tensors = json.loads(data[8 : 8 + length])
        assert max(t["data_offsets"][1] for t in tensors.values()) == len(data) - 8 - length


def test_each_odd_repository_lacks_what_its_name_says(hub: Pair, root: Path) -> None:
    assert not [n for n in names(hub, "acme/no-safetensors") if n.endswith(".safetensors")]
    assert "modeling_acme.py" in names(hub, "acme/with-code")
    assert "chat_template" not in small(root, "acme/no-template", "tokenizer_config.json")
    weights = small(root, "acme/missing-shard", "model.safetensors.index.json")["weight_map"]
    assert isinstance(weights, dict)
    assert len(set(weights.values()) - names(hub, "acme/missing-shard")) == 1
    assert len(names(hub, "acme/many-files")) > 300


def test_the_gated_one_is_gated(hub: Pair) -> None:
    assert HfApi(endpoint=hub.url, token=False).model_info("acme/gated").gated == "manual"
