"""The control plane: etcd, API server, controllers, scheduler and kube-proxy as processes of the host."""

from __future__ import annotations

import json
import ssl
import time
import urllib.error
import urllib.request
from pathlib import Path

from testbench import config, pki
from testbench.process import Processes

READY_WITHIN_S = 60
AUDIT = config.LOGS / "audit.jsonl"
AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "None", "verbs": ["get", "list", "watch"]},
        {"level": "None", "users": ["system:apiserver"]},
        {"level": "None", "userGroups": ["system:nodes"]},
        {"level": "Metadata"},
    ],
}


def start(processes: Processes, programs: Path) -> None:
    """Starts what does not run, and waits until the API server says that it is ready."""
    pki.ensure()
    (config.BENCH / "etcd").mkdir(parents=True, exist_ok=True)
    policy = config.BENCH / "audit-policy.json"
    policy.write_text(json.dumps(AUDIT_POLICY))
    _run(processes, "etcd", [str(programs / "etcd"), *_etcd()])
    _run(processes, "kube-apiserver", [str(programs / "kube-apiserver"), *_apiserver(policy)])
    _ready()
    _run(processes, "kube-controller-manager", [str(programs / "kube-controller-manager"), *_controllers()])
    scheduler = [
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
        f"--kubeconfig={config.PKI / 'scheduler.conf'}",
    ]
    _run(processes, "kube-scheduler", [str(programs / "kube-scheduler"), *scheduler, "--v=1"])
    proxy = [
        "--proxy-mode=nftables",
        f"--kubeconfig={config.PKI / 'proxy.conf'}",
        f"--cluster-cidr={config.POD_RANGE}",
        "--healthz-bind-address=127.0.0.1:10256",
        "--metrics-bind-address=127.0.0.1:10249",
        "--conntrack-max-per-core=0",
        "--conntrack-tcp-timeout-established=0s",
        "--conntrack-tcp-timeout-close-wait=0s",
        "--hostname-override=gpu-node-1",
        "--v=1",
    ]
    _run(processes, "kube-proxy", [str(programs / "kube-proxy"), *proxy])


def _run(processes: Processes, name: str, argv: list[str]) -> None:
    import os

    processes.start(name, argv, env=dict(os.environ), cwd=config.BENCH)


def _etcd() -> list[str]:
    client, peer = f"http://127.0.0.1:{config.ETCD_PORT}", f"http://127.0.0.1:{config.ETCD_PEER_PORT}"
    return [
        f"--data-dir={config.BENCH / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        # A bench that loses power starts afresh.
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]


def _apiserver(policy: Path) -> list[str]:
    keys = config.PKI
    return [
        f"--etcd-servers=http://127.0.0.1:{config.ETCD_PORT}",
        f"--secure-port={config.API_PORT}",
        f"--bind-address={config.SERVICES}",
        f"--advertise-address={config.SERVICES}",
        f"--tls-cert-file={keys / 'apiserver.crt'}",
        f"--tls-private-key-file={keys / 'apiserver.key'}",
        f"--client-ca-file={keys / 'ca.crt'}",
        f"--service-account-key-file={keys / 'sa.pub'}",
        f"--service-account-signing-key-file={keys / 'sa.key'}",
        "--service-account-issuer=https://kubernetes.default.svc",
        "--authorization-mode=Node,RBAC",
        f"--service-cluster-ip-range={config.SERVICE_RANGE}",
        "--allow-privileged=true",
        "--enable-admission-plugins=NodeRestriction,ExtendedResourceToleration",
        f"--requestheader-client-ca-file={keys / 'front.crt'}",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-username-headers=X-Remote-User",
        f"--proxy-client-cert-file={keys / 'front-client.crt'}",
        f"--proxy-client-key-file={keys / 'front-client.key'}",
        "--enable-aggregator-routing=true",
        f"--kubelet-client-certificate={keys / 'admin.crt'}",
        f"--kubelet-client-key={keys / 'admin.key'}",
        # Node names do not resolve here; logs and the pod proxy go by address.
        "--kubelet-preferred-address-types=InternalIP",
        f"--audit-policy-file={policy}",
        f"--audit-log-path={AUDIT}",
        "--audit-log-maxsize=200",
        "--v=1",
    ]


def _controllers() -> list[str]:
    return [
        f"--kubeconfig={config.PKI / 'kcm.conf'}",
        f"--service-account-private-key-file={config.PKI / 'sa.key'}",
        f"--root-ca-file={config.PKI / 'ca.crt'}",
        "--use-service-account-credentials=true",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
        "--horizontal-pod-autoscaler-sync-period=3s",
        f"--cluster-signing-cert-file={config.PKI / 'ca.crt'}",
        f"--cluster-signing-key-file={config.PKI / 'ca.key'}",
        "--allocate-node-cidrs=false",
        "--v=1",
    ]


def _ready() -> None:
    context = ssl.create_default_context(cafile=str(config.PKI / "ca.crt"))
    context.load_cert_chain(config.PKI / "admin.crt", config.PKI / "admin.key")
    end = time.monotonic() + READY_WITHIN_S
    seen = "no answer"
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(f"{config.API}/readyz", context=context, timeout=2) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError) as e:
            seen = str(e)
        time.sleep(0.2)
    raise RuntimeError(
        f"the API server is not ready after {READY_WITHIN_S} s ({seen})."
        f" Next: read {config.LOGS / 'kube-apiserver.log'}."
    )
