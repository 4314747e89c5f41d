"""Is what a model says fit to be served? Rules on fixed prompts, no second model, no network.

A model that is broken in the usual ways (wrong template, base instead of instruction-tuned, damaged or
untrained weights, an engine that writes garbage) has healthy pods and breaks at least one of these rules:
it does not answer the question, does not stop, repeats itself, goes on to play the user, or writes
characters that are no text.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from llm_release.core.strict import Invalid, decode

Value = Literal["PASS", "FAIL", "INVALID"]

MAX_ODD_CHARACTERS = 0.02
"""Share of characters that are no text. One broken emoji in a sentence is less."""
MAX_SCRIPTS = 3
"""Of letters in one answer: a sentence with a name in another script has two."""
MAX_REPEATS = 4
"""Of the same words in a row; `ha ha ha` is three."""
_MIN_LOOP = 24
"""Characters that the repeats must cover: `no, no, no, no` is no loop."""
_RULERS = set("-=_*.#~+| \n")
"""Characters whose repetition is formatting."""
_MARKERS = re.compile(
    r"<\|?(?:im_start|im_end|start_of_turn|end_of_turn|eot_id|start_header_id|end_header_id|endoftext|begin_of_text"
    r"|assistant|user|system|bos|eos|pad|unk|unused\d+|s|/s)\|?>|\[/?INST\]|<</?SYS>>"
)
_ROLE_LINE = re.compile(r"^\s*(?:user|assistant|model|human|system)\s*:?\s*$", re.IGNORECASE | re.MULTILINE)
_UNREACHED = ("dns", "connect_refused", "connect_timeout", "tls", "local_resource")


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """One question and what its answer must be like. Texts are compared without regard to case."""

    name: str
    messages: tuple[Message, ...] = ()
    prompt: str | None = None
    """Instead of messages: plain text, for models that are not chat models."""
    must_contain: tuple[str, ...] = ()
    must_not_contain: tuple[str, ...] = ()
    must_match: str | None = None
    """Regular expression, searched in the answer."""
    max_tokens: int = 64
    must_stop: bool = True
    """The model has to end the answer itself, before `max_tokens`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompts:
    prompts: tuple[Prompt, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back for a prompt."""

    text: str
    finish_reason: str | None
    error: str | None = None
    """Class of the error (clients/inference.py); None when there was none."""
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """Of a whole set. INVALID: the engine could not be asked; nothing is said about the model."""

    verdict: Value
    passed: int
    total: int
    reasons: tuple[str, ...]


def parse_prompts(document: Any, name: str) -> tuple[Prompt, ...]:
    """The prompts of a prompts file.

    Args:
        document: the file as plain data.
        name: of the file, for messages.

    Raises:
        Invalid: with the path of what is wrong.
    """
    found = decode(Prompts, document).prompts
    if not found:
        raise Invalid("prompts", "is empty", document=name)
    if len({p.name for p in found}) < len(found):
        raise Invalid("prompts", "two prompts have the same name", document=name)
    for n, prompt in enumerate(found):
        if bool(prompt.messages) == (prompt.prompt is not None):
            raise Invalid(f"prompts[{n}]", "needs either messages or prompt", document=name)
        if prompt.max_tokens < 1:
            raise Invalid(f"prompts[{n}].max_tokens", "must be at least 1", document=name)
        try:
            re.compile(prompt.must_match or "")
        except re.error as e:
            raise Invalid(f"prompts[{n}].must_match", f"is no regular expression: {e}", document=name) from e
    return found


def judge(prompt: Prompt, answer: Answer) -> tuple[str, ...]:
    """What is wrong with the answer, one sentence each; nothing when it is good."""
    if answer.error:
        said = f": {answer.detail}" if answer.detail else ""
        return (f"{prompt.name}: no answer ({answer.error}{said}).",)
    text = answer.text
    if not text.strip():
        return (f"{prompt.name}: the answer is empty.",)
    folded, wrong = text.casefold(), []
    wrong += [f"does not contain {t!r}" for t in prompt.must_contain if t.casefold() not in folded]
    wrong += [f"contains {t!r}" for t in prompt.must_not_contain if t.casefold() in folded]
    if prompt.must_match and not re.search(prompt.must_match, text):
        wrong.append(f"does not match {prompt.must_match!r}")
    if prompt.must_stop and answer.finish_reason != "stop":
        wrong.append(f"did not stop by itself within {prompt.max_tokens} tokens ({answer.finish_reason})")
    wrong += [w for w in (_garbage(text), _echo(text), _loop(text)) if w]
    return tuple(f"{prompt.name}: {w}: {_short(text)}" for w in wrong)


def judge_all(prompts: Sequence[Prompt], answers: Sequence[Answer]) -> Judgement:
    """The verdict on all answers, in the order of the prompts."""
    wrong = [judge(p, a) for p, a in zip(prompts, answers, strict=True)]
    passed = sum(not w for w in wrong)
    reasons = [reason for w in wrong for reason in w]
    unreached = [a for a in answers if a.error in _UNREACHED]
    texts = {a.text.strip() for a in answers}
    if len(answers) >= 3 and len(texts) == 1 and texts != {""}:
        reasons.insert(0, f"every prompt has the same answer: {_short(answers[0].text)}")
        passed = 0
    if not answers:
        return Judgement(verdict="INVALID", passed=0, total=0, reasons=("no prompt was asked.",))
    value: Value = "PASS" if not reasons else "FAIL"
    if unreached and len(reasons) == len(unreached):
        value = "INVALID"
    return Judgement(verdict=value, passed=passed, total=len(answers), reasons=tuple(reasons))


def _garbage(text: str) -> str:
    odd = sum(
        c == "\ufffd" or (unicodedata.category(c) in ("Cc", "Cn", "Co", "Cs") and c not in "\n\r\t")
        for c in text
    )
    if odd / len(text) > MAX_ODD_CHARACTERS:
        return f"{odd} of {len(text)} characters are no text"
    scripts = {unicodedata.name(c, "?").partition(" ")[0] for c in text if c.isalpha()}
    if len(scripts) > MAX_SCRIPTS:
        return f"mixes {len(scripts)} scripts"
    return ""


def _echo(text: str) -> str:
    if found := _MARKERS.search(text):
        return f"writes the chat marker {found[0]}"
    if found := _ROLE_LINE.search(text):
        return f"goes on as {found[0].strip()!r}"
    return ""


def _loop(text: str) -> str:
    words = text.split()
    for period in range(1, 1 + min(40, len(words) // (MAX_REPEATS + 1))):
        run = 0
        for at in range(period, len(words)):
            run = run + 1 if words[at] == words[at - period] else 0
            if run >= period * MAX_REPEATS and _counts(" ".join(words[at - run - period + 1 : at + 1])):
                return f"repeats {' '.join(words[at - period + 1 : at + 1])!r}"[:80]
    if (found := re.search(r"(\S{1,8}?)\1{11,}", text)) and _counts(found[0]):
        return f"repeats {found[1]!r}"
    return ""


def _counts(repeated: str) -> bool:
    """Is a repetition long enough, and of more than ruler characters?"""
    return not set(repeated) <= _RULERS and (len(repeated) >= _MIN_LOOP or " " not in repeated)


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return repr(flat if len(flat) <= 80 else flat[:77] + "...")
