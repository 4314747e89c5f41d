"""The background client: asks at a steady rate, half on a connection of its own each, half on a small pool.

Open loop: a slow answer delays no later request. It records what happened and judges nothing. Bounded in
requests and in time, and it refuses any address that is not the bench's.
"""

from __future__ import annotations

import http.client
import ipaddress
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from testbench import config
from testbench.demo.exchange import Connection, Cut, Ending, Gone, Question, Refused

BENCH_NETWORKS = tuple(
    ipaddress.ip_network(n) for n in ("127.0.0.0/8", config.POD_RANGE, config.SERVICE_RANGE)
)
_FAILED = (OSError, http.client.HTTPException, Refused, ValueError, KeyError, IndexError)
_WORKERS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One request of the client; times are Unix seconds."""

    number: int
    sent: float
    ended: float
    slot: int | None
    """Place in the pool, None for a request on a connection of its own."""
    connection: int
    """Serial number of the connection that brought the answer; 0 when there was none."""
    release: str
    text: str
    error: str
    """Empty when the request was answered."""
    cut: Cut
    """Whether the pooled connection that it found was ended by the server, before or with this request."""

    @property
    def ok(self) -> bool:
        return not self.error


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How much is asked."""

    rate: float = 5.0
    """Requests per second."""
    pool: int = 3
    """Pooled connections; each is used every `2 * pool / rate` seconds, well within a server's idle limit."""
    limit_s: float = 1800.0
    """The client stops by itself after this."""


@dataclass(slots=True)
class _Slot:
    lock: threading.Lock = field(default_factory=threading.Lock)
    connection: Connection | None = None


class BackgroundClient:
    """Runs in threads of this process between `start` and `stop`.

    Raises:
        ValueError: the address is not one of the bench's.
    """

    def __init__(
        self, question: Question, *, pace: Pace | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        address = ipaddress.ip_address(question.host)
        if not any(address in network for network in BENCH_NETWORKS):
            raise ValueError(f"{question.host} is not an address of the bench")
        self._question = question
        self._pace = pace or Pace()
        self._clock = clock
        self._slots = [_Slot() for _ in range(self._pace.pool)]
        self._stop = threading.Event()
        self._record_lock = threading.Lock()
        self._exchanges: list[Exchange] = []
        self._thread = threading.Thread(target=self._run, name="background-client", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> tuple[Exchange, ...]:
        """Ends the client after the answers that are under way.

        Returns: every request, in the order in which it was sent.
        """
        self._stop.set()
        self._thread.join(timeout=self._question.timeout_s * 2 + 10)
        for slot in self._slots:
            if slot.connection is not None:
                slot.connection.close()
        return self.exchanges

    @property
    def exchanges(self) -> tuple[Exchange, ...]:
        """What is known so far."""
        with self._record_lock:
            return tuple(sorted(self._exchanges, key=lambda e: e.number))

    def _run(self) -> None:
        started = time.monotonic()
        with ThreadPoolExecutor(_WORKERS) as pool:
            for number in range(int(self._pace.rate * self._pace.limit_s)):
                due = started + number / self._pace.rate
                if self._stop.wait(max(0.0, due - time.monotonic())):
                    return
                pool.submit(self._one, number)

    def _one(self, number: int) -> None:
        found = self._fresh(number) if number % 2 == 0 else self._pooled(number)
        with self._record_lock:
            self._exchanges.append(found)

    def _fresh(self, number: int) -> Exchange:
        sent = self._clock()
        connection: Connection | None = None
        try:
            connection = Connection(self._question)
            text = connection.ask()
        except _FAILED as e:
            return self._exchange(number, sent, connection=connection, error=_say(e))
        finally:
            if connection is not None:
                connection.close()
        return self._exchange(number, sent, connection=connection, text=text)

    def _pooled(self, number: int) -> Exchange:
        """As the clients of such APIs do: a connection that was found ended, or that answers with a server error, is
        replaced and the request sent again, once."""
        place = number // 2 % len(self._slots)
        slot = self._slots[place]
        sent = self._clock()
        with slot.lock:
            cut: Cut = ""
            try:
                if slot.connection is not None:
                    try:
                        text = slot.connection.ask()
                        return self._done(number, sent, slot, text)
                    except Gone as e:
                        cut = "refused" if isinstance(e, Ending) else "reset"
                        slot.connection.close()
                        slot.connection = None
                slot.connection = Connection(self._question)
                text = slot.connection.ask()
                return self._done(number, sent, slot, text, cut=cut)
            except _FAILED as e:
                if slot.connection is not None:
                    slot.connection.close()
                slot.connection = None
                return self._exchange(number, sent, slot=place, error=_say(e), cut=cut)

    def _done(self, number: int, sent: float, slot: _Slot, text: str, *, cut: Cut = "") -> Exchange:
        connection = slot.connection
        assert connection is not None
        if connection.ended:
            slot.connection = None
            cut = cut or "closed"
        return self._exchange(
            number, sent, slot=self._slots.index(slot), connection=connection, text=text, cut=cut
        )

    def _exchange(
        self,
        number: int,
        sent: float,
        *,
        connection: Connection | None = None,
        slot: int | None = None,
        text: str = "",
        error: str = "",
        cut: Cut = "",
    ) -> Exchange:
        return Exchange(
            number=number,
            sent=sent,
            ended=self._clock(),
            slot=slot,
            connection=connection.serial if connection else 0,
            release=connection.release if connection else "",
            text=text,
            error=error,
            cut=cut,
        )


def _say(e: Exception) -> str:
    return f"{type(e).__name__}: {e}"
