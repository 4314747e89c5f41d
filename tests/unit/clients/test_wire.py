"""The connection over TLS, as it is in production: the other tests speak plain HTTP."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import ssl
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from llm_release.clients import hub_http, wire
from llm_release.clients.wire import Line, Target, target
from llm_release.core.errors import Permanent, Transient

BODY = bytes(range(256)) * 4096


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY)))
        if self.path == "/trickles":
            self.send_header("Connection", "close")
        self.end_headers()
        if self.path == "/trickles":
            with contextlib.suppress(OSError):
                for n in range(100):
                    self.wfile.write(BODY[n : n + 1])
                    self.wfile.flush()
                    time.sleep(0.1)
        elif self.path == "/stalls":
            self.wfile.write(BODY[:1000])
            self.wfile.flush()
            time.sleep(5)
        else:
            self.wfile.write(BODY)

    def log_message(self, format: str, *args: object) -> None: ...


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Refused certificates and ended connections are what the tests do."""


def _certificate(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    pem, private = folder / "cert.pem", folder / "key.pem"
    pem.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return pem, private


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Target, Path]]:
    """-> (address, the certificate that would have to be trusted)."""
    pem, private = _certificate(tmp_path_factory.mktemp("tls"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, private)
    server = _Server(("127.0.0.1", 0), _Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield target(f"https://127.0.0.1:{server.server_address[1]}/it"), pem
    server.shutdown()
    server.server_close()


@pytest.fixture
def address(served: tuple[Target, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Target]:
    monkeypatch.setenv("SSL_CERT_FILE", str(served[1]))
    wire._tls.cache_clear()
    yield served[0]
    wire._tls.cache_clear()


def test_a_connection_is_kept_over_several_requests(address: Target) -> None:
    line = Line(address.origin, timeout_s=5)
    for _ in range(3):
        buffer = memoryview(bytearray(len(BODY)))
        assert line.get(address.path, {}).readinto(buffer) == len(BODY)
        assert buffer == BODY
    line.close()


def test_a_certificate_that_is_not_trusted_is_permanent(served: tuple[Target, Path]) -> None:
    wire._tls.cache_clear()
    with pytest.raises(Permanent, match="certificate that this machine does not trust"):
        Line(served[0].origin, timeout_s=5).get("/it", {})


def test_another_thread_can_end_a_read_that_waits(address: Target) -> None:
    line = Line(address.origin, timeout_s=5)
    response = line.get("/stalls", {})
    threading.Timer(0.2, line.abort).start()
    started = time.monotonic()
    with wire.told(address.origin, connected=True):
        buffer = memoryview(bytearray(len(BODY)))
        assert response.readinto(buffer) == 1000, "what had come is kept"
    assert time.monotonic() - started < 3
    line.close()
    assert line.get(address.path, {}).status == 200
    line.close()


def test_a_trickle_on_a_connection_that_will_close_can_be_ended_too(address: Target) -> None:
    line = Line(address.origin, timeout_s=5)
    response = line.get("/trickles", {})
    threading.Timer(0.3, line.abort).start()
    started = time.monotonic()
    with wire.told(address.origin, connected=True):
        assert 0 < response.readinto(memoryview(bytearray(1000))) < 50
    assert time.monotonic() - started < 3
    line.close()


def test_a_body_that_trickles_is_not_read_for_ever(address: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_http, "BODY_WITHIN_S", 0.3)
    line = Line(address.origin, timeout_s=5)
    response = line.get("/trickles", {})
    started = time.monotonic()
    with pytest.raises(Transient):
        hub_http.read_all(response, line, limit=1 << 20)
    assert time.monotonic() - started < 3
    line.close()


def test_a_read_that_waits_too_long_ends_by_itself(address: Target) -> None:
    line = Line(address.origin, timeout_s=0.2)
    response = line.get("/stalls", {})
    with pytest.raises(Transient, match="timed out"), wire.told(address.origin, connected=True):
        response.read()
    line.close()


@pytest.mark.parametrize(
    ("url", "base", "wanted"),
    [
        ("https://h/a b?c=d e", None, "https://h:443/a%20b"),
        ("http://h:81", None, "http://h:81/"),
        ("/x/y", "https://h/a/b?q=1", "https://h:443/x/y"),
        ("c", "https://h/a/b", "https://h:443/a/c"),
        ("//other/z", "https://h/a", "https://other:443/z"),
    ],
)
def test_addresses_are_joined_as_browsers_do(url: str, base: str | None, wanted: str) -> None:
    assert str(target(url, base=target(base) if base else None)) == wanted
