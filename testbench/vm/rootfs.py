"""The Debian tree of every machine, made once by mmdebstrap; a machine writes to an overlay above it."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
import time
from pathlib import Path

from testbench import config

PACKAGES = "containerd,runc,jq,curl,e2fsprogs,util-linux,mount,ca-certificates,iproute2,attr,procps,apt"
"""What Google's Debian 12 image has, and containerd: a machine reaches no package archive, only the bench."""
BARE = ("usr/bin/containerd", "usr/bin/ctr", "usr/bin/jq", "var/lib/dpkg/status")
"""Hidden from a machine that is to be as Google's image is: the startup script must install them."""


def tree() -> Path:
    """-> the folder of the tree; made when it is not there (about 30 s)."""
    key = hashlib.sha256(PACKAGES.encode()).hexdigest()[:12]
    made = config.CACHE / "vm" / key
    made.parent.mkdir(parents=True, exist_ok=True)
    with (made.parent / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            _make(made)
    return made


def _make(made: Path) -> None:
    print("bench: making the Debian tree of the machines (usually 30 s)", file=sys.stderr, flush=True)
    started = time.monotonic()
    draft, tar = made.with_name("draft"), made.with_name("draft.tar")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    options = ["--quiet", "--variant=minbase", f"--include={PACKAGES}", "--format=tar"]
    options += [f"--dpkgopt=path-exclude=/usr/share/{part}/*" for part in ("man", "doc", "locale")]
    argv = ["mmdebstrap", *options, "bookworm", str(tar)]
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)
    # its device nodes stay out: a machine gets its own
    subprocess.run(
        ["tar", "-C", str(draft), "--numeric-owner", "--exclude=./dev/*", "-xpf", str(tar)], check=True
    )
    tar.unlink()
    draft.replace(made)
    print(f"bench: made it in {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
