"""Every address, port, version and path of the bench, in one place. Nothing is started or written here."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
"""The checkout."""
BENCH = ROOT / ".bench"
LOGS = BENCH / "log"
PIDS = BENCH / "pids"
PKI = BENCH / "pki"
KUBECONFIG = BENCH / "kubeconfig"
SERVICE_ACCOUNT = BENCH / "sa.json"
BEARER = BENCH / "airflow-token"
CACHE = Path(os.environ.get("LLM_RELEASE_BENCH_CACHE", str(Path.home() / ".cache" / "llm-release-bench")))
SERVICES = "10.88.255.1"
"""Address of everything that pods and the host both reach, on a bridge of its own."""
SERVICES_BRIDGE = "llmr-svc"
POD_RANGE = "10.88.0.0/16"
SERVICE_RANGE = "10.96.0.0/16"
API_PORT = 6443
GOOGLE_PORT = 8421
HUB_PORT, CDN_PORT = 8601, 8602
STORAGE_PORT = 4443
REGISTRY_PORT = 5000
ETCD_PORT, ETCD_PEER_PORT = 12379, 12380
METADATA_PORT = 8430
"""Plus the node's index."""

API = f"https://{SERVICES}:{API_PORT}"
GOOGLE = f"http://{SERVICES}:{GOOGLE_PORT}"
HUB = f"http://{SERVICES}:{HUB_PORT}"
STORAGE = f"http://{SERVICES}:{STORAGE_PORT}"
REGISTRY = f"{SERVICES}:{REGISTRY_PORT}"

PROJECT = "demo"
PROJECT_NUMBER = "123456789012"
ZONE = "us-central1-a"
LOCATION = "us-central1"
CLUSTER = "demo"
BUCKET = "llm-releases"
GPUS = 8

KUBERNETES = "v1.36.3"
ETCD = "v3.6.16"
CONTAINERD = "v2.4.2"
PD_CSI = "v1.28.1"
ATTACHER = "v4.13.0"
VLLM = "0.32.0"
TORCH = "2.13.0"

IMAGE_VLLM = f"{REGISTRY}/llm/vllm-openai:v{VLLM}"
IMAGE_SIM = f"{REGISTRY}/llm/llm-sim:v1"
IMAGE_TOOLBOX = f"{REGISTRY}/llm/toolbox:latest"
IMAGE_PAUSE = f"{REGISTRY}/llm/pause:1"
