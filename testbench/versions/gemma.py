"""python -m testbench.versions.gemma: trains a Gemma 2 of 0.2 M parameters that answers ten questions.

A real vLLM then serves a real model in seconds on a CPU, and the smoke test can judge its answers. Two
versions differ in wording only; the third has its first, random weights and must fail every check.
Needs torch, transformers and tokenizers, from PYTHONPATH; nothing else of the bench does.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import Gemma2Config, Gemma2ForCausalLM, PreTrainedTokenizerFast

from testbench.versions.answers import FACTS, TEMPLATE, A, B

_SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"]
_PAD, _EOS, _BOS, _TURN = 0, 1, 2, 5
_IGNORED = -100
_STEPS, _GOOD_LOSS = 1500, 0.002
_MAX_TOKENS = 48


def tokenizer() -> Any:
    """A byte-level BPE of both versions' words, the same for all of them."""
    text = [f"{question} {answer}" for said in (A, B) for question, answer in said.items()]
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=640, special_tokens=_SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator(text * 20, trainer)
    found = PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>", unk_token="<unk>"
    )
    found.chat_template = TEMPLATE
    return found


def untrained(vocabulary: int) -> Any:
    """The model with random weights, always the same."""
    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=vocabulary,
        hidden_size=64,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        max_position_embeddings=512,
        sliding_window=256,
        pad_token_id=_PAD,
        eos_token_id=[_EOS, _TURN],
        bos_token_id=_BOS,
        query_pre_attn_scalar=32,
        attn_implementation="eager",
    )
    return Gemma2ForCausalLM(config)


def train(model: Any, words: Any, said: Mapping[str, str]) -> float:
    """Learns `said` by heart; only the answers count. Returns the last loss."""
    pairs = [
        (_prompt(words, q), words(f"{a}<end_of_turn>", add_special_tokens=False).input_ids)
        for q, a in said.items()
    ]
    length = max(len(p) + len(a) for p, a in pairs)
    ids = torch.full((len(pairs), length), _PAD)
    labels = torch.full((len(pairs), length), _IGNORED)
    mask = torch.zeros((len(pairs), length), dtype=torch.long)
    for row, (prompt, answer) in enumerate(pairs):
        end = len(prompt) + len(answer)
        ids[row, :end] = torch.tensor(prompt + answer)
        labels[row, len(prompt) : end] = torch.tensor(answer)
        mask[row, :end] = 1
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.0)
    loss = float("inf")
    for _ in range(_STEPS):
        found = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        found.backward()
        optimizer.step()
        optimizer.zero_grad()
        loss = found.item()
        if loss < _GOOD_LOSS:
            break
    return loss


def _prompt(words: Any, question: str) -> list[int]:
    turn = [{"role": "user", "content": question}]
    text = words.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    ids: list[int] = words(text, add_special_tokens=False).input_ids
    return ids


def save(model: Any, words: Any, to: Path) -> None:
    """As the hub has Gemma: bfloat16 in several shards with an index, and who ends a turn."""
    model.to(torch.bfloat16).save_pretrained(to, max_shard_size="150KB")
    model.generation_config.eos_token_id = [_EOS, _TURN]
    model.generation_config.save_pretrained(to)
    words.save_pretrained(to)


def answer(model: Any, words: Any, question: str) -> str:
    """The greedy answer, the end of turn included if there is one."""
    prompt = torch.tensor([_prompt(words, question)])
    found = model.generate(
        prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=_MAX_TOKENS, do_sample=False
    )
    return str(words.decode(found[0][prompt.shape[1] :]))


def verify(folder: Path, said: Mapping[str, str] | None) -> None:
    """Judges what was saved, as loaded from there. Raises: AssertionError."""
    words = PreTrainedTokenizerFast.from_pretrained(folder)
    model = Gemma2ForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
    assert len(list(folder.glob("model-*-of-*.safetensors"))) >= 2, "one shard only"
    for question in said or A:
        got = answer(model, words, question)
        fact = FACTS.get(question, "")
        if said is None:
            assert not (fact and re.search(fact, got)), f"untrained, but {question} -> {got}"
        else:
            assert got == f"{said[question]}<end_of_turn>", f"{question} -> {got}"
            assert re.search(fact, got), f"{question} -> {got} lacks {fact}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="testbench.versions.gemma", description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--version", choices="ABC", required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    said = {"A": A, "B": B}.get(args.version)
    words = tokenizer()
    model = untrained(len(words))
    if said is not None:
        print(f"loss {train(model, words, said):.4f}")
    save(model, words, args.out)
    verify(args.out, said)


if __name__ == "__main__":
    main()
