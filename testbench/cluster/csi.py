"""The controller part of the PD CSI driver and its attacher, as processes of the host."""

from __future__ import annotations

import os
from pathlib import Path

from testbench import config
from testbench.cluster.node import until
from testbench.process import Processes


def start(processes: Processes, programs: Path) -> None:
    cloud = config.BENCH / "cloud.conf"
    cloud.write_text(f"[Global]\nproject-id={config.PROJECT}\nzone={config.ZONE}\n")
    socket = config.BENCH / "csi-controller.sock"
    env = {
        **os.environ,
        "GOOGLE_APPLICATION_CREDENTIALS": str(config.SERVICE_ACCOUNT),
        "GCE_METADATA_HOST": f"127.0.0.1:{config.METADATA_PORT + 1}",
    }
    driver = [
        str(programs / "gce-pd-csi-driver"),
        f"--endpoint=unix:{socket}",
        "--run-node-service=false",
        f"--compute-endpoint={config.GOOGLE}",
        f"--cloud-config={cloud}",
        "--http-endpoint=",
        "--v=4",
    ]
    processes.start("csi-controller", driver, env=env, cwd=config.BENCH)
    until(socket.exists, 30, "the CSI controller")
    attacher = [
        str(programs / "csi-attacher"),
        f"--csi-address={socket}",
        f"--kubeconfig={config.PKI / 'admin.conf'}",
        "--http-endpoint=",
        "--v=3",
    ]
    processes.start("csi-attacher", attacher, env=env, cwd=config.BENCH)
