"""The hydrator in this process, against a hub that goes wrong. Processes that are killed: test_hydrate_process."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from llm_release.clients.hub import Hub
from llm_release.core.errors import ReleaseError, Transient
from llm_release.core.exitcodes import Code, Refused
from llm_release.core.files import listing_digest, select
from llm_release.core.spans import Spans
from llm_release.jobs.hydrate import board, fetch, journal, state
from llm_release.jobs.hydrate.fetch import Policy
from llm_release.jobs.hydrate.run import Request, hydrate
from tests.unit.support.hub import COMMIT, GOOD_TOKEN, OTHER_TOKEN, Fault
from tests.unit.support.hub import Hub as FaultyHub

SHARD = 3_000_017
CDN = f"/cdn/acme/model/{COMMIT}/"
FAST = Policy(connections=4, stall_s=0.4, attempts=4, pause_s=0.01, longest_pause_s=0.05)


def shards(seed: int = 1) -> dict[str, bytes]:
    made = {f"model-{n}.safetensors": random.Random(seed * 10 + n).randbytes(SHARD) for n in range(3)}
    index = json.dumps({"weight_map": {name: name for name in made}}).encode()
    return {
        **made,
        "model.safetensors.index.json": index,
        "config.json": b"{}",
        "empty.json": b"",
        "sub/vocab.json": b"[1]",
    }


FILES = shards()
TOTAL = sum(map(len, FILES.values()))


@pytest.fixture(scope="module")
def hub() -> Iterator[FaultyHub]:
    with FaultyHub(FILES) as server:
        yield server


@pytest.fixture
def served(hub: FaultyHub) -> FaultyHub:
    return hub.fresh()


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several parts a file with the few MB of a test."""
    monkeypatch.setattr(board, "MIN_PART", 1 << 19)
    monkeypatch.setattr(state, "HASH_BATCH", 1 << 18)
    monkeypatch.setattr(fetch, "CHUNK", 1 << 16)


Run = Callable[..., dict[str, object]]


@pytest.fixture
def dest(tmp_path: Path) -> Path:
    return tmp_path / "volume" / "r1"


@pytest.fixture
def run(served: FaultyHub, dest: Path) -> Run:
    def run(
        token: str | None = None,
        policy: Policy = FAST,
        repo: str = "acme/model",
        release: str = "r1",
        include: tuple[str, ...] = (),
        listing: str | None = None,
    ) -> dict[str, object]:
        request = Request(
            repo=repo, commit=COMMIT, dest=dest, release=release, include=include, listing=listing
        )
        return hydrate(request, Hub(served.url, token), policy)

    return run


def on(volume: Path) -> dict[str, bytes]:
    """Everything on the volume but the marker."""
    files = {p.relative_to(volume).as_posix(): p for p in volume.rglob("*") if not p.is_dir()}
    assert not any(p.is_symlink() for p in files.values())
    return {name: path.read_bytes() for name, path in files.items() if name != ".llm-release.json"}


def marker(volume: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((volume / ".llm-release.json").read_text())
    return found


def test_the_volume_holds_the_listed_files_and_a_marker_and_nothing_else(run: Run, dest: Path) -> None:
    result = run()
    assert on(dest) == FILES
    said = marker(dest)
    assert (said["release"], said["repo"], said["commit"]) == ("r1", "acme/model", COMMIT)
    assert said["listing"] == result["listing"]
    shard = next(f for f in said["files"] if f["path"] == "model-0.safetensors")  # type: ignore[attr-defined]
    assert shard == {
        "path": "model-0.safetensors",
        "size": SHARD,
        "sha256": hashlib.sha256(FILES["model-0.safetensors"]).hexdigest(),
    }
    assert (result["bytes"], result["fetched_bytes"], result["resumed_bytes"], result["files"]) == (
        TOTAL,
        TOTAL,
        0,
        7,
    )


def test_the_result_fits_into_a_termination_message(run: Run) -> None:
    assert len(json.dumps(run())) < 4000


def test_only_the_selected_files_are_fetched(run: Run, served: FaultyHub, dest: Path) -> None:
    run(include=("*-1.safetensors", "config.json"))
    assert set(on(dest)) == {"config.json", "model-1.safetensors"}


def test_a_listing_that_is_not_the_resolved_one_is_refused_before_anything_is_written(
    run: Run, dest: Path
) -> None:
    with pytest.raises(Refused, match="now lists sha256:") as e:
        run(listing="sha256:" + "0" * 64)
    assert e.value.code is Code.LISTING_CHANGED
    assert not dest.exists()


def test_the_resolved_listing_is_accepted(run: Run, served: FaultyHub) -> None:
    files = select(Hub(served.url).files("acme/model", COMMIT), ("*.safetensors",))
    assert run(include=("*.safetensors",), listing=listing_digest(files))["files"] == 3


def test_twenty_flipped_bits_of_twenty_are_caught_and_fetched_again(
    run: Run, served: FaultyHub, dest: Path
) -> None:
    at = random.Random(7)
    for n in range(20):
        name = f"model-{n % 3}.safetensors"
        served.goes_wrong(Fault(CDN + name, flip=at.randrange(SHARD), times=99))
        with pytest.raises(Refused, match=f"{name} came 3 times") as e:
            run(include=(name,), policy=Policy(connections=2, attempts=2, pause_s=0.01))
        assert e.value.code is Code.CORRUPT
        assert not (dest / ".llm-release.json").exists()
        assert not (dest / name).exists(), "wrong bytes stay on the volume"
        for left in dest.iterdir():
            left.unlink()


def test_bytes_that_are_wrong_once_are_fetched_again_and_the_rest_is_not(
    run: Run, served: FaultyHub, dest: Path
) -> None:
    served.goes_wrong(Fault(CDN + "model-1.safetensors", flip=1_234_567))
    result = run()
    assert on(dest) == FILES
    assert TOTAL + SHARD <= int(str(result["fetched_bytes"])) <= TOTAL + 2 * SHARD


def test_wrong_bytes_of_a_file_without_sha256_are_caught_by_its_blob_id(
    run: Run, served: FaultyHub, dest: Path
) -> None:
    served.goes_wrong(Fault("/resolve/", flip=1))
    run()
    assert on(dest) == FILES


@pytest.mark.parametrize("fault", ["cut", "stall", "429", "503", "403"])
def test_what_may_pass_is_waited_out(run: Run, served: FaultyHub, dest: Path, fault: str) -> None:
    faults = {
        "cut": [Fault(CDN + "model-0.safetensors", cut=100_000, times=2), Fault("/config.json", cut=1)],
        "stall": [
            Fault(CDN + "model-1.safetensors", stall=70_000),
            Fault(CDN + "model-2.safetensors", stall=0),
        ],
        "429": [
            Fault("/resolve/", status=429, times=2),
            Fault(CDN + "model-0.safetensors", status=429, retry_after=1),
        ],
        "503": [Fault("safetensors", status=503, times=3)],
        "403": [Fault(CDN + "model-2.safetensors", status=403, times=2)],
    }[fault]
    served.goes_wrong(*faults)
    result = run()
    assert on(dest) == FILES
    assert int(str(result["fetched_bytes"])) <= TOTAL + 70_000, "what had come was kept"


def test_a_pause_that_was_asked_for_holds_for_all_connections(run: Run, served: FaultyHub) -> None:
    served.goes_wrong(Fault(CDN + "model-0.safetensors", status=429, retry_after=1))
    started = time.monotonic()
    run()
    assert time.monotonic() - started >= 1


def test_an_address_that_expires_is_asked_for_again(dest: Path) -> None:
    with FaultyHub(FILES, link_seconds=0.2) as served:
        served.slow_to(5e6)
        hydrate(Request(repo="acme/model", commit=COMMIT, dest=dest, release="r1"), Hub(served.url), FAST)
        asked = served.asked
    assert on(dest) == FILES
    assert any(a.origin == "cdn" and a.status == 403 for a in asked)
    assert sum(a.origin == "hub" and a.path.endswith("model-0.safetensors") for a in asked) > 1


@pytest.mark.parametrize(
    "fault",
    [
        Fault("model-1", status=503, times=999),
        Fault(CDN + "model-1.safetensors", stall=0, times=999),
        Fault(CDN + "model-1.safetensors", status=403, times=999),
    ],
)
def test_what_does_not_pass_ends_as_transient_and_keeps_what_is_there(
    run: Run, served: FaultyHub, dest: Path, fault: Fault
) -> None:
    served.goes_wrong(fault)
    with pytest.raises(Transient):
        run(policy=Policy(connections=4, stall_s=0.2, attempts=3, pause_s=0.01))
    assert not (dest / ".llm-release.json").exists()
    served.goes_wrong()
    before = served.sent
    result = run()
    assert on(dest) == FILES
    assert int(str(result["resumed_bytes"])) > 0
    assert served.sent - before <= TOTAL - int(str(result["resumed_bytes"])) + 100


@pytest.mark.parametrize(
    ("token", "repo", "code"),
    [
        (None, "gated/model", Code.TOKEN_MISSING),
        (OTHER_TOKEN, "gated/model", Code.TERMS_NOT_ACCEPTED),
        ("hf_wrong", "acme/model", Code.TOKEN_REFUSED),
    ],
)
def test_a_refused_download_is_permanent_at_once(
    run: Run, served: FaultyHub, token: str | None, repo: str, code: Code
) -> None:
    with pytest.raises(Refused) as e:
        run(token=token, repo=repo)
    assert e.value.code is code
    assert len(served.asked) <= 1 + FAST.connections


def test_the_token_never_reaches_the_storage_behind_the_hub(run: Run, served: FaultyHub) -> None:
    run(token=GOOD_TOKEN, repo="gated/model")
    assert {(a.origin, a.token) for a in served.asked} == {("hub", True), ("cdn", False)}


def test_a_complete_volume_is_hashed_again_and_not_fetched(run: Run, served: FaultyHub, dest: Path) -> None:
    run()
    before, said = served.sent, (dest / ".llm-release.json").read_bytes()
    result = run()
    assert (served.sent - before, result["fetched_bytes"], result["resumed_bytes"]) == (0, 0, TOTAL)
    assert (dest / ".llm-release.json").read_bytes() == said
    assert on(dest) == FILES


def test_a_complete_volume_with_a_wrong_byte_is_repaired(run: Run, served: FaultyHub, dest: Path) -> None:
    run()
    with (dest / "model-2.safetensors").open("r+b") as file:
        file.seek(SHARD // 2)
        file.write(b"\0\0\0\0\0\0\0\0")
    result = run()
    assert on(dest) == FILES
    assert result["fetched_bytes"] == SHARD
    assert marker(dest)["release"] == "r1"


def test_while_a_complete_volume_is_repaired_no_marker_calls_it_complete(
    run: Run, served: FaultyHub, dest: Path
) -> None:
    run()
    (dest / "model-2.safetensors").unlink()
    served.goes_wrong(Fault(CDN + "model-2.safetensors", status=503, times=999))
    with pytest.raises(Transient):
        run()
    assert not (dest / ".llm-release.json").exists()


@pytest.mark.parametrize("left", ["stray.bin", "sub/old.json", ".cache/huggingface/x"])
def test_a_volume_that_holds_anything_else_is_refused_and_untouched(run: Run, dest: Path, left: str) -> None:
    (dest / left).parent.mkdir(parents=True)
    (dest / left).write_text("mine")
    with pytest.raises(Refused, match=left) as e:
        run()
    assert e.value.code is Code.FOREIGN_VOLUME
    assert on(dest) == {left: b"mine"}


def test_a_link_on_the_volume_is_not_followed(run: Run, dest: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("mine")
    dest.mkdir(parents=True)
    (dest / "config.json").symlink_to(tmp_path / "outside")
    with pytest.raises(Refused) as e:
        run()
    assert e.value.code is Code.FOREIGN_VOLUME
    assert (tmp_path / "outside").read_text() == "mine"


def test_a_volume_of_another_release_is_refused(run: Run, dest: Path) -> None:
    run()
    with pytest.raises(Refused, match="holds release r1 of acme/model") as e:
        run(release="r2")
    assert e.value.code is Code.FOREIGN_VOLUME


def test_a_volume_that_another_release_began_is_refused(run: Run, served: FaultyHub, dest: Path) -> None:
    served.goes_wrong(Fault(CDN + "model-0.safetensors", status=503, times=999))
    with pytest.raises(Transient):
        run()
    with pytest.raises(Refused, match="for release r1") as e:
        run(release="r2")
    assert e.value.code is Code.FOREIGN_VOLUME


def test_the_folder_that_mkfs_makes_is_not_in_the_way(run: Run, dest: Path) -> None:
    (dest / "lost+found").mkdir(parents=True)
    run()
    assert on(dest) == FILES


def _from(files: dict[str, bytes], dest: Path, listed: dict[str, int] | None = None) -> Refused:
    """How a hub that serves other files than it should is refused."""
    with FaultyHub(files, listed=listed) as served, pytest.raises(Refused) as e:
        hydrate(Request(repo="acme/model", commit=COMMIT, dest=dest, release="r1"), Hub(served.url), FAST)
    return e.value


def test_a_missing_shard_is_told_and_the_volume_is_not_marked(dest: Path) -> None:
    error = _from({p: d for p, d in FILES.items() if p != "model-1.safetensors"}, dest)
    assert error.code is Code.INCOMPLETE_MODEL
    assert "names 1 files that are not there: model-1.safetensors" in error.cause
    assert not (dest / ".llm-release.json").exists()


def test_a_file_that_is_longer_than_listed_is_refused(dest: Path) -> None:
    error = _from(FILES, dest, {"model-0.safetensors": SHARD - 4})
    assert error.code is Code.LISTING_CHANGED
    assert f"has {SHARD} bytes; {SHARD - 4} were listed" in error.cause


def test_a_full_disk_shows_before_anything_is_fetched_and_leaves_nothing(dest: Path) -> None:
    error = _from(FILES, dest, {"model-0.safetensors": 1 << 60})
    assert error.code is Code.DISK_FULL
    assert re.search(r"too small: \d+ bytes are needed, \d+ are free", error.cause)
    assert on(dest) == {}


@pytest.mark.parametrize("crashed", [False, True])
def test_after_a_crash_of_the_node_only_synced_bytes_are_believed(
    run: Run, served: FaultyHub, dest: Path, monkeypatch: pytest.MonkeyPatch, crashed: bool
) -> None:
    identity = journal.Identity(release="r1", repo="acme/model", commit=COMMIT, listing=_listing(served))
    dest.mkdir(parents=True)
    opened = journal.start(dest, identity, [Spans() for _ in FILES])
    index = sorted(FILES).index("model-0.safetensors")
    opened.wrote(index, 0, 1_000_000)
    opened.synced(index, opened.position())
    opened.wrote(index, 1_000_000, 2_000_000)
    opened.close()
    (dest / "model-0.safetensors").write_bytes(FILES["model-0.safetensors"])
    if crashed:
        monkeypatch.setattr(journal, "_boot", lambda: "another boot")
    result = run()
    assert result["resumed_bytes"] == (1_000_000 if crashed else 2_000_000)
    assert on(dest) == FILES


def _listing(served: FaultyHub) -> str:
    return listing_digest(Hub(served.url).files("acme/model", COMMIT))


@pytest.mark.parametrize("damage", [b"", b"no json\n", b"{}\n", b"[1]\n"])
def test_a_journal_that_is_none_is_refused_like_any_stranger(run: Run, dest: Path, damage: bytes) -> None:
    dest.mkdir(parents=True)
    (dest / journal.NAME).write_bytes(damage)
    with pytest.raises(Refused) as e:
        run()
    assert e.value.code is Code.FOREIGN_VOLUME


def test_a_journal_that_lies_costs_a_fetch_and_nothing_else(run: Run, served: FaultyHub, dest: Path) -> None:
    identity = journal.Identity(release="r1", repo="acme/model", commit=COMMIT, listing=_listing(served))
    dest.mkdir(parents=True)
    opened = journal.start(dest, identity, [Spans([(0, len(FILES[f]))]) for f in sorted(FILES)])
    os.write(opened._fd, os.urandom(24 * 50 + 7))
    opened.close()
    for name, data in FILES.items():
        (dest / name).parent.mkdir(exist_ok=True)
        (dest / name).write_bytes(b"\1" * len(data))
    run()
    assert on(dest) == FILES


@pytest.mark.parametrize(("commit", "release"), [("main", "r1"), (COMMIT, "../r1"), (COMMIT, "")])
def test_a_branch_or_a_strange_release_id_is_refused(
    served: FaultyHub, dest: Path, commit: str, release: str
) -> None:
    with pytest.raises(Refused) as e:
        hydrate(Request(repo="acme/model", commit=commit, dest=dest, release=release), Hub(served.url), FAST)
    assert e.value.code is Code.BAD_INPUT


def test_every_refusal_names_one_next_action(run: Run) -> None:
    with pytest.raises(ReleaseError) as e:
        run(include=("*.gguf",))
    assert e.value.next_action
