"""Disks of a node as loop devices: bytes written through one attachment are read through the next.

Of a fake of its own, beside the bench's; what it needs of the bench is root and loop devices.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbench.fakes.google.devices import Devices, backing_file, release_all, sd_name
from tests.unit.fakes.google_apis import NODE, PLACE, GoogleApis, codes


@pytest.fixture
def google(tmp_path: Path) -> Iterator[GoogleApis]:
    running = GoogleApis(tmp_path)
    running.start()
    yield running
    running.stop()


@pytest.fixture
def node(google: GoogleApis) -> Iterator[Path]:
    """The root of a node, empty but for /dev."""
    root = google.folder / "root"
    (root / "dev").mkdir(parents=True)
    (google.folder / "roots").mkdir()
    (google.folder / "roots" / NODE).write_text(str(root))
    yield root
    release_all(google.folder / "disks")


def device(node: Path, name: str) -> Path:
    """The block device behind the link, as the CSI driver resolves it."""
    target = Path(os.readlink(node / "dev/disk/by-id" / f"google-{name}"))
    assert str(target).startswith("/dev/sd")
    return node / str(target).lstrip("/")


def loops(google: GoogleApis) -> list[str]:
    found = Path("/sys/block").glob("loop*/loop/backing_file")
    return [f.parts[3] for f in found if f.read_text().startswith(str(google.folder))]


def test_what_one_attachment_wrote_the_next_one_reads(google: GoogleApis, node: Path) -> None:
    google.made("weights")
    google.done(google.attach("weights"))
    path = device(node, "weights")
    assert (node / "run/llm-bench/scsi" / path.name).read_text() == "weights"
    with path.open("r+b") as f:
        f.write(b"hydrated")
    assert os.stat(path).st_blocks == 0, "a device node, no file"
    google.done(google.detach("weights"))
    assert not (node / "dev/disk/by-id/google-weights").is_symlink()
    assert loops(google) == []
    google.done(google.update("weights", "accessMode", access_mode="READ_ONLY_MANY"))
    google.done(google.attach("weights", mode="READ_ONLY"))
    path = device(node, "weights")
    assert path.open("rb").read(8) == b"hydrated"
    with pytest.raises(OSError, match=r"(?i)read-only|not permitted"):
        path.write_bytes(b"x")


def test_a_disk_has_the_size_that_was_asked_for(google: GoogleApis, node: Path) -> None:
    google.made("weights", size_gb=7)
    google.done(google.attach("weights"))
    with device(node, "weights").open("rb") as f:
        assert f.seek(0, os.SEEK_END) == 7 << 30
    file = google.folder / "disks" / "us-central1-a.weights.img"
    assert file.stat().st_blocks < 100, "the file is sparse"


def test_a_deleted_disk_leaves_no_file(google: GoogleApis, node: Path) -> None:
    google.made("weights")
    google.done(google.attach("weights"))
    google.done(google.detach("weights"))
    google.done(google.disks.delete(disk="weights", **PLACE))
    assert list((google.folder / "disks").iterdir()) == []


def test_a_copy_has_the_bytes(google: GoogleApis, node: Path) -> None:
    from google.cloud import compute_v1

    google.made("weights")
    google.done(google.attach("weights"))
    with device(node, "weights").open("r+b") as f:
        f.write(b"hydrated")
    google.done(google.detach("weights"))
    snapshot = compute_v1.Snapshot(name="s")
    google.done(google.disks.create_snapshot(disk="weights", snapshot_resource=snapshot, **PLACE))
    google.made("copy", source_snapshot="global/snapshots/s", access_mode="READ_ONLY_MANY")
    google.done(google.attach("copy", mode="READ_ONLY"))
    assert device(node, "copy").open("rb").read(8) == b"hydrated"

    google.done(google.attach("weights"))
    with device(node, "weights").open("r+b") as f:
        f.write(b"changed!")
        os.fsync(f.fileno())
    for copy in ("weights", "copy"):
        google.done(google.detach(copy))
    google.done(google.attach("copy", mode="READ_ONLY"))
    assert device(node, "copy").open("rb").read(8) == b"hydrated", "what is written later is not in the copy"


def test_a_node_that_is_gone_can_be_detached_from(google: GoogleApis, node: Path) -> None:
    google.made("weights")
    google.done(google.attach("weights"))
    (google.folder / "roots" / NODE).write_text("/proc/999999999/root")
    assert codes(google.done(google.detach("weights"))) == []
    assert loops(google) == []


def test_a_node_with_a_new_root_gets_its_devices_again(google: GoogleApis, node: Path) -> None:
    google.made("weights")
    google.done(google.attach("weights"))
    second = google.folder / "second"
    (second / "dev").mkdir(parents=True)
    (google.folder / "roots" / NODE).write_text(str(second))
    assert google.control("POST", f"nodes/{NODE}/relink") == {"relinked": 1}
    assert device(second, "weights").is_block_device()


def test_a_restart_finds_the_device_and_frees_what_nobody_knows(google: GoogleApis, node: Path) -> None:
    google.made("weights")
    google.done(google.attach("weights"))
    (known,) = loops(google)
    stray = google.folder / "disks" / "stray.img"
    stray.write_bytes(b"\0" * 4096)
    subprocess.run(["losetup", "--find", str(stray)], check=True)
    google.stop()
    google.start()
    assert loops(google) == [known]
    google.done(google.detach("weights"))
    assert loops(google) == []


def test_a_device_that_was_lost_is_made_again_at_the_start(google: GoogleApis, node: Path) -> None:
    google.made("weights")
    google.done(google.attach("weights"))
    google.stop()
    release_all(google.folder / "disks")
    google.start()
    assert device(node, "weights").is_block_device()
    google.done(google.detach("weights"))
    assert loops(google) == []


def test_a_fake_killed_while_it_attaches_ends_with_one_device(tmp_path: Path) -> None:
    """The process is really killed, in the middle of an operation; its next life finishes that operation."""
    google = GoogleApis(tmp_path)
    google.start()
    google.made("weights")
    google.stop()
    root = tmp_path / "root"
    (root / "dev").mkdir(parents=True)
    (tmp_path / "roots").mkdir()
    (tmp_path / "roots" / NODE).write_text(str(root))
    process = spawn(google, latency="30")
    started = google.attach("weights")
    process.kill()
    process.wait()
    process = spawn(google, latency="0")
    try:
        assert codes(google.done(started)) == []
        assert len(loops(google)) == 1
        assert device(root, "weights").is_block_device()
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        release_all(tmp_path / "disks")


def spawn(google: GoogleApis, *, latency: str) -> subprocess.Popen[bytes]:
    folder = google.folder
    argv = [sys.executable, "-m", "testbench.fakes.google", "--listen", f"127.0.0.1:{google.port}"]
    argv += ["--state", str(folder / "state"), "--disks", str(folder / "disks")]
    argv += ["--node-roots", str(folder / "roots"), "--ca", str(folder / "ca.crt")]
    argv += [
        "--bearer",
        str(folder / "bearer"),
        "--api-server",
        "https://10.0.0.1:6443",
        "--latency",
        latency,
    ]
    process = subprocess.Popen(argv)
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            urllib.request.urlopen(f"{google.url}/healthz", timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return process
    process.kill()
    raise AssertionError("the fake did not start")


def test_names_of_devices_are_past_those_of_the_host() -> None:
    assert sd_name("/dev/loop3") == "sdad"
    assert len({sd_name(f"/dev/loop{n}") for n in range(676)}) == 676


def test_a_disk_without_a_node_has_no_device(tmp_path: Path) -> None:
    assert not Devices(tmp_path / "disks", tmp_path / "roots").is_node("builder")
    assert backing_file("/dev/loop-none") == ""
