from __future__ import annotations

import email.message
import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from huggingface_hub import HfApi
from hypothesis import given
from hypothesis import strategies as st

from llm_release.clients import hub as hub_module
from llm_release.clients.hub import Hub
from llm_release.clients.hub_errors import Busy, wait_asked
from llm_release.clients.hub_http import HubHttp, Lines
from llm_release.clients.wire import target
from llm_release.core.errors import Permanent, ReleaseError, Transient, Unavailable
from llm_release.core.exitcodes import Code, Refused
from tests.unit.support.hub import COMMIT, GOOD_TOKEN, OTHER_TOKEN, Fault
from tests.unit.support.hub import Hub as FaultyHub

FILES = {"config.json": b'{"a": 1}', "model.safetensors": bytes(range(256)) * 100, "folder/a b#c.json": b"{}"}


@pytest.fixture(scope="module")
def hub() -> Iterator[FaultyHub]:
    with FaultyHub(FILES) as server:
        yield server


@pytest.fixture
def served(hub: FaultyHub) -> FaultyHub:
    return hub.fresh()


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "_PAUSES_S", (0.01, 0.02))


def test_a_revision_is_a_commit_with_every_file_over_all_pages() -> None:
    with FaultyHub(FILES, page=2) as served:
        found = Hub(served.url).model("acme/model", "v1")
    assert (found.commit, found.gated, found.private, found.license) == (COMMIT, False, False, "gemma")
    assert [f.path for f in found.files] == sorted(FILES)
    assert {f.path: f.size for f in found.files} == {p: len(d) for p, d in FILES.items()}


def test_the_facts_are_those_that_huggingface_hub_reads(served: FaultyHub) -> None:
    theirs = HfApi(endpoint=served.url, token=False)
    files = {
        (f.path, f.size, f.lfs.sha256 if f.lfs else None, f.blob_id)
        for f in theirs.list_repo_tree("acme/model", recursive=True, revision=COMMIT)
        if hasattr(f, "blob_id")
    }
    ours = Hub(served.url).model("acme/model", "main")
    assert {(f.path, f.size, f.sha256, f.blob_id) for f in ours.files} == files
    assert theirs.model_info("acme/model", revision="main").sha == ours.commit


@pytest.mark.parametrize("path", sorted(FILES))
def test_a_small_file_is_read_whole_from_wherever_the_hub_sends_us(served: FaultyHub, path: str) -> None:
    assert Hub(served.url).read_small("acme/model", COMMIT, path, limit=30_000) == FILES[path]


def test_a_file_that_is_larger_than_expected_is_refused(served: FaultyHub) -> None:
    with pytest.raises(Refused, match="larger than 1000 bytes"):
        Hub(served.url).read_small("acme/model", COMMIT, "model.safetensors", limit=1000)


@pytest.mark.parametrize(
    ("repo", "token", "code"),
    [
        ("gated/model", None, Code.TOKEN_MISSING),
        ("gated/model", "hf_wrong", Code.TOKEN_REFUSED),
        ("gated/model", OTHER_TOKEN, Code.TERMS_NOT_ACCEPTED),
        ("private/model", None, Code.TOKEN_MISSING),
        ("private/model", "hf_wrong", Code.TOKEN_REFUSED),
    ],
)
def test_reasons_for_a_refused_download_are_told_apart(
    served: FaultyHub, repo: str, token: str | None, code: Code
) -> None:
    with pytest.raises(Refused) as e:
        Hub(served.url, token).check_download(repo, COMMIT, "model.safetensors")
    assert e.value.code is code
    assert not token or token not in str(e.value)


def test_an_accepted_token_may_download_and_one_byte_is_all_it_takes(served: FaultyHub) -> None:
    Hub(served.url, GOOD_TOKEN).check_download("gated/model", COMMIT, "model.safetensors")
    assert served.asked[-1].range == "bytes=0-0"


def test_the_token_goes_to_the_hub_and_never_to_where_it_redirects(served: FaultyHub) -> None:
    Hub(served.url, GOOD_TOKEN).check_download("gated/model", COMMIT, "model.safetensors")
    assert {(a.origin, a.token) for a in served.asked} == {("hub", True), ("cdn", False)}


class _Lures(BaseHTTPRequestHandler):
    """A hub whose list of files goes on at another origin."""

    def do_GET(self) -> None:
        document: object = {"sha": COMMIT} if "/revision/" in self.path else []
        body = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Link", '<http://127.0.0.1:1/api/models/x>; rel="next"')
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None: ...


def test_a_next_page_on_another_origin_is_not_followed() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Lures) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        with pytest.raises(Permanent, match="another origin"):
            Hub(f"http://127.0.0.1:{server.server_address[1]}", GOOD_TOKEN).model("acme/model", "main")
        server.shutdown()


@pytest.mark.parametrize(
    ("repo", "revision", "code"),
    [
        ("acme/model", "nowhere", Code.NOT_FOUND),
        ("acme/model", "d" * 40, Code.NOT_FOUND),
        ("not a repo", "main", Code.BAD_INPUT),
        ("acme/model/../../x", "main", Code.BAD_INPUT),
    ],
)
def test_what_does_not_exist_is_refused_with_its_name(
    served: FaultyHub, repo: str, revision: str, code: Code
) -> None:
    with pytest.raises(Refused) as e:
        Hub(served.url).model(repo, revision)
    assert e.value.code is code
    assert repo in str(e.value)


def test_a_missing_file_is_refused(served: FaultyHub) -> None:
    with pytest.raises(Refused, match="no such file") as e:
        Hub(served.url).read_small("acme/model", COMMIT, "absent.json")
    assert e.value.code is Code.NOT_FOUND


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_a_busy_hub_is_asked_three_times(served: FaultyHub, status: int) -> None:
    served.goes_wrong(Fault("/revision/", status=status, times=2))
    assert Hub(served.url).model("acme/model", "main").commit == COMMIT
    served.goes_wrong(Fault("/revision/", status=status, times=3))
    with pytest.raises(Busy, match=f"answered {status}"):
        Hub(served.url).model("acme/model", "main")


def test_a_wait_that_the_hub_asks_for_is_kept_but_not_for_ever(served: FaultyHub) -> None:
    served.goes_wrong(Fault("/revision/", status=429, retry_after=1))
    started = time.monotonic()
    Hub(served.url).model("acme/model", "main")
    assert time.monotonic() - started >= 1
    served.goes_wrong(Fault("/revision/", status=429, retry_after=3600))
    with pytest.raises(Busy):
        Hub(served.url).model("acme/model", "main")


def test_a_cut_answer_is_asked_for_again(served: FaultyHub) -> None:
    served.goes_wrong(Fault("/config.json", cut=3, times=2))
    assert Hub(served.url).read_small("acme/model", COMMIT, "config.json") == FILES["config.json"]


def test_a_hub_that_stalls_is_given_up_after_the_timeout(served: FaultyHub) -> None:
    served.goes_wrong(Fault("/config.json", stall=3, times=9))
    started = time.monotonic()
    with pytest.raises(Transient, match="timed out"):
        Hub(served.url, timeout_s=0.2).read_small("acme/model", COMMIT, "config.json")
    assert time.monotonic() - started < 3


def test_a_hub_that_is_not_there_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(Unavailable, match=f"127.0.0.1:{port} cannot be reached"):
        Hub(f"http://127.0.0.1:{port}").model("acme/model", "main")


@pytest.mark.parametrize("token", ["", "hf_a b", "hf_a\nX-Other: 1", "hf_\u00e9"])
def test_a_token_that_is_none_is_refused_without_repeating_it(token: str) -> None:
    with pytest.raises(Refused) as e:
        Hub("http://127.0.0.1:1", token)
    assert e.value.code is Code.TOKEN_REFUSED
    assert not token or token not in str(e.value)


@pytest.mark.parametrize("endpoint", ["huggingface.co", "ftp://x", "http://", "http://x:notaport"])
def test_an_endpoint_that_is_no_address_is_refused(endpoint: str) -> None:
    with pytest.raises(Permanent, match="is no http or https address"):
        Hub(endpoint)


def test_an_idle_connection_that_the_hub_closed_costs_no_try(served: FaultyHub) -> None:
    http = HubHttp(served.url, None)
    with Lines(5) as lines:
        for _ in range(2):
            found = http.open(http.file("acme/model", COMMIT, "config.json"), lines, what="it")
            assert found.response.read() == FILES["config.json"]
            found.line.abort()


def test_the_address_in_a_message_has_no_signature() -> None:
    assert str(target("https://cdn.example/a/b?X-Signature=secret")) == "https://cdn.example:443/a/b"


@given(st.text(max_size=20), st.text(max_size=20))
def test_any_wait_that_is_asked_for_is_a_short_time_or_none(retry_after: str, rate_limit: str) -> None:
    headers = email.message.Message()
    headers["Retry-After"], headers["RateLimit"] = retry_after, rate_limit
    found = wait_asked(headers)
    assert found is None or 0 <= found <= 300


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("Retry-After", "7", 7.0),
        ("RateLimit", '"resolvers";r=0;t=2', 2.0),
        ("Retry-After", "soon", None),
        ("X", "1", None),
    ],
)
def test_waits_are_read_from_the_headers_that_the_hub_uses(
    name: str, value: str, wanted: float | None
) -> None:
    headers = email.message.Message()
    headers[name] = value
    assert wait_asked(headers) == wanted


def test_every_error_of_the_hub_names_one_next_action(served: FaultyHub) -> None:
    served.goes_wrong(Fault("/revision/", status=418))
    with pytest.raises(ReleaseError) as e:
        Hub(served.url).model("acme/model", "main")
    assert e.value.next_action
