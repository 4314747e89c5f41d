"""`python -m llm_release.jobs.smoke`: asks the engine fixed prompts, one after the other, and judges the answers.

The first calls warm the engine up and are not judged: their latency is the engine's, not the model's.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llm_release.clients.inference import Engine, Outcome, check_url
from llm_release.core import smoke
from llm_release.core.errors import ReleaseError, Transient, Unavailable
from llm_release.core.exitcodes import Code, Refused
from llm_release.core.smoke import Answer, Judgement, Prompt
from llm_release.jobs import evidence, result
from llm_release.jobs.result import log

WARM_UP_CALLS = 2
WARM_UP_FACTOR = 4
"""The first call may compile kernels: it gets so many times the usual timeout."""
REACH_S = 60.0
"""For the Service's address to resolve and its endpoints to be programmed."""
_MAX_REASONS = 10


def main(arguments: list[str]) -> dict[str, Any]:
    options = _parser().parse_args(arguments)
    prompts = evidence.read_prompts(options.prompts)
    started = time.time()
    asked = asyncio.run(_ask_all(check_url(options.url), options.model, prompts, options))
    judged, outcomes, first_token_s = asked
    document = _document(options, prompts, outcomes, judged, started)
    stored = evidence.keep({**document, "first_token_s": first_token_s}, options.output)
    return {
        "kind": "smoke",
        "verdict": judged.verdict,
        "passed": judged.passed,
        "total": judged.total,
        "reasons": [r[:240] for r in judged.reasons[:_MAX_REASONS]],
        "first_token_s": first_token_s,
        "stored": stored,
    }


async def _ask_all(
    url: str, model: str, prompts: Sequence[Prompt], options: Any
) -> tuple[Judgement, list[Outcome], float | None]:
    """-> verdict, what became of each prompt, and the seconds to the first token of the very first question."""
    async with Engine(url, model, connections="per-request") as engine:
        try:
            await _reach(engine, options.reach)
        except ReleaseError as e:
            log(f"unreached cause={e.cause}")
            return Judgement(verdict="INVALID", passed=0, total=len(prompts), reasons=(e.cause,)), [], None
        loop = asyncio.get_running_loop()
        first_token_s = None
        for n in range(WARM_UP_CALLS):
            outcome = await engine.ask(prompts[0], deadline=loop.time() + WARM_UP_FACTOR * options.timeout)
            log(f"warm_up n={n + 1} seconds={outcome.done - outcome.sent:.3f} error={outcome.error}")
            if n == 0 and outcome.first_token is not None:
                first_token_s = round(outcome.first_token - outcome.sent, 4)
        outcomes = []
        for prompt in prompts:
            outcome = await engine.ask(prompt, deadline=loop.time() + options.timeout)
            outcomes.append(outcome)
            log(f"asked name={prompt.name} seconds={outcome.done - outcome.sent:.3f} error={outcome.error}")
    return smoke.judge_all(prompts, [_answer(o) for o in outcomes]), outcomes, first_token_s


async def _reach(engine: Engine, within_s: float) -> None:
    """Waits until somebody answers.

    Raises:
        Transient, Unavailable: nobody did, in time.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + within_s
    while True:
        try:
            log(f"reached models={','.join(await engine.models())}")
            return
        except (Transient, Unavailable):
            if loop.time() >= until:
                raise
        await asyncio.sleep(0.5)


def _answer(o: Outcome) -> Answer:
    return Answer(text=o.text, finish_reason=o.finish_reason, error=o.error, detail=o.detail)


def _document(
    options: Any, prompts: Sequence[Prompt], outcomes: Sequence[Outcome], judged: Judgement, started: float
) -> dict[str, Any]:
    """The transcript: what was asked, what came, what was wrong with it."""
    return {
        "schema": "smoke/v1",
        "created": started,
        "model": options.model,
        "url": options.url,
        "verdict": judged.verdict,
        "passed": judged.passed,
        "total": judged.total,
        "reasons": list(judged.reasons),
        "answers": [
            {
                "name": p.name,
                "asked": p.prompt or [{"role": m.role, "content": m.content} for m in p.messages],
                "text": o.text,
                "finish_reason": o.finish_reason,
                "tokens": o.tokens,
                "prompt_tokens": o.prompt_tokens,
                "seconds": round(o.done - o.sent, 4),
                "error": o.error,
                "detail": o.detail,
                "wrong": list(smoke.judge(p, _answer(o))),
            }
            for p, o in zip(prompts, outcomes, strict=False)
        ],
    }


def _parser() -> result.Parser:
    parser = result.Parser(prog="smoke", description=__doc__)
    parser.add_argument("--url", required=True, help="http://host:port of the engine")
    parser.add_argument("--model", required=True, help="the name that it serves under")
    parser.add_argument("--prompts", required=True, type=Path, metavar="FILE", help="YAML")
    parser.add_argument("--timeout", type=_positive, default=30.0, metavar="SECONDS", help="for one answer")
    parser.add_argument(
        "--reach", type=float, default=REACH_S, metavar="SECONDS", help="for the first contact"
    )
    parser.add_argument("--output", metavar="gs://...", help="document to write the transcript to")
    return parser


def _positive(text: str) -> float:
    value = float(text)
    if value <= 0:
        raise Refused(
            Code.BAD_INPUT, f"{text} is not more than 0.", next_action="correct the job's arguments."
        )
    return value


if __name__ == "__main__":
    sys.exit(result.run("smoke", lambda: main(sys.argv[1:])))
