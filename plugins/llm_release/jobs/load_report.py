"""The load test as documents: `loadtest.result/v1` for the store, a short one for the termination message.

The schema is complete in its names and filled as far as the first form of the load test goes: what is not
measured yet is null, never left out and never made up. Times are seconds, but for the short form's
milliseconds.
"""

from __future__ import annotations

import os
import platform
import resource
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llm_release.core.load import Sample, Summary

if TYPE_CHECKING:
    from llm_release.jobs.load import Plan

SCHEMA = "loadtest.result/v1"


def short(summary: Summary) -> dict[str, Any]:
    """The job's result; latencies in milliseconds."""
    return {
        "kind": "load",
        "offered": summary.offered,
        "ok": summary.ok,
        "errors": summary.errors,
        "success": round(summary.success, 6),
        "ttft_ms": _milliseconds(summary.ttft),
        "e2e_ms": _milliseconds(summary.e2e),
        "late_ms_p99": round(summary.client.late_p99 * 1000, 3),
        "valid": summary.client.valid,
        "reasons": list(summary.client.problems),
    }


def document(plan: Plan, summary: Summary, samples: Sequence[Sample], *, created: float) -> dict[str, Any]:
    """The full result.

    Args:
        plan: what was offered.
        summary: what came back.
        samples: every request.
        created: unix time of the start.
    """
    return {
        "schema": SCHEMA,
        "run_id": os.environ.get("HOSTNAME", platform.node()),
        "created": created,
        "engine": {"name": "llm-release", "version": "1"},
        "verdict": None,
        "target": {"base_url": plan.url, "model": plan.model},
        "baseline": None,
        "plan": {
            "arrivals": plan.arrivals,
            "rate": plan.rate,
            "duration_s": plan.duration,
            "timeout_s": plan.timeout,
            "timeout_from": "schedule",
            "connection_policy": plan.connections,
            "seed": plan.seed,
            "prompts": {"sha256": plan.prompts_sha256, "count": len(plan.prompts)},
        },
        "client": _client(summary),
        "arms": {"candidate": _arm(summary, samples), "baseline": None},
        "compare": None,
        "server": None,
        "scaling": None,
        "artifacts": {},
    }


def _client(summary: Summary) -> dict[str, Any]:
    client, used = summary.client, resource.getrusage(resource.RUSAGE_SELF)
    return {
        "host": platform.node(),
        "cpus": len(os.sched_getaffinity(0)),
        "lateness": {"p50": client.late_p50, "p99": client.late_p99, "max": client.late_max},
        "loop_lag": {"p99": client.lag_p99, "max": client.lag_max},
        "cpu_s": used.ru_utime + used.ru_stime,
        "rss_mb": used.ru_maxrss / 1024,
        "scheduled": summary.offered,
        "sent": summary.offered,
        "valid": client.valid,
        "problems": list(client.problems),
    }


def _arm(summary: Summary, samples: Sequence[Sample]) -> dict[str, Any]:
    last = max((s.done for s in samples if s.done is not None), default=0.0)
    return {
        "counts": {
            "scheduled": summary.offered,
            "sent": summary.offered,
            "ok": summary.ok,
            "failed": summary.offered - summary.ok,
            "by_status": summary.statuses,
            "by_error": summary.errors,
        },
        "success": {"ratio": summary.success},
        "latency": {"ttft": summary.ttft, "tpot": summary.tpot, "e2e": summary.e2e},
        "tokens": {"out": summary.tokens, "out_per_s": summary.tokens / last if last else 0.0},
        "throughput": {"ok_per_s": summary.ok / last if last else 0.0, "attack_s": summary.client.send_s},
        "timeseries": _series(samples),
    }


def _series(samples: Sequence[Sample]) -> list[dict[str, Any]]:
    """One entry a second, by the time that a request was scheduled for."""
    seconds: dict[int, list[Sample]] = {}
    for sample in samples:
        seconds.setdefault(int(sample.scheduled), []).append(sample)
    return [
        {
            "t": second,
            "sent": len(found),
            "ok": sum(s.error is None for s in found),
            "fail": sum(s.error is not None for s in found),
        }
        for second, found in sorted(seconds.items())
    ]


def _milliseconds(values: Mapping[str, float | None]) -> dict[str, float | None]:
    found = {name: values.get(name) for name in ("p50", "p95", "p99")}
    return {name: None if v is None else round(v * 1000, 3) for name, v in found.items()}
