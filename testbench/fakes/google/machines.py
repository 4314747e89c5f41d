"""Instances that run: one with a startup script gets a machine of testbench.vm; any other is a record only.

A machine's folder is <state>/machines/<instance>; its process outlives this fake, which finds it again by its record.
Faults strike by instance name: `vm-silent` (it boots and says nothing), `vm-bare` (nothing is installed),
`vm-small-disk` (its work disk has `limit` MiB only).
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from testbench.process import Processes
from testbench.vm import rootfs
from testbench.vm.machine import Plan

if TYPE_CHECKING:
    from testbench.fakes.google.cloud import Cloud
    from testbench.fakes.google.messages import Resource

SCRIPT = "startup-script"
_BOOT_S = 20.0
_GRACE_S = 10.0
_SILENT = "#!/bin/sh\nexec sleep infinity >/dev/null 2>&1\n"
_choosing = threading.Lock()


class Machines:
    """The machines of one fake. `records` is where the bench keeps what it started, so that `down` ends them too."""

    def __init__(self, cloud: Cloud, *, folder: Path, records: Path, logs: Path) -> None:
        self._cloud = cloud
        self._folder = folder
        self._processes = Processes(records=records, logs=logs)

    def start(self, instance: Resource, key: str) -> None:
        """Starts the machine of a new instance with its disks, if it has a startup script.

        Raises:
            RuntimeError: it did not come up.
        """
        metadata = {i["key"]: i.get("value", "") for i in instance.get("metadata", {}).get("items", [])}
        if SCRIPT not in metadata:
            return
        name, folder = instance["name"], self.folder(instance["name"])
        shutil.rmtree(folder, ignore_errors=True)
        faults = {f.kind: f for f in self._cloud.faults.struck_machine(name)}
        with _choosing:
            Plan(
                name=name,
                index=self._free_index(),
                tree=str(rootfs.tree()),
                startup_script=_SILENT if "vm-silent" in faults else metadata[SCRIPT],
                metadata={k: v for k, v in metadata.items() if k != SCRIPT},
                hidden=rootfs.BARE if "vm-bare" in faults else (),
            ).write(folder)
        argv = [sys.executable, "-u", "-m", "testbench.vm.machine", str(folder)]
        self._processes.start(f"vm-{name}", argv, env=dict(os.environ), cwd=Path("/"))
        small = faults.get("vm-small-disk")
        self._attach(instance, key, root=self._root(name), seen_mib=int(small.limit) if small else 0)
        self._check_attached(instance)
        (folder / "go").touch()
        self._limit(instance, key)

    def stop(self, name: str) -> None:
        """Switches it off; one that does not run is no error. What it printed stays in the bench's logs."""
        self._processes.signal(f"vm-{name}", signal.SIGTERM)
        self._processes.end(f"vm-{name}", grace_s=_GRACE_S)
        (self._cloud.settings.node_roots / name).unlink(missing_ok=True)
        folder = self.folder(name)
        if (folder / "serial.log").exists():
            shutil.copy(folder / "serial.log", self._processes.logs / f"vm-{name}.serial.log")
        shutil.rmtree(folder, ignore_errors=True)

    def folder(self, name: str) -> Path:
        return self._folder / name

    def serial(self, name: str) -> bytes:
        """What it printed so far on port 1."""
        file = self.folder(name) / "serial.log"
        return file.read_bytes() if file.exists() else b""

    def guest_attributes(self, name: str) -> dict[str, str]:
        """By "namespace/key"."""
        file = self.folder(name) / "guest.json"
        found: dict[str, str] = json.loads(file.read_text()) if file.exists() else {}
        return found

    def resume(self) -> None:
        """After a restart of this fake: instances that were booting go on, limits are watched again."""
        for key, instance in self._instances():
            if self._processes.running(f"vm-{instance['name']}"):
                if not (self.folder(instance["name"]) / "go").exists():
                    self._attach(instance, key, root=self._root(instance["name"]))
                    (self.folder(instance["name"]) / "go").touch()
                self._limit(instance, key)

    def _instances(self) -> Iterator[tuple[str, Resource]]:
        for key, resource in list(self._cloud.state.held.resources.items()):
            if "/instances/" in key:
                yield key, resource

    def _root(self, name: str) -> str:
        file = self.folder(name) / "root"
        end = time.monotonic() + _BOOT_S
        while not file.exists():
            if time.monotonic() > end or not self._processes.running(f"vm-{name}"):
                raise RuntimeError(f"the machine of {name} did not come up: {self.serial(name)[-300:]!r}")
            time.sleep(0.02)
        return file.read_text().strip()

    def _attach(self, instance: Resource, key: str, *, root: str, seen_mib: int = 0) -> None:
        """The boot disk is the machine's own tree; every other disk becomes a device in it."""
        from testbench.fakes.google import sources  # which needs the cloud that holds this

        (self._cloud.settings.node_roots / instance["name"]).write_text(root)
        for entry in instance["disks"]:
            held = f"{key}/{entry['deviceName']}"
            if entry["boot"] or held in self._cloud.state.held.devices:
                continue
            made = self._cloud.devices.attach(
                instance["name"],
                sources.content(entry["source"].removeprefix(self._cloud.base)),
                entry["deviceName"],
                size_gib=int(entry["diskSizeGb"]),
                read_only=entry["mode"] == "READ_ONLY",
                seen_mib=seen_mib,
            )
            with self._cloud.state.changing() as state:
                state.devices[held] = asdict(made)

    def _check_attached(self, instance: Resource) -> None:
        root = Path(self._root(instance["name"]))
        for entry in instance["disks"]:
            link = root / "dev/disk/by-id" / f"google-{entry['deviceName']}"
            if not entry["boot"] and not link.is_symlink():
                raise RuntimeError(
                    f"{instance['name']} has no {link}; its devices: {os.listdir(root / 'dev')}"
                )

    def _limit(self, instance: Resource, key: str) -> None:
        """`scheduling.maxRunDuration` with action DELETE: Compute itself deletes it."""
        scheduling: dict[str, Any] = instance.get("scheduling", {})
        seconds = float(scheduling.get("maxRunDuration", {}).get("seconds", 0))
        if not seconds or scheduling.get("instanceTerminationAction") != "DELETE":
            return

        def end() -> None:
            found = self._cloud.state.held.resources.get(key)
            if found is not None and found["id"] == instance["id"]:
                self._cloud.operations.start("delete", key, "instance.delete", user="system@compute")

        timer = threading.Timer(seconds, end)
        timer.daemon = True
        timer.start()

    def _free_index(self) -> int:
        used = set()
        for file in self._folder.glob("*/machine.json"):
            used.add(json.loads(file.read_text())["index"])
        return next(n for n in range(1, 251) if n not in used)
