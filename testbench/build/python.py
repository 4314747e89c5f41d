"""Folders of Python packages for images, installed once per list by uv, compiled, in the cache."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from testbench import config

PYTHON = "3.11"
"""Of Debian 12, which the images run."""


def site_packages(name: str, requirements: Path, *, no_dependencies: Path | None = None) -> Path:
    """-> a folder with the packages of `requirements`, and those of `no_dependencies` without theirs."""
    lists = [requirements, *([no_dependencies] if no_dependencies else [])]
    key = hashlib.sha256(b"\0".join(f.read_bytes() for f in lists)).hexdigest()[:12]
    made = config.CACHE / name / key / "site-packages"
    made.parent.mkdir(parents=True, exist_ok=True)
    with (made.parent / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            _install(name, made, requirements, no_dependencies)
    return made


def uv() -> str:
    """The uv that made our own environment."""
    found = sorted((config.CACHE / "uv").glob("*/bin/uv"))
    if found:
        return str(found[-1])
    on_path = shutil.which("uv")
    if on_path is None:
        raise RuntimeError("uv is missing. Next: run make venv.")
    return on_path


def _install(name: str, made: Path, requirements: Path, no_dependencies: Path | None) -> None:
    print(f"bench: installing the Python packages of {name}", file=sys.stderr, flush=True)
    started = time.monotonic()
    draft = made.with_name("draft")
    shutil.rmtree(draft, ignore_errors=True)
    target = ["--python-version", PYTHON, "--target", str(draft)]
    _uv(["pip", "install", "-q", *target, "-r", str(requirements)])
    if no_dependencies:
        _uv(["pip", "install", "-q", *target, "--no-deps", "-r", str(no_dependencies)])
    shutil.rmtree(draft / "triton", ignore_errors=True)
    _compile(draft)
    draft.replace(made)
    print(f"bench: installed {name} in {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)


def _compile(folder: Path) -> None:
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    argv = [sys.executable, "-m", "compileall", "-q", "-j2", "--invalidation-mode", "unchecked-hash"]
    # Files that no Python 3.11 can compile (templates, tests of other versions) are no failure.
    subprocess.run(
        [*argv, "-s", str(folder), "-p", "/opt/site", str(folder)],
        env=env,
        stdout=subprocess.DEVNULL,
        check=False,
    )


def _uv(words: list[str]) -> None:
    done = subprocess.run([uv(), *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(
            f"uv {words[1]} failed: {done.stderr.strip()[-600:]}. Next: check that PyPI can be reached."
        )
