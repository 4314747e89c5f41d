"""The Debian packages that the bench runs on; installed only when one is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

NEEDS = {
    "runc": "/usr/sbin/runc",
    "containernetworking-plugins": "/usr/lib/cni/bridge",
    "docker-registry": "/usr/bin/docker-registry",
    "mmdebstrap": "/usr/bin/mmdebstrap",
    "nftables": "/usr/sbin/nft",
    "iptables": "/usr/sbin/iptables",
    "iproute2": "/sbin/ip",
    "e2fsprogs": "/sbin/mkfs.ext4",
    "mount": "/bin/mount",
    "util-linux": "/usr/bin/nsenter",
    "postgresql": "/usr/lib/postgresql",
    "conntrack": "/usr/sbin/conntrack",
}
"""Package -> a file that it brings."""


def ensure() -> None:
    """
    Raises:
        RuntimeError: a package could not be installed.
    """
    missing = [package for package, file in NEEDS.items() if not Path(file).exists()]
    if not missing:
        return
    print(
        f"bench: installing Debian packages: {', '.join(missing)} (usually 30 s)", file=sys.stderr, flush=True
    )
    # A policy that answers 101 keeps Debian from starting services (docker-registry, postgresql) of its own.
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    policy = Path("/usr/sbin/policy-rc.d")
    ours = not policy.exists()
    if ours:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    try:
        _apt(["update", "-qq"], env)
        _apt(["install", "-qqy", "--no-install-recommends", *missing], env)
    finally:
        if ours:
            policy.unlink()


def _apt(words: list[str], env: dict[str, str]) -> None:
    if not shutil.which("apt-get"):
        raise RuntimeError("this is no Debian (no apt-get). Next: run the bench on Debian 12.")
    done = subprocess.run(["apt-get", *words], env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(
            f"apt-get {words[0]} failed: {done.stderr.strip()[-400:]}. Next: repair apt, then start again."
        )
