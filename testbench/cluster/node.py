"""A node: own mount namespace, containerd, kubelet, metadata server, CSI node part, instance in the fake Compute.

All nodes share the machine's network namespace, each with a bridge of its own, so one kube-proxy serves them
all. A second node is `Node(2).start(...)`; nodes.py takes one away.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from testbench import config, pki
from testbench.cluster import host
from testbench.process import Processes

V1_HIERARCHIES = (
    "cpu",
    "cpuacct",
    "cpuset",
    "memory",
    "devices",
    "freezer",
    "blkio",
    "pids",
    "hugetlb",
    "perf_event",
    "net_cls",
    "net_prio",
    "systemd",
)
CGROUPS = Path("/sys/fs/cgroup")
DRIVER = "pd.csi.storage.gke.io"
HOSTS = """server = "http://{registry}"
[host."http://{registry}"]
capabilities = ["pull", "resolve"]
"""
BOOT_DISK_LABEL = "cloud.google.com.node-restriction.kubernetes.io/gke-secondary-boot-disk-"
SCSI_FOLDER = Path("/lib/udev_containerized")
"""Where the CSI driver looks for its two device tools; the node's stand-ins lie there on a tmpfs of its own."""
SCSI_ID = """#!/bin/sh
for word; do case $word in --device=*) device=${word#--device=};; esac; done
echo "0Google  PersistentDisk  $(cat /run/llm-bench/scsi/${device##*/})"
"""
MOUNT_POINTS = (SCSI_FOLDER, Path("/dev/disk"))
"""Folders of the host that the node hides; removed at the end where they are empty."""
INNER = r"""
mount -t tmpfs -o mode=755,size=1m llmr-by-id /dev/disk
mkdir -p /dev/disk/by-id
mount -t tmpfs -o mode=755,size=1m llmr-scsi "$2"
printf %s "$3" > "$2/scsi_id"
printf '#!/bin/sh\nexit 1\n' > "$2/google_nvme_id"
chmod 755 "$2/scsi_id" "$2/google_nvme_id"
mount --bind "$1/kubelet" "$1/kubelet"
mount --make-rshared "$1/kubelet"
exec sleep infinity
"""


@dataclass(frozen=True, slots=True)
class Node:
    """The node with this index, 1 or more; with a disk image, its containers start from that image's layers."""

    index: int
    image: str = ""
    """Name of the disk image of its secondary boot disk."""
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    """More labels of its Node object, as of a node pool or a ComputeClass."""

    @property
    def name(self) -> str:
        return f"gpu-node-{self.index}"

    @property
    def base(self) -> Path:
        return config.BENCH / "nodes" / self.name

    @property
    def bridge(self) -> str:
        return f"llmr-n{self.index}"

    @property
    def address(self) -> str:
        return f"10.88.{self.index - 1}.1"

    @property
    def pod_range(self) -> str:
        return f"10.88.{self.index - 1}.0/24"

    @property
    def socket(self) -> Path:
        return self.base / "containerd.sock"

    @property
    def cgroup(self) -> str:
        return f"/llmr-{self.name}"

    def process(self, part: str) -> str:
        return f"{self.name}-{part}"

    # -------------------------------------------------------------------------------------------

    def start(self, processes: Processes, programs: Path, *, gpus: int = config.GPUS) -> None:
        """Brings the node up to CSI registered; what runs already is kept."""
        self._folders()
        host.bridge(self.bridge, f"{self.address}/24")
        self._cgroups()
        pki.certificate(
            self.name,
            f"system:node:{self.name}",
            organization="system:nodes",
            names=(self.name, "localhost"),
            addresses=("127.0.0.1", self.address),
        )
        pki.kubeconfig(config.PKI / f"{self.name}.conf", self.name)
        pid = self._namespace(processes)
        self._metadata(processes)
        self._instance(pid)
        if self.image:
            self._boot_disk(processes, programs)
        self._containerd(processes, programs)
        self._kubelet(processes, programs)
        self._csi(processes, programs)
        self._registered(gpus)

    def mirror(self, registry: str) -> None:
        """Whatever an image's registry is, only this one (host:port) is asked: a missing image is told at once."""
        for asked in (config.REGISTRY, "_default"):
            folder = self.base / "certs.d" / asked
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "hosts.toml").write_text(HOSTS.format(registry=registry))

    def _folders(self) -> None:
        for part in (
            "kubelet/plugins/" + DRIVER,
            "kubelet/plugins_registry",
            "cni",
            "podlogs",
            "volumeplugins",
            "containerd",
            "state",
            "certs.d",
        ):
            (self.base / part).mkdir(parents=True, exist_ok=True)
        (self.base / "containerd.toml").write_text(self._containerd_toml())
        (self.base / "kubelet.yaml").write_text(json.dumps(self._kubelet_config(), indent=1))
        (self.base / "cni" / "10-bridge.conflist").write_text(json.dumps(self._cni(), indent=1))
        self.mirror(config.REGISTRY)

    def _cgroups(self) -> None:
        """cgroup v1: the root must exist in every hierarchy, with its cpuset filled, before the kubelet starts."""
        if (CGROUPS / "cgroup.controllers").exists():
            (CGROUPS / self.cgroup.strip("/")).mkdir(exist_ok=True)
            return
        for hierarchy in V1_HIERARCHIES:
            if (CGROUPS / hierarchy).is_dir():
                (CGROUPS / hierarchy / self.cgroup.strip("/")).mkdir(exist_ok=True)
        for file in ("cpuset.cpus", "cpuset.mems"):
            target = CGROUPS / "cpuset" / self.cgroup.strip("/") / file
            if target.exists() and not target.read_text().strip():
                target.write_text((CGROUPS / "cpuset" / file).read_text())

    def _namespace(self, processes: Processes) -> int:
        """A private mount namespace with its own /dev/disk, held by a sleeping process. -> its pid."""
        argv = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", INNER, "sh"]
        argv += [str(self.base), str(SCSI_FOLDER), SCSI_ID]
        for folder in MOUNT_POINTS:
            folder.mkdir(exist_ok=True)
        record = processes.start(self.process("namespace"), argv, env=dict(os.environ), cwd=config.BENCH)
        until(lambda: _is_sleep(record.pid), 10, f"the mount namespace of {self.name}")
        return record.pid

    def _inside(self, processes: Processes) -> list[str]:
        record = processes.record(self.process("namespace"))
        assert record is not None
        return ["nsenter", "-t", str(record.pid), "-m", "--"]

    def _boot_disk(self, processes: Processes, programs: Path) -> None:
        """Mounts the layers read-only in the node, and starts the snapshotter that links to them."""
        from testbench.cluster import google

        google.boot_disk(self.name, self.image)
        disk, inside = self.base / "boot-disk", self._inside(processes)
        disk.mkdir(exist_ok=True)
        device = f"/dev/disk/by-id/google-{google.BOOT_DEVICE}"
        if not host.quiet(*inside, "mountpoint", "-q", str(disk)):
            host.run(*inside, "mount", "-o", "ro,noload", device, str(disk))
        argv = [*inside, str(programs / "bootdisk"), str(self.base / "bootdisk.sock")]
        argv += [str(self.base / "bootdisk"), str(disk)]
        processes.start(self.process("bootdisk"), argv, env=dict(os.environ), cwd=config.BENCH)
        until((self.base / "bootdisk.sock").exists, 20, f"the snapshotter of {self.name}")

    def _containerd(self, processes: Processes, programs: Path) -> None:
        env = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
        argv = [
            *self._inside(processes),
            str(programs / "containerd"),
            "-c",
            str(self.base / "containerd.toml"),
        ]
        processes.start(self.process("containerd"), argv, env=env, cwd=config.BENCH)
        ctr = [str(programs / "ctr"), "-a", str(self.socket), "version"]
        until(lambda: host.quiet(*ctr), 30, f"containerd of {self.name}")

    def _metadata(self, processes: Processes) -> None:
        argv = [
            sys.executable,
            "-m",
            "testbench.fakes.metadata",
            "--listen",
            f"127.0.0.1:{config.METADATA_PORT + self.index}",
            "--instance",
            self.name,
        ]
        processes.start(self.process("metadata"), argv, env=dict(os.environ), cwd=config.ROOT)

    def _instance(self, namespace_pid: int) -> None:
        """The instance in the fake Compute, and where its devices appear."""
        roots = config.BENCH / "node-roots"
        roots.mkdir(parents=True, exist_ok=True)
        (roots / self.name).write_text(f"/proc/{namespace_pid}/root")
        from testbench.cluster import google

        google.ensure_instance(self.name)
        google.relink(self.name)

    def _kubelet(self, processes: Processes, programs: Path) -> None:
        labels = {
            "topology.gke.io/zone": config.ZONE,
            "topology.kubernetes.io/zone": config.ZONE,
            "cloud.google.com/gke-accelerator": "nvidia-l4",
        }
        argv = [
            *self._inside(processes),
            str(programs / "kubelet"),
            f"--config={self.base / 'kubelet.yaml'}",
            f"--kubeconfig={config.PKI / (self.name + '.conf')}",
            f"--root-dir={self.base / 'kubelet'}",
            f"--cert-dir={self.base / 'kubelet' / 'pki'}",
            f"--hostname-override={self.name}",
            f"--node-ip={self.address}",
            "--node-labels=" + ",".join(f"{k}={v}" for k, v in labels.items()),
            "--v=2",
        ]
        env = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
        processes.start(self.process("kubelet"), argv, env=env, cwd=config.BENCH)

    def _csi(self, processes: Processes, programs: Path) -> None:
        socket = self.base / "kubelet" / "plugins" / DRIVER / "csi.sock"
        env = {
            **os.environ,
            "GCE_METADATA_HOST": f"127.0.0.1:{config.METADATA_PORT + self.index}",
            "GOOGLE_APPLICATION_CREDENTIALS": str(config.SERVICE_ACCOUNT),
            "KUBECONFIG": str(config.PKI / "admin.conf"),
        }
        driver = [
            *self._inside(processes),
            str(programs / "gce-pd-csi-driver"),
            f"--endpoint=unix:{socket}",
            "--run-controller-service=false",
            f"--node-name={self.name}",
            f"--kubeconfig={config.PKI / 'admin.conf'}",
            "--http-endpoint=",
            "--v=4",
        ]
        processes.start(self.process("csi"), driver, env=env, cwd=config.BENCH)
        until(socket.exists, 30, f"the CSI driver of {self.name}")
        registration = self.base / "kubelet" / "plugins_registry" / f"{DRIVER}-reg.sock"
        argv = [sys.executable, "-m", "testbench.cluster.registrar", str(socket), str(registration)]
        processes.start(self.process("registrar"), argv, env=dict(os.environ), cwd=config.ROOT)

    def _registered(self, gpus: int) -> None:
        from testbench.cluster import kube

        until(lambda: kube.node_ready(self.name), 60, f"{self.name} to be Ready")
        kube.set_capacity(self.name, {"nvidia.com/gpu": str(gpus)})
        labels = dict(self.labels)
        if self.image:
            # The kubelet may not say this of itself (NodeRestriction); on GKE the control plane does.
            labels[BOOT_DISK_LABEL + self.image] = f"CONTAINER_IMAGE_CACHE.{config.PROJECT}"
        if labels:
            kube.label_node(self.name, labels)
        until(
            lambda: kube.csi_registered(self.name, DRIVER),
            60,
            f"the CSI driver to be registered on {self.name}",
        )

    # -------------------------------------------------------------------------------------------

    def _containerd_toml(self) -> str:
        return f"""version = 3
root = "{self.base}/containerd"
state = "{self.base}/state"
disabled_plugins = [
  "io.containerd.nri.v1.nri",
  "io.containerd.tracing.processor.v1.otlp",
  "io.containerd.internal.v1.tracing",
]
[grpc]
  address = "{self.socket}"
[plugins."io.containerd.cri.v1.images"]
  max_concurrent_downloads = 2
  discard_unpacked_layers = true
{self._asked_for_layers() if self.image else ""}[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "{config.IMAGE_PAUSE}"
[plugins."io.containerd.cri.v1.images".registry]
  config_path = "{self.base}/certs.d"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["/usr/lib/cni"]
    conf_dir = "{self.base}/cni"
  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
      SystemdCgroup = false
{self._snapshotter() if self.image else ""}"""

    @staticmethod
    def _asked_for_layers() -> str:
        """containerd asks our snapshotter for layers, and unpacks for it; the annotations name the image."""
        return """  snapshotter = "bootdisk"
  disable_snapshot_annotations = false
"""

    def _snapshotter(self) -> str:
        return f"""[proxy_plugins.bootdisk]
  type = "snapshot"
  address = "{self.base}/bootdisk.sock"
  [proxy_plugins.bootdisk.exports]
    root = "{self.base}/bootdisk"
"""

    def _kubelet_config(self) -> dict[str, Any]:
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "failCgroupV1": False,
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": self.cgroup,
            "cgroupsPerQOS": True,
            "enforceNodeAllocatable": [],
            "containerRuntimeEndpoint": f"unix://{self.socket}",
            "authentication": {
                "anonymous": {"enabled": False},
                "x509": {"clientCAFile": str(config.PKI / "ca.crt")},
                "webhook": {"enabled": False},
            },
            "authorization": {"mode": "AlwaysAllow"},
            "address": self.address,
            "port": 10250,
            "healthzPort": 10240 + self.index,
            "clusterDNS": [],
            "resolvConf": "/etc/resolv.conf",
            "failSwapOn": False,
            "makeIPTablesUtilChains": False,
            "evictionHard": {"memory.available": "200Mi"},
            "imageGCHighThresholdPercent": 100,
            "imageMinimumGCAge": "24h",
            "serializeImagePulls": False,
            "tlsCertFile": str(config.PKI / f"{self.name}.crt"),
            "tlsPrivateKeyFile": str(config.PKI / f"{self.name}.key"),
            "volumePluginDir": str(self.base / "volumeplugins"),
            "podLogsDir": str(self.base / "podlogs"),
            "nodeStatusUpdateFrequency": "5s",
            "syncFrequency": "5s",
            "shutdownGracePeriod": "0s",
        }

    def _cni(self) -> dict[str, Any]:
        return {
            "cniVersion": "1.0.0",
            "name": f"llmr-{self.name}",
            "plugins": [
                {
                    "type": "bridge",
                    "bridge": self.bridge,
                    "isGateway": True,
                    "ipMasq": False,
                    "hairpinMode": True,
                    "ipam": {
                        "type": "host-local",
                        "dataDir": str(self.base / "ipam"),
                        "ranges": [[{"subnet": self.pod_range}]],
                        "routes": [{"dst": "0.0.0.0/0"}],
                    },
                },
                {"type": "firewall"},
                {"type": "portmap", "capabilities": {"portMappings": True}},
            ],
        }

    def remove_cgroups(self) -> None:
        for root in [CGROUPS, *(CGROUPS / h for h in V1_HIERARCHIES)]:
            top = root / self.cgroup.strip("/")
            if top.is_dir():
                for folder in sorted((p for p in top.rglob("*") if p.is_dir()), key=lambda p: -len(p.parts)):
                    quiet_rmdir(folder)
                quiet_rmdir(top)


def until(holds: Any, seconds: float, what: str) -> None:
    """Waits until `holds()` is true.

    Raises:
        RuntimeError: it was not in time, and what was waited for.
    """
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            raise RuntimeError(f"waited {seconds:.0f} s for {what}. Next: read the logs in {config.LOGS}.")
        time.sleep(0.1)


def _is_sleep(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip() == "sleep"
    except OSError:
        return False


def quiet_rmdir(folder: Path) -> None:
    """Removes an empty folder; one that is gone or in use is left."""
    with contextlib.suppress(OSError):
        folder.rmdir()
