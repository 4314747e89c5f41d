"""The hydrator against `hf download`: `python -m testbench.perf.hydrate`.

Same hub, same volume (a loop-backed ext4), one run, interleaved, the order turned round each time. The
hydrator's time includes hashing and fsync; the other's includes neither, as it does neither. Also: what a
kill at half of the bytes costs over both runs. Prints Markdown; needs root, and nothing else at work on the
machine.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from testbench import config
from testbench.fakes.hf_hub import repos

REPO = "acme/perf"
CAP = 50e6
"""Bytes a second of one connection: what a CDN gives one client over the internet."""
LEAST_RATIO, MOST_REFETCH, MOST_RSS_MIB = 1.5, 1.05, 512
_PIECE = 1 << 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What is downloaded, and from where to where."""

    hub_root: Path
    volume: Path
    commit: str
    total: int
    """Bytes."""

    @property
    def dest(self) -> Path:
        return self.volume / "model"


@dataclass(frozen=True, slots=True, kw_only=True)
class Took:
    """One run of one program."""

    seconds: float
    cpu_s: float
    rss_mib: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Hub:
    """A running hub."""

    url: str

    def sent(self) -> int:
        """Bytes of files that left it since `reset`."""
        with urllib.request.urlopen(f"{self.url}/_bench/log", timeout=10) as answer:
            entries = json.load(answer)
        return sum(e["bytes"] for e in entries if e["origin"] == "cdn" or "/resolve/" in e["path"])

    def reset(self) -> None:
        request = urllib.request.Request(f"{self.url}/_bench/log", method="DELETE")
        urllib.request.urlopen(request, timeout=10).close()


def main() -> int:
    options = _options()
    print(
        f"Machine: {_machine()}. {options.files} files, {options.bytes / 1e9:g} GB, {options.rounds} rounds.\n"
    )
    met = True
    with _setup(options.bytes, options.files) as setup:
        print("| case | program | MB/s min / median / max | CPU s | peak MiB | ratio of medians |")
        print("|---|---|---|---|---|---|")
        for name, rate in (("uncapped", None), (f"{CAP / 1e6:g} MB/s a connection", CAP)):
            with _hub(setup, rate) as hub:
                met &= _compare(name, setup, hub, options.rounds)
        print("\n| resume after kill -9 at half | fetched in both runs / total, worst of all |\n|---|---|")
        for name, rate in (("uncapped", None), (f"{CAP / 1e6:g} MB/s a connection", CAP)):
            with _hub(setup, rate) as hub:
                shares = [_resume(setup, hub) for _ in range(options.rounds)]
            met &= max(shares) <= MOST_REFETCH
            print(f"| {name} | {max(shares):.3f} (bound {MOST_REFETCH}) |")
    print(f"\nAll bounds held: {'yes' if met else 'NO'}")
    return 0 if met else 1


def _compare(name: str, setup: Setup, hub: Hub, rounds: int) -> bool:
    programs: dict[str, Callable[[], Took]] = {
        "hf download": lambda: _run(_hf(setup), _environment(hub)),
        "hydrate": lambda: _run(_hydrate(setup), _environment(hub)),
    }
    took: dict[str, list[Took]] = {program: [] for program in programs}
    for number in range(rounds):
        for program in sorted(programs, reverse=bool(number % 2)):
            _empty(setup)
            took[program].append(programs[program]())
    rates = {p: [setup.total / 1e6 / t.seconds for t in runs] for p, runs in took.items()}
    ratio = statistics.median(rates["hydrate"]) / statistics.median(rates["hf download"])
    for program, runs in took.items():
        found = rates[program]
        spread = f"{min(found):.0f} / {statistics.median(found):.0f} / {max(found):.0f}"
        cpu, rss = statistics.median(t.cpu_s for t in runs), max(t.rss_mib for t in runs)
        told = f"{ratio:.2f} (bound {LEAST_RATIO})" if program == "hydrate" else ""
        print(f"| {name} | {program} | {spread} | {cpu:.1f} | {rss:.0f} | {told} |", flush=True)
    return ratio >= LEAST_RATIO and max(t.rss_mib for t in took["hydrate"]) <= MOST_RSS_MIB


def _resume(setup: Setup, hub: Hub) -> float:
    """-> bytes that left the hub in both runs, by the bytes of the model."""
    _empty(setup)
    hub.reset()
    killed = subprocess.Popen(_hydrate(setup), env=_environment(hub), stdout=subprocess.DEVNULL)
    while hub.sent() < setup.total / 2 and killed.poll() is None:
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    if killed.wait() != -signal.SIGKILL:
        raise SystemExit("the first run ended before it could be killed")
    _run(_hydrate(setup), _environment(hub))
    return hub.sent() / setup.total


def _run(argv: Sequence[str], environment: Mapping[str, str]) -> Took:
    started = time.monotonic()
    process = subprocess.Popen(
        argv, env=dict(environment), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout
    output = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.monotonic() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{argv[0]} ended with {process.returncode}:\n{output[-2000:]}")
    return Took(seconds=seconds, cpu_s=used.ru_utime + used.ru_stime, rss_mib=used.ru_maxrss / 1024)


def _hydrate(setup: Setup) -> list[str]:
    argv = [sys.executable, "-m", "llm_release.jobs.hydrate", "--repo", REPO, "--commit", setup.commit]
    return [*argv, "--dest", str(setup.dest), "--release", "perf"]


def _hf(setup: Setup) -> list[str]:
    program = str(Path(sys.executable).with_name("hf"))
    return [program, "download", REPO, "--revision", setup.commit, "--local-dir", str(setup.dest)]


def _environment(hub: Hub) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(config.ROOT / "plugins"),
        "TERMINATION_LOG": os.devnull,
        "HF_ENDPOINT": hub.url,
        "HF_HOME": tempfile.gettempdir(),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_UPDATE_CHECK": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }


def _empty(setup: Setup) -> None:
    """Both programs start on an empty volume, with nothing left to be written from before."""
    shutil.rmtree(setup.dest, ignore_errors=True)
    subprocess.run(["sync"], check=True)


@contextlib.contextmanager
def _setup(total: int, files: int) -> Iterator[Setup]:
    folder = config.BENCH / "perf"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        root, source = Path(temporary) / "hub", Path(temporary) / "source"
        source.mkdir()
        for number in range(1, files + 1):
            _random(source / f"model-{number:05d}-of-{files:05d}.safetensors", total // files)
        (source / "config.json").write_text("{}\n")
        commit = repos.publish(root, REPO, source, link=True)
        shutil.rmtree(source)
        size = sum(f.size for f in repos.files(root, REPO, commit).values())
        with _volume(Path(temporary), (size * 6 // 5 >> 20) + 256) as volume:
            yield Setup(hub_root=root, volume=volume, commit=commit, total=size)


def _random(path: Path, size: int) -> None:
    with path.open("wb") as file:
        for start in range(0, size, _PIECE):
            file.write(os.urandom(min(_PIECE, size - start)))


@contextlib.contextmanager
def _volume(folder: Path, size_mib: int) -> Iterator[Path]:
    """A file system in a file. Without the page cache below it, which a disk does not have either."""
    image, mount = folder / "disk.img", folder / "volume"
    mount.mkdir()
    with image.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, size_mib << 20)
    _do("mkfs.ext4", "-q", "-F", "-m", "0", str(image))
    loop = _do("losetup", "--find", "--show", "--direct-io=on", str(image)).strip()
    try:
        _do("mount", loop, str(mount))
        try:
            yield mount
        finally:
            _do("umount", str(mount))
    finally:
        _do("losetup", "--detach", loop)


@contextlib.contextmanager
def _hub(setup: Setup, rate: float | None) -> Iterator[Hub]:
    argv = [sys.executable, "-m", "testbench.fakes.hf_hub", "--root", str(setup.hub_root)]
    argv += ["--listen", "127.0.0.1:0", "--cdn", "127.0.0.1:0", *(["--rate", str(rate)] if rate else [])]
    process = subprocess.Popen(argv, cwd=config.ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        found = re.match(r"hub on (http://\S+),", process.stdout.readline())
        if not found:
            raise SystemExit("the hub did not start")
        yield Hub(url=found[1])
    finally:
        process.terminate()
        process.wait(10)


def _do(*argv: str) -> str:
    return subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True).stdout


def _machine() -> str:
    text = Path("/proc/cpuinfo").read_text()
    found = re.search(r"model name\s*: (.*)", text)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / (1 << 30)
    load = os.getloadavg()[0]
    cpu = found[1] if found else platform.machine()
    cores = len(os.sched_getaffinity(0))
    return (
        f"{cores} cores of {cpu}, {memory:.0f} GiB, kernel {platform.release()}, load {load:.1f} at the start"
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="testbench.perf.hydrate", description=__doc__)
    parser.add_argument("--bytes", type=lambda t: int(float(t)), default=int(4e9), help="of the model")
    parser.add_argument("--files", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
