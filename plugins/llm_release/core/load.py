"""What an open-loop load test measured: percentiles, success over everything that was offered, and whether the
client was fit to measure at all.

Latencies run from the *scheduled* time of a request, so a client or a server that stands still shows in them
(coordinated omission). Nothing is dropped from the denominator. All times are seconds on one clock.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

Arrivals = Literal["constant", "poisson"]

MAX_LATE_S = 0.05
"""p99 of how late requests were sent. Beyond, the client measured itself: in every false run of the reference
measurements it was more than 900 ms, in every true one less than 5 ms (loadtest.md B.5, B.6)."""
MAX_LAG_S = 0.1
"""p99 of the event loop's lag."""
MIN_RATE_SHARE = 0.99
"""Of the rate that was asked for, reached while requests were sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One offered request; times in seconds from the start of the test."""

    scheduled: float
    sent: float
    first_token: float | None = None
    last_token: float | None = None
    done: float | None = None
    """None: never finished."""
    tokens: int = 0
    status: int | None = None
    error: str | None = None
    """Class of the error; None: answered in full, in time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """What the client says of itself, in seconds."""

    late_p50: float
    late_p99: float
    late_max: float
    lag_p99: float
    lag_max: float
    send_s: float
    """From the first to the last request that was sent."""
    problems: tuple[str, ...] = ()
    """Why the numbers say nothing about the server; empty: they do."""

    @property
    def valid(self) -> bool:
        return not self.problems


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """All latencies in seconds, as `distribution` gives them; a failed request has none."""

    offered: int
    ok: int
    errors: dict[str, int] = field(default_factory=dict)
    statuses: dict[str, int] = field(default_factory=dict)
    ttft: dict[str, float | None] = field(default_factory=dict)
    tpot: dict[str, float | None] = field(default_factory=dict)
    e2e: dict[str, float | None] = field(default_factory=dict)
    tokens: int = 0
    client: Client

    @property
    def success(self) -> float:
        """Share of *offered* requests that were answered in full, in time; 0 when none was offered."""
        return self.ok / self.offered if self.offered else 0.0


def schedule(
    rate: float, duration: float, *, arrivals: Arrivals = "constant", seed: int = 0
) -> tuple[float, ...]:
    """When each request is due, in seconds from the start; the same for the same arguments.

    Args:
        rate: requests a second.
        duration: seconds; no request is due at or after it.
        arrivals: evenly spaced, or with the exponential gaps of independent users.
        seed: of the exponential gaps.
    """
    if arrivals == "constant":
        return tuple(n / rate for n in range(math.ceil(round(rate * duration, 9))))
    draw, due, times = random.Random(seed), 0.0, []
    while (due := due + draw.expovariate(rate)) < duration:
        times.append(due)
    return tuple(times)


def prompt_order(prompts: int, requests: int, *, seed: int) -> tuple[int, ...]:
    """Which prompt each request asks: all equally often, in an order that only `seed` decides."""
    order = [n % prompts for n in range(requests)]
    random.Random(seed).shuffle(order)
    return tuple(order)


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """Nearest rank: the smallest value that at least `share` of all values do not exceed. None of nothing.

    Args:
        ordered: ascending.
        share: 0 to 1.
    """
    if not ordered:
        return None
    return ordered[max(0, math.ceil(round(share * len(ordered), 9)) - 1)]


def distribution(values: Iterable[float], *, failed: int = 0) -> dict[str, float | None]:
    """-> min, mean, p50, p90, p95, p99, max; all None of nothing.

    Args:
        failed: requests without a value. In the percentiles each is slower than any value, and a percentile
            that falls on one is None: with 9 of 100 timed out there is no p95, however fast the other 91 were.
    """
    ordered = sorted(values)
    offered = [*ordered, *[math.inf] * failed]
    ranks = {f"p{n}": percentile(offered, n / 100) for n in (50, 90, 95, 99)}
    found = {name: None if value == math.inf else value for name, value in ranks.items()}
    mean = math.fsum(ordered) / len(ordered) if ordered else None
    return {"min": percentile(ordered, 0.0), "mean": mean, **found, "max": percentile(ordered, 1.0)}


def check_client(
    samples: Sequence[Sample], lags: Sequence[float], *, rate: float, due: Sequence[float]
) -> Client:
    """Was the client fit to measure?

    Args:
        samples: every request that was sent.
        lags: how late the event loop woke up, each time it was probed.
        rate: requests a second that were asked for.
        due: the schedule.
    """
    late = sorted(s.sent - s.scheduled for s in samples)
    late_p99, lag_p99 = percentile(late, 0.99) or 0.0, percentile(sorted(lags), 0.99) or 0.0
    sent = [s.sent for s in samples]
    span, wanted = (max(sent) - min(sent) if sent else 0.0), (due[-1] - due[0] if due else 0.0)
    problems = []
    if len(samples) != len(due):
        problems.append(f"{len(samples)} of {len(due)} requests were sent")
    if late_p99 > MAX_LATE_S:
        problems.append(
            f"requests were sent late: p99 {late_p99 * 1000:.0f} ms, at most {MAX_LATE_S * 1000:.0f} ms is fit"
        )
    if lag_p99 > MAX_LAG_S:
        problems.append(f"the client's event loop was late: p99 {lag_p99 * 1000:.0f} ms")
    if starved := sum(s.error == "local_resource" for s in samples):
        problems.append(f"{starved} requests could not be sent: the client ran out of ports or descriptors")
    if wanted and span > wanted / MIN_RATE_SHARE + MAX_LATE_S:
        problems.append(f"{len(samples) / span:.2f} requests a second were sent, {rate:g} were asked for")
    return Client(
        late_p50=percentile(late, 0.5) or 0.0,
        late_p99=late_p99,
        late_max=late[-1] if late else 0.0,
        lag_p99=lag_p99,
        lag_max=max(lags, default=0.0),
        send_s=span,
        problems=tuple(problems),
    )


def summarize(samples: Sequence[Sample], client: Client) -> Summary:
    """Counts and percentiles; a request without a latency still counts as offered."""
    good = [s for s in samples if s.error is None]
    failed = len(samples) - len(good)
    return Summary(
        offered=len(samples),
        ok=len(good),
        errors=dict(Counter(s.error for s in samples if s.error is not None).most_common()),
        statuses={str(k): n for k, n in Counter(s.status or 0 for s in samples).most_common()},
        ttft=distribution(
            (s.first_token - s.scheduled for s in good if s.first_token is not None), failed=failed
        ),
        tpot=distribution(
            (s.last_token - s.first_token) / (s.tokens - 1)
            for s in good
            if s.first_token is not None and s.last_token is not None and s.tokens > 1
        ),
        e2e=distribution((s.done - s.scheduled for s in good if s.done is not None), failed=failed),
        tokens=sum(s.tokens for s in good),
        client=client,
    )
