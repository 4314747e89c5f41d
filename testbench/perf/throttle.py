"""A TCP proxy that lets so many bytes a second pass, whatever number of connections there is."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator

_PIECE = 1 << 16
_HOST = "127.0.0.1"


@contextlib.contextmanager
def throttled(target: str, bytes_per_s: float) -> Iterator[str]:
    """Passes connections on to `target` (host:port). -> the proxy's own host:port"""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    proxy = _Proxy(target, bytes_per_s)
    server = asyncio.run_coroutine_threadsafe(proxy.listen(), loop).result()
    try:
        yield f"{_HOST}:{server.sockets[0].getsockname()[1]}"
    finally:
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


class _Proxy:
    def __init__(self, target: str, bytes_per_s: float) -> None:
        self._target = target
        self._rate = bytes_per_s
        self._free_at = 0.0

    async def listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._serve, _HOST, 0)

    async def _serve(self, asking: asyncio.StreamReader, answering: asyncio.StreamWriter) -> None:
        host, _, port = self._target.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        with contextlib.suppress(OSError):
            await asyncio.gather(
                self._pass(asking, writer, paced=False), self._pass(reader, answering, paced=True)
            )

    async def _pass(self, source: asyncio.StreamReader, to: asyncio.StreamWriter, *, paced: bool) -> None:
        while piece := await source.read(_PIECE):
            if paced:
                await self._wait(len(piece))
            to.write(piece)
            await to.drain()
        to.close()

    async def _wait(self, size: int) -> None:
        """All connections share one bucket: each piece has its time after the one before."""
        now = asyncio.get_running_loop().time()
        self._free_at = max(self._free_at, now) + size / self._rate
        await asyncio.sleep(self._free_at - now)
