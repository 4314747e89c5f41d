from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from llm_release.core.smoke import Answer, Prompt, judge, judge_all, parse_prompts
from llm_release.core.strict import Invalid

ROOT = Path(__file__).resolve().parents[3]


def prompt(**fields: Any) -> Prompt:
    return Prompt(**{"name": "p", "prompt": "?", **fields})


def answer(text: str, finish: str | None = "stop", error: str | None = None) -> Answer:
    return Answer(text=text, finish_reason=finish, error=error)


GOOD = (
    "The capital of Japan is Tokyo.",
    "4",
    "Seven days: Monday, Tuesday, Wednesday, Thursday, Friday, Saturday and Sunday.",
    "| a | b |\n|---|---|\n| 1 | 2 |\n" + "=" * 60,
    "No, no, no! Ha ha ha, that is very, very funny.",
    "El ni\u00f1o comi\u00f3 \u00ab\u0431\u043e\u0440\u0449\u00bb \U0001f600.",
    "1 2 3 4 5 6 7 8 9 10",
    "def f(x):\n    return x\n\ndef g(x):\n    return x\n",
    "\u6771\u4eac\u306f\u65e5\u672c\u306e\u9996\u90fd\u3067\u3059\u3002",
)


@pytest.mark.parametrize("text", GOOD)
def test_good_answers_have_nothing_wrong(text: str) -> None:
    assert judge(prompt(), answer(text)) == ()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "the answer is empty"),
        (" \n\t ", "the answer is empty"),
        ("the the the the the the the the the", "repeats 'the'"),
        ("I am a model. I am a model. I am a model. I am a model. I am a model. I am a model.", "repeats"),
        ("!" * 40, "repeats '!'"),
        ("abcabcabcabcabcabcabcabcabcabcabcabcabcabc", "repeats 'abc'"),
        ("Paris.<end_of_turn>", "writes the chat marker <end_of_turn>"),
        ("Sure<|im_end|>", "writes the chat marker <|im_end|>"),
        ("[INST] what? [/INST]", "writes the chat marker [INST]"),
        ("ok</s>", "writes the chat marker </s>"),
        ("<unused12> ok", "writes the chat marker <unused12>"),
        ("Tokyo.\nuser\nAnd of France?\nmodel\nParis.", "goes on as 'user'"),
        ("Tokyo.\nHuman:\nAnd?", "goes on as 'Human:'"),
        ("\ufffd\ufffd\ufffd hello", "3 of 9 characters are no text"),
        ("a\x00b\x01c", "2 of 5 characters are no text"),
        (
            "alpha \u0431\u0443\u043a\u0432\u0430 \u6771\u4eac \u05d0\u05d1\u05d2 \u0e01\u0e02",
            "mixes 5 scripts",
        ),
    ],
)
def test_broken_answers_are_told_apart(text: str, reason: str) -> None:
    assert any(reason in r for r in judge(prompt(), answer(text))), judge(prompt(), answer(text))


@pytest.mark.parametrize(
    ("fields", "text", "finish", "reason"),
    [
        ({"must_contain": ("Tokyo",)}, "It is Kyoto.", "stop", "does not contain 'Tokyo'"),
        ({"must_not_contain": ("sorry",)}, "Sorry, no.", "stop", "contains 'sorry'"),
        ({"must_match": r"\b4\b"}, "44", "stop", r"does not match '\\b4\\b'"),
        ({"max_tokens": 8}, "On and on and", "length", "did not stop by itself within 8 tokens (length)"),
        ({}, "On and on", None, "did not stop by itself"),
    ],
)
def test_what_the_prompt_asks_for_is_checked(
    fields: dict[str, Any], text: str, finish: str | None, reason: str
) -> None:
    found = judge(prompt(**fields), answer(text, finish))
    assert len(found) == 1
    assert reason in found[0]


def test_texts_are_compared_without_regard_to_case() -> None:
    assert judge(prompt(must_contain=("TOKYO",)), answer("It is tokyo.")) == ()


def test_a_prompt_may_let_the_model_run_on() -> None:
    assert judge(prompt(must_stop=False), answer("Once upon a time", "length")) == ()


def test_all_good_answers_pass() -> None:
    found = judge_all([prompt(), prompt()], [answer("yes"), answer("no")])
    assert (found.verdict, found.passed, found.total, found.reasons) == ("PASS", 2, 2, ())


def test_one_wrong_answer_fails_the_set() -> None:
    found = judge_all(
        [prompt(name="a"), prompt(name="b", must_contain=("x",))], [answer("yes"), answer("no")]
    )
    assert (found.verdict, found.passed) == ("FAIL", 1)
    assert found.reasons[0].startswith("b: ")


def test_the_same_answer_to_everything_fails_even_when_each_alone_is_fine() -> None:
    found = judge_all([prompt()] * 3, [answer("Hello, how are you?")] * 3)
    assert (found.verdict, found.passed) == ("FAIL", 0)
    assert "same answer" in found.reasons[0]


@pytest.mark.parametrize(
    ("errors", "verdict"),
    [
        (("connect_refused", "dns"), "INVALID"),
        (("connect_refused", None), "INVALID"),
        (("connect_refused", "http_5xx"), "FAIL"),
        (("http_4xx", "stream_truncated"), "FAIL"),
        (("deadline", None), "FAIL"),
    ],
)
def test_an_engine_that_could_not_be_asked_says_nothing_about_the_model(
    errors: tuple[str | None, ...], verdict: str
) -> None:
    answers = [answer(f"fine {n}", "stop", e) for n, e in enumerate(errors)]
    assert judge_all([prompt()] * len(errors), answers).verdict == verdict


def test_nothing_asked_is_no_pass() -> None:
    assert judge_all([], []).verdict == "INVALID"


@given(st.text(max_size=300), st.sampled_from(["stop", "length", None]))
def test_any_text_can_be_judged(text: str, finish: str | None) -> None:
    assert isinstance(judge(prompt(), answer(text, finish)), tuple)


@given(
    st.text("abcdefgh ", min_size=4, max_size=30).filter(
        lambda t: len(set(t.split())) > 1 and len(" ".join(t.split())) >= 4
    ),
    st.integers(6, 12),
)
def test_any_sentence_that_is_repeated_often_is_a_loop(sentence: str, times: int) -> None:
    assert any("repeats" in r for r in judge(prompt(), answer(" ".join([sentence] * times))))


@pytest.mark.parametrize(
    ("document", "path"),
    [
        ({"prompts": []}, "prompts"),
        ({"prompts": [{"name": "a"}]}, "prompts[0]"),
        (
            {"prompts": [{"name": "a", "prompt": "x", "messages": [{"role": "user", "content": "x"}]}]},
            "prompts[0]",
        ),
        ({"prompts": [{"name": "a", "prompt": "x"}, {"name": "a", "prompt": "y"}]}, "prompts"),
        ({"prompts": [{"name": "a", "prompt": "x", "must_match": "("}]}, "prompts[0].must_match"),
        ({"prompts": [{"name": "a", "prompt": "x", "max_tokens": 0}]}, "prompts[0].max_tokens"),
        ({"prompts": [{"name": "a", "prompt": "x", "must_contian": ["y"]}]}, "prompts[0].must_contian"),
        (
            {"prompts": [{"name": "a", "messages": [{"role": "robot", "content": "x"}]}]},
            "prompts[0].messages[0].role",
        ),
        (None, "Prompts"),
    ],
)
def test_a_prompts_file_that_is_wrong_is_refused_with_the_path_of_the_key(document: Any, path: str) -> None:
    with pytest.raises(Invalid) as e:
        parse_prompts(document, "prompts.yaml")
    assert e.value.path == path


@pytest.mark.parametrize("file", sorted((ROOT / "include" / "prompts").glob("*.yaml")), ids=lambda f: f.name)
def test_the_prompts_files_of_the_project_are_good(file: Path) -> None:
    assert parse_prompts(yaml.safe_load(file.read_text()), file.name)
