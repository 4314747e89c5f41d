"""Two "pods" that speak HTTP and a "Service" before them whose selector moves new connections only."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Pod:
    """Answers as an engine that serves one release; ends connections the way a stopping one does."""

    def __init__(self, release: str, *, status: int = 200) -> None:
        pod = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.answer(200, {"data": [{"id": "m", "root": f"/model/{release}"}]})

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                self.answer(
                    500 if pod.broken else status, {"choices": [{"message": {"content": f"I am {release}."}}]}
                )

            def answer(self, code: int, document: object) -> None:
                body = json.dumps(document).encode()
                self.send_response(code)
                self.send_header("content-length", str(len(body)))
                if pod.stopping:
                    self.send_header("connection", "close")
                    self.close_connection = True
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.stopping = False
        self.broken = False
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def port(self) -> int:
        return int(self.server.server_address[1])

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class Service:
    """Forwards each connection to the pod that was selected when it was opened, for as long as it lives."""

    def __init__(self, pod: Pod) -> None:
        self.pod = pod
        self._pairs: list[tuple[Pod, socket.socket, socket.socket]] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self, pod: Pod) -> None:
        """The pod is killed: its connections end."""
        for owner, *ends in self._pairs:
            if owner is pod:
                for end in ends:
                    with contextlib.suppress(OSError):
                        end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                front, _ = self._listener.accept()
            except OSError:
                return
            pod = self.pod
            back = socket.create_connection(("127.0.0.1", pod.port))
            self._pairs.append((pod, front, back))
            for a, b in ((front, back), (back, front)):
                threading.Thread(target=_pump, args=(a, b), daemon=True).start()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
