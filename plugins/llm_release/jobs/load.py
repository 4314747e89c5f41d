"""`python -m llm_release.jobs.load`: offers an engine an open-loop load and reports what came back.

The schedule is made before the first request and never adapts: a slow server meets the same arrivals as a
fast one, nothing is dropped, nothing is retried, and a request that the client itself sent late says so.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm_release.clients.inference import Connections, Engine, Outcome, check_url
from llm_release.core import load
from llm_release.core.exitcodes import Code, Refused
from llm_release.core.load import Arrivals, Sample
from llm_release.core.smoke import Prompt
from llm_release.jobs import evidence, load_report, result
from llm_release.jobs.result import log

_LEAD_S = 0.2
"""Between the start of the clock and the first request."""
_PROBE_S = 0.01
_PROGRESS_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is offered. Times in seconds, `rate` in requests a second."""

    url: str
    model: str
    rate: float
    duration: float
    timeout: float
    """From the scheduled time of a request."""
    seed: int
    arrivals: Arrivals
    connections: Connections
    prompts: tuple[Prompt, ...]
    prompts_sha256: str


def main(arguments: list[str]) -> dict[str, Any]:
    plan, output = _plan(arguments)
    created = time.time()
    due = load.schedule(plan.rate, plan.duration, arrivals=plan.arrivals, seed=plan.seed)
    log(f"start rate={plan.rate:g} duration={plan.duration:g} offered={len(due)} arrivals={plan.arrivals}")
    samples, lags = asyncio.run(_offer(plan, due))
    client = load.check_client(samples, lags, rate=plan.rate, due=due)
    summary = load.summarize(samples, client)
    stored = evidence.keep(load_report.document(plan, summary, samples, created=created), output)
    return {**load_report.short(summary), "stored": stored}


async def _offer(plan: Plan, due: Sequence[float]) -> tuple[list[Sample], list[float]]:
    """Sends every request at its time and waits for all of them. -> (samples in order of the schedule, lags)."""
    loop = asyncio.get_running_loop()
    order = load.prompt_order(len(plan.prompts), len(due), seed=plan.seed)
    async with Engine(plan.url, plan.model, connections=plan.connections) as engine:
        bodies = [engine.body(p) for p in plan.prompts]
        await engine.ask(plan.prompts[0], deadline=loop.time() + plan.timeout, body=bodies[0])
        tasks: list[asyncio.Task[Outcome]] = []
        lags: list[float] = []
        probe = asyncio.create_task(_probe(lags))
        progress = asyncio.create_task(_progress(tasks, len(due)))
        gc.collect()
        gc.freeze()
        gc.disable()
        start = loop.time() + _LEAD_S
        for at, n in zip(due, order, strict=True):
            await asyncio.sleep(max(0.0, start + at - loop.time()))
            ask = engine.ask(plan.prompts[n], deadline=start + at + plan.timeout, body=bodies[n])
            tasks.append(asyncio.create_task(ask))
        outcomes = await asyncio.gather(*tasks)
        gc.enable()
        gc.unfreeze()
        probe.cancel()
        progress.cancel()
    return [_sample(at, o, start) for at, o in zip(due, outcomes, strict=True)], lags


async def _probe(lags: list[float]) -> None:
    """How late the event loop wakes up: every request is at least as late as that."""
    loop = asyncio.get_running_loop()
    while True:
        before = loop.time()
        await asyncio.sleep(_PROBE_S)
        lags.append(loop.time() - before - _PROBE_S)


async def _progress(tasks: Sequence[asyncio.Task[Outcome]], offered: int) -> None:
    while True:
        await asyncio.sleep(_PROGRESS_S)
        done = [t.result() for t in tasks if t.done()]
        failed = sum(o.error is not None for o in done)
        log(f"progress sent={len(tasks)} of={offered} answered={len(done) - failed} failed={failed}")


def _sample(due: float, o: Outcome, start: float) -> Sample:
    def since(at: float | None) -> float | None:
        return None if at is None else at - start

    return Sample(
        scheduled=due,
        sent=o.sent - start,
        first_token=since(o.first_token),
        last_token=since(o.last_token),
        done=o.done - start,
        tokens=o.tokens,
        status=o.status,
        error=o.error,
    )


def _plan(arguments: list[str]) -> tuple[Plan, str | None]:
    options = _parser().parse_args(arguments)
    for name in ("rate", "duration", "timeout"):
        if not 0 < getattr(options, name) <= 1e6:
            raise Refused(
                Code.BAD_INPUT, f"--{name} must be more than 0.", next_action="correct the job's arguments."
            )
    plan = Plan(
        url=check_url(options.url),
        model=options.model,
        rate=options.rate,
        duration=options.duration,
        timeout=options.timeout,
        seed=options.seed,
        arrivals=options.arrivals,
        connections=options.connections,
        prompts=evidence.read_prompts(options.prompts),
        prompts_sha256=hashlib.sha256(options.prompts.read_bytes()).hexdigest(),
    )
    _enough_descriptors(plan)
    return plan, options.output


def _enough_descriptors(plan: Plan) -> None:
    """In the worst case every request hangs until its timeout, each on a socket."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    needed = 2 * plan.rate * plan.timeout + 64
    if hard < needed:
        raise Refused(
            Code.BAD_INPUT,
            f"{needed:.0f} open files may be needed and {hard} are allowed.",
            next_action="lower the rate or the timeout, or raise the limit of the node.",
        )


def _parser() -> result.Parser:
    parser = result.Parser(prog="load", description=__doc__)
    parser.add_argument("--url", required=True, help="http://host:port of the engine")
    parser.add_argument("--model", required=True, help="the name that it serves under")
    parser.add_argument("--rate", required=True, type=float, help="requests a second")
    parser.add_argument("--duration", required=True, type=float, metavar="SECONDS")
    parser.add_argument(
        "--timeout", required=True, type=float, metavar="SECONDS", help="from the scheduled time"
    )
    parser.add_argument("--prompts", required=True, type=Path, metavar="FILE", help="YAML")
    parser.add_argument("--seed", type=int, default=0, help="of the arrivals and of the order of the prompts")
    parser.add_argument("--arrivals", choices=("constant", "poisson"), default="constant")
    parser.add_argument("--connections", choices=("per-request", "pooled"), default="per-request")
    parser.add_argument("--output", metavar="gs://...", help="document to write the full result to")
    return parser


if __name__ == "__main__":
    sys.exit(result.run("load", lambda: main(sys.argv[1:])))
