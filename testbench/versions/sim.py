"""Folders for the simulated engine: real enough for every check before the engine reads sim.json.

The weights are valid safetensors of a few megabytes with stable bytes, so that commits stay the same.
"""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from testbench.versions.answers import TEMPLATE, A, B

_WEIGHTS_BYTES = 3 << 20
BEHAVIOURS: Mapping[str, Mapping[str, Any]] = {
    "v1": {"answers": A, "token_seconds": 0.005},
    "v2": {"answers": B, "token_seconds": 0.005},
    "garbage": {"answers": A, "garbage": True},
    "crash": {"answers": A, "crash": True, "start_seconds": 1},
    "late": {"answers": A, "start_seconds": 60},
    "slow": {"answers": A, "start_seconds": 5, "token_seconds": 0.3, "max_concurrent": 2},
}
"""By branch of acme/sim."""


def base(to: Path, seed: str, behaviour: Mapping[str, Any] | None = None) -> Path:
    """Fills a folder with a whole model: configuration, tokenizer, weights, sim.json. Returns it."""
    config = {
        "architectures": ["Gemma2ForCausalLM"],
        "model_type": "gemma2",
        "dtype": "bfloat16",
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 32,
        "vocab_size": 557,
        "max_position_embeddings": 4096,
    }
    words = {"bos_token": "<bos>", "eos_token": "<eos>", "tokenizer_class": "GemmaTokenizer"}
    write(to / "config.json", config)
    write(to / "generation_config.json", {"bos_token_id": 2, "eos_token_id": [1, 5], "pad_token_id": 0})
    write(to / "tokenizer_config.json", {**words, "chat_template": TEMPLATE})
    write(to / "sim.json", behaviour or BEHAVIOURS["v1"])
    weights(to / "model.safetensors", seed)
    return to


def weights(path: Path, seed: str, tensor: str = "model.embed_tokens.weight") -> None:
    """One tensor of random bytes, the same for the same seed."""
    rows = _WEIGHTS_BYTES // 128
    about = {tensor: {"dtype": "BF16", "shape": [rows, 64], "data_offsets": [0, _WEIGHTS_BYTES]}}
    header = json.dumps(about).encode()
    header += b" " * (-len(header) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(header)) + header + random.Random(seed).randbytes(_WEIGHTS_BYTES))


def without_safetensors(to: Path) -> None:
    """Weights as a pickle only."""
    base(to, "no-safetensors")
    (to / "model.safetensors").rename(to / "pytorch_model.bin")


def with_code(to: Path) -> None:
    """A model that would have to be trusted with code."""
    base(to, "with-code")
    config = json.loads((to / "config.json").read_bytes())
    auto = {"AutoModelForCausalLM": "modeling_acme.AcmeForCausalLM"}
    write(to / "config.json", {**config, "architectures": ["AcmeForCausalLM"], "auto_map": auto})
    code = "import torch\n\n\nclass AcmeForCausalLM(torch.nn.Module):\n    pass\n"
    (to / "modeling_acme.py").write_text(code, encoding="utf-8")


def missing_shard(to: Path) -> None:
    """The index names two shards; one is there."""
    base(to, "missing-shard")
    (to / "model.safetensors").rename(to / "model-00001-of-00002.safetensors")
    names = {"model.embed_tokens.weight": 1, "model.norm.weight": 2}
    where = {name: f"model-{n:05}-of-00002.safetensors" for name, n in names.items()}
    total = {"total_size": 2 * _WEIGHTS_BYTES}
    write(to / "model.safetensors.index.json", {"metadata": total, "weight_map": where})


def without_template(to: Path) -> None:
    """A base model: no chat template anywhere."""
    base(to, "no-template")
    words = json.loads((to / "tokenizer_config.json").read_bytes())
    del words["chat_template"]
    write(to / "tokenizer_config.json", words)


def many_files(to: Path) -> None:
    """Several pages of a listing."""
    base(to, "many-files")
    for n in range(300):
        write(to / "extra" / f"note-{n:03}.json", {"note": n})


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
