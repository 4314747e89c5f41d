"""What this host lacks for the bench, told before anything is tried, each with what to do about it."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path

from testbench import config

FREE_GIB = 25
MEMORY_GIB = 8
CAP_SYS_ADMIN, CAP_NET_ADMIN, CAP_MKNOD = 21, 12, 27


def problems() -> list[str]:
    """One sentence each; empty when the bench can be tried."""
    found = [*_privileges(), *_machine(), *_kernel()]
    if not (config.PIDS / "kube-apiserver.json").exists():
        found += _ports()
    return found


def _privileges() -> list[str]:
    if os.geteuid() != 0:
        return ["the bench needs root (nodes are namespaces, disks are loop devices). Next: run it as root."]
    held = int(
        next(
            x.split()[1] for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("CapEff")
        ),
        16,
    )
    names = {"SYS_ADMIN": CAP_SYS_ADMIN, "NET_ADMIN": CAP_NET_ADMIN, "MKNOD": CAP_MKNOD}
    return [
        f"capability {n} is missing. Next: run on a machine, not in a container without it."
        for n, bit in names.items()
        if not held >> bit & 1
    ]


def _machine() -> list[str]:
    found = []
    config.CACHE.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(config.CACHE).free >> 30
    fresh = not (config.CACHE / "registry").exists()
    if free < (FREE_GIB if fresh else 6):
        found.append(
            f"{free} GiB are free for {config.CACHE}, {FREE_GIB if fresh else 6} are needed. Next: make room."
        )
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 30
    if total < MEMORY_GIB:
        found.append(
            f"the machine has {total} GiB of memory, {MEMORY_GIB} are needed. Next: use a larger one."
        )
    if os.uname().machine != "x86_64":
        found.append(
            f"this is {os.uname().machine}; the images are made for x86_64. Next: use such a machine."
        )
    return found


def _kernel() -> list[str]:
    found = []
    if not Path("/dev/loop-control").exists():
        found.append("there are no loop devices. Next: modprobe loop.")
    if "overlay" not in Path("/proc/filesystems").read_text():
        found.append("the kernel has no overlayfs. Next: modprobe overlay.")
    return found


def _ports() -> list[str]:
    found = []
    for port in (config.ETCD_PORT, config.ETCD_PEER_PORT, 10256, 10249, 10257, 10259):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                found.append(
                    f"port {port} on 127.0.0.1 is taken. Next: see by whom with ss -ltnp, and end it."
                )
    return found
