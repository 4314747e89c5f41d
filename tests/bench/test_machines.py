"""Machines of the fake Compute really run: their startup script, their disks, their end."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from llm_release.clients.machines import Machines, Wish
from llm_release.clients.operations import Operation
from llm_release.hooks.cluster import ClusterHook
from testbench import bench, config
from testbench.vm.machine import CGROUPS, cgroup
from tests.bench.conftest import Faults
from tests.bench.tools import until

pytestmark = pytest.mark.timeout(120)
ZONE = config.ZONE
NAME = f"vm-t{os.getpid() % 1000}"
Start = Callable[..., str]


@pytest.fixture
def machines(connect: ClusterHook) -> Machines:
    return connect.machines()


@pytest.fixture
def start(machines: Machines, connect: ClusterHook) -> Iterator[Start]:
    """start("echo hello", key="value") gives a machine with an empty disk of 10 GiB; -> its name."""
    disks = connect.disks()
    made: list[str] = []

    def make(script: str, *, within: int = 600, **metadata: str) -> str:
        name = f"{NAME}-{len(made)}"
        made.append(name)
        finish(disks.operation, machines.create_disk(ZONE, f"{name}-disk", size_gib=10, labels={}))
        wish = Wish(
            name=name,
            kind="e2-standard-4",
            boot_image="projects/debian-cloud/global/images/family/debian-12",
            boot_gib=10,
            work_disk=f"{name}-disk",
            read_only=False,
            subnetwork="",
            service_account="default",
            metadata={"startup-script": f"#!/bin/bash\n{script}\n", **metadata},
            labels={"test": "yes"},
            within=within,
        )
        finish(disks.operation, machines.create_machine(ZONE, wish))
        return name

    yield make
    for name in made:
        if (operation := machines.delete_machine(ZONE, name)) is not None:
            finish(disks.operation, operation)
        if (operation := disks.delete(ZONE, f"{name}-disk")) is not None:
            finish(disks.operation, operation)


def finish(look: Callable[[str, str], Operation], operation: Operation) -> None:
    until(lambda: look(operation.zone, operation.name).done, 60)
    done = look(operation.zone, operation.name)
    assert done.error is None, done.error


def printed(machines: Machines, name: str, word: str) -> str:
    """Everything on the serial port once `word` is there."""
    until(lambda: word in machines.serial(ZONE, name, 0)[0], 30)
    return machines.serial(ZONE, name, 0)[0]


def test_the_script_runs_with_its_metadata_and_is_read_from_where_one_stopped(
    machines: Machines, start: Start
) -> None:
    ask = "curl -sSf -H 'Metadata-Flavor: Google' http://metadata.google.internal/computeMetadata/v1"
    name = start(
        f"echo I am $({ask}/instance/name) for $({ask}/instance/attributes/purpose)", purpose="a-test"
    )
    said = printed(machines, name, "Finished running startup scripts")
    assert f"startup-script: I am {name} for a-test" in said
    assert "startup-script exit status 0" in said
    _, next_ = machines.serial(ZONE, name, 0)
    assert machines.serial(ZONE, name, next_) == ("", next_)
    found = machines.machine(ZONE, name)
    assert found is not None
    assert (found.status, found.labels) == ("RUNNING", {"test": "yes"}), (
        "it runs on when its script has ended"
    )


def test_a_script_that_fails_is_told_as_the_guest_agent_does(machines: Machines, start: Start) -> None:
    name = start("echo before >&2; exit 7")
    said = printed(machines, name, "Finished running startup scripts")
    assert "startup-script: before" in said
    assert 'Script "startup-script" failed with error: exit status 7' in said


def test_it_has_its_disk_and_no_other_device_process_or_mount_of_the_host(
    machines: Machines, start: Start
) -> None:
    name = start(
        "disk=$(readlink -f /dev/disk/by-id/google-llm-release-image)\n"
        "mkfs.ext4 -q -F $disk && mount $disk /mnt && echo written > /mnt/file && umount /mnt && echo disk works\n"
        "mknod /dev/host b 254 0; head -c 1 /dev/host >/dev/null 2>&1 || echo host disk refused\n"
        "echo processes $(ls -d /proc/[0-9]* | wc -l) mounts $(grep -c -F .bench /proc/mounts)\n"
        "timeout 3 bash -c 'echo > /dev/tcp/1.1.1.1/80' 2>/dev/null || echo outside refused\n"
        f"timeout 3 bash -c 'echo > /dev/tcp/{config.SERVICES}/{config.REGISTRY_PORT}' && echo registry reached"
    )
    said = printed(machines, name, "Finished running startup scripts")
    for line in ("disk works", "host disk refused", "outside refused", "registry reached"):
        assert f"startup-script: {line}" in said, said
    processes = int(said.split("startup-script: processes ")[1].split()[0])
    assert processes < 10


def test_a_deleted_machine_leaves_nothing_and_its_disk_is_free(
    machines: Machines, start: Start, connect: ClusterHook
) -> None:
    name = start("exec sleep infinity")
    disk = connect.disks().get(ZONE, f"{name}-disk")
    assert disk is not None
    assert disk.users == (name,)
    operation = machines.delete_machine(ZONE, name)
    assert operation is not None
    finish(connect.disks().operation, operation)
    assert machines.machine(ZONE, name) is None
    disk = connect.disks().get(ZONE, f"{name}-disk")
    assert disk is not None
    assert disk.users == ()
    assert not bench.PROCESSES.running(f"vm-{name}")
    assert list(CGROUPS.glob(f"*/{cgroup(name)}")) == []
    assert not Path("/run/netns/llmr-vm-1").exists()


def test_compute_itself_ends_a_machine_that_outlives_its_time(machines: Machines, start: Start) -> None:
    name = start("exec sleep infinity", within=2)
    until(lambda: machines.machine(ZONE, name) is None, 20)


def test_a_silent_machine_says_nothing(machines: Machines, start: Start, google_fault: Faults) -> None:
    google_fault(kind="vm-silent", match=NAME, count=1)
    name = start("echo hello")
    time.sleep(1)
    assert "startup-script" not in machines.serial(ZONE, name, 0)[0]
