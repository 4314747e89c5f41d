"""The fake hub against the real huggingface_hub: what passes here passes for our client too."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi, errors, snapshot_download

from testbench.fakes.hf_hub.repos import publish
from testbench.fakes.hf_hub.server import Pair, build

BIG = "model-00001-of-00001.safetensors"
PINNED = "/acme/tiny/resolve/v1/" + BIG


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    to = tmp_path_factory.mktemp("model")
    (to / BIG).write_bytes(os.urandom(3 << 20))
    (to / "config.json").write_text('{"a": 1}')
    for n in range(30):
        (to / f"sub/deep/{n:02}.txt").parent.mkdir(parents=True, exist_ok=True)
        (to / f"sub/deep/{n:02}.txt").write_text(f"file {n}")
    return to


@pytest.fixture
def root(tmp_path: Path, folder: Path) -> Path:
    to = tmp_path / "root"
    publish(to, "acme/tiny", folder, "v1", tag="first", license="gemma")
    publish(to, "acme/gated", folder, gated=True)
    publish(to, "acme/private", folder, private=True)
    return to


@pytest.fixture
def hub(root: Path) -> Iterator[Pair]:
    pair = build(root, page=10)
    pair.start()
    yield pair
    pair.stop()


def api(hub: Pair, token: str | bool = False) -> HfApi:
    return HfApi(endpoint=hub.url, token=token)


def call(hub: Pair, path: str, method: str = "GET", **fault: Any) -> Any:
    data = json.dumps(fault).encode() if fault else None
    request = urllib.request.Request(hub.url + path, data, method=method)
    with urllib.request.urlopen(request, timeout=5) as answer:
        return json.loads(answer.read())


def get(url: str, span: str | None = None) -> tuple[int, bytes, Any]:
    request = urllib.request.Request(url, headers={"Range": span} if span else {})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status, answer.read(), answer.headers
    except urllib.error.HTTPError as e:
        return e.code, e.read(), e.headers


def test_a_snapshot_is_the_folder_byte_for_byte(hub: Pair, folder: Path, tmp_path: Path) -> None:
    snapshot_download("acme/tiny", revision="v1", local_dir=tmp_path / "got", endpoint=hub.url, token=False)
    for path in (p for p in folder.rglob("*") if p.is_file()):
        assert (tmp_path / "got" / path.relative_to(folder)).read_bytes() == path.read_bytes()
    log = call(hub, "/_bench/log")
    assert sum(e["bytes"] for e in log if e["origin"] == "cdn") == 3 << 20
    assert len([e for e in log if "/tree/" in e["path"]]) > 1


def test_facts_are_the_real_ones(hub: Pair, folder: Path) -> None:
    info = api(hub).model_info("acme/tiny", revision="first")
    assert info.card_data is not None
    assert info.card_data.license == "gemma"
    entries = {e.path: e for e in api(hub).list_repo_tree("acme/tiny", recursive=True, revision=info.sha)}
    big, small = entries[BIG], entries["config.json"]
    assert big.lfs.sha256 == hashlib.sha256((folder / BIG).read_bytes()).hexdigest()
    git = subprocess.run(["git", "hash-object", folder / "config.json"], capture_output=True, text=True)
    assert small.blob_id == git.stdout.strip()
    assert len(entries) == 34
    top = {e.path for e in api(hub).list_repo_tree("acme/tiny")}
    assert top == {BIG, "config.json", "sub"}


def test_a_new_branch_shows_at_once_and_a_commit_is_stable(hub: Pair, root: Path, folder: Path) -> None:
    before = api(hub).model_info("acme/tiny", revision="v1").sha
    with pytest.raises(errors.RevisionNotFoundError):
        api(hub).model_info("acme/tiny", revision="v2")
    assert publish(root, "acme/tiny", folder, "v2") == before
    assert api(hub).model_info("acme/tiny", revision="v2").sha == before


def test_gates_hide_files_and_not_facts(hub: Pair) -> None:
    assert api(hub).model_info("acme/gated").gated == "manual"
    for token, status in ((False, 401), ("hf_noterms", 403)):
        with pytest.raises(errors.GatedRepoError) as e:
            api(hub, token).hf_hub_download("acme/gated", "config.json", cache_dir="/nonexistent")
        assert e.value.response.status_code == status
    headers = {"Authorization": "Bearer hf_good"}
    request = urllib.request.Request(hub.url + "/acme/gated/resolve/main/config.json", headers=headers)
    assert urllib.request.urlopen(request, timeout=5).read() == b'{"a": 1}'


def test_who_is_refused_what(hub: Pair) -> None:
    for token, repo in ((False, "acme/private"), ("hf_noterms", "acme/private"), ("hf_good", "acme/none")):
        with pytest.raises(errors.RepositoryNotFoundError):
            api(hub, token).model_info(repo)
    assert api(hub, "hf_good").model_info("acme/private").private
    with pytest.raises(errors.HfHubHTTPError) as e:
        api(hub, "hf_wrong").model_info("acme/tiny")
    assert e.value.response.status_code == 401
    with pytest.raises(errors.EntryNotFoundError):
        api(hub).get_hf_file_metadata(url=hub.url + "/acme/tiny/resolve/main/none")


def test_ranges_of_the_cdn(hub: Pair, folder: Path) -> None:
    data = (folder / BIG).read_bytes()
    status, body, headers = get(hub.url + PINNED, "bytes=5-14")
    assert (status, body) == (206, data[5:15])
    assert headers["Content-Range"] == f"bytes 5-14/{len(data)}"
    assert get(hub.url + PINNED, "bytes=-3")[1] == data[-3:]
    assert get(hub.url + PINNED, f"bytes={len(data)}-")[0] == 416


def test_an_address_of_the_cdn_expires(root: Path) -> None:
    pair = build(root, link_seconds=-1)
    pair.start()
    assert get(pair.url + PINNED)[0] == 403
    pair.stop()


def test_status_faults_and_their_count(hub: Pair) -> None:
    call(hub, "/_bench/faults", "POST", kind="status", match="/revision/", code=429, retry_after=2, count=2)
    with pytest.raises(errors.HfHubHTTPError) as e:
        api(hub).model_info("acme/tiny", revision="v1")
    assert e.value.response.status_code == 429
    status, _, headers = get(hub.url + "/api/models/acme/tiny/revision/v1")
    assert (status, headers["Retry-After"]) == (429, "2")
    assert get(hub.url + "/api/models/acme/tiny/revision/v1")[0] == 200
    with pytest.raises(urllib.error.HTTPError):
        call(hub, "/_bench/faults", "POST", kind="nonsense")


def test_cut_and_corrupt(hub: Pair, folder: Path, tmp_path: Path) -> None:
    data = (folder / BIG).read_bytes()
    call(hub, "/_bench/faults", "POST", kind="corrupt", match="/cdn/", offset=1000)
    assert get(hub.url + PINNED, "bytes=0-999")[1] == data[:1000]
    got = get(hub.url + PINNED)[1]
    assert [n for n in range(len(data)) if got[n] != data[n]] == [1000]
    call(hub, "/_bench/faults", "DELETE")
    call(hub, "/_bench/log", "DELETE")
    call(hub, "/_bench/faults", "POST", kind="cut", match="/cdn/", after_bytes=1 << 20, count=1)
    snapshot_download("acme/tiny", local_dir=tmp_path / "got", endpoint=hub.url, token=False)
    assert (tmp_path / "got" / BIG).read_bytes() == data
    sent = [e for e in call(hub, "/_bench/log") if e["origin"] == "cdn"]
    assert [e["status"] for e in sent][:1] == [200]
    assert sent[0]["bytes"] == 1 << 20
    assert not any(e["token"] for e in sent)


def test_stall_ends_when_cleared_and_slow_is_slow(hub: Pair) -> None:
    call(hub, "/_bench/faults", "POST", kind="stall", match="config.json", after_bytes=3)
    url = hub.url + "/acme/tiny/resolve/v1/config.json"
    with pytest.raises(TimeoutError):
        urllib.request.urlopen(url, timeout=0.3).read()
    call(hub, "/_bench/faults", "DELETE")
    assert get(url)[1] == b'{"a": 1}'
    call(hub, "/_bench/faults", "POST", kind="slow", match="/cdn/", rate=1 << 20)
    start = time.monotonic()
    get(hub.url + PINNED, f"bytes=0-{(1 << 19) - 1}")
    assert 0.4 < time.monotonic() - start < 2


def test_the_command(root: Path, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.json"
    tokens.write_text('{"good": ["hf_mine"]}')
    where = ["--listen", "127.0.0.1:0", "--cdn", "127.0.0.1:0", "--root", str(root), "--tokens", str(tokens)]
    with subprocess.Popen(
        [sys.executable, "-m", "testbench.fakes.hf_hub", *where], stdout=subprocess.PIPE, text=True
    ) as hub:
        assert hub.stdout is not None
        url = hub.stdout.readline().split()[2].rstrip(",")
        assert get(url + PINNED)[0] == 200
        hub.terminate()
        assert hub.wait(5) == 0
