"""What a person asks for: the service spec, the cluster spec and the release request, validated.

Nothing here knows what exists; that is the business of the plan. Durations are seconds, sizes are GiB,
throughput is MiB/s.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from llm_release.core.strict import Invalid, Seconds, decode

T = TypeVar("T")

_NAME = re.compile(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?")
_REPO = re.compile(r"[\w.-]+/[\w.-]+")
ZONE = re.compile(r"[a-z]+-[a-z]+\d+-[a-z]")
SUBNETWORK = re.compile(r"(projects/[\w.:-]+/)?regions/[a-z0-9-]+/subnetworks/[a-z0-9-]+")
IMAGE = re.compile(r"[\w.:-]+(/[\w.-]+)+(:[\w.-]+|@sha256:[0-9a-f]{64})")
_RESERVED_FLAGS = ("--model", "--served-model-name", "--port", "--host", "--max-model-len")

HUB_ENDPOINT = "https://huggingface.co"


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """The weights: a Hugging Face repository, and which of its files are served."""

    repo: str
    revision: str = "main"
    files: tuple[str, ...] = ("*.safetensors", "*.json", "tokenizer*", "*.jinja")
    """Patterns; the default leaves the duplicates in other formats (.bin, .pth, original/) on the hub."""
    licenses: tuple[str, ...] = ()
    """Licences that may be served; empty: any."""
    trust_remote_code: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """The server: image by tag or digest (resolved to a digest), and the flags that change answers."""

    kind: Literal["vllm"]
    image: str
    max_model_len: int = 4096
    """Tokens of prompt and answer together."""
    quantization: str | None = None
    kv_cache_dtype: str = "auto"
    extra_args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    memory: str = "16Gi"
    """Memory limit of a serving pod, in Kubernetes notation."""
    cpu: str = "2"
    """CPU request of a serving pod, in Kubernetes notation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerator:
    """GPUs of one replica; the tensor parallel size is their count."""

    type: str
    count: int = 1
    spot: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Where the weights live while they are served."""

    source: Literal["hyperdisk-ml"] = "hyperdisk-ml"
    throughput_mibps: int = 2400
    """Provisioned throughput: explicit, because the default (24 MiB/s a GiB) is billed at 7,200 for 300 GiB."""
    zones: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """Replicas that a candidate starts with; before the switch it gets as many as the live release has."""

    min: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SmokeGate:
    """Fixed prompts whose answers are judged; all must pass."""

    prompts: str
    """Path of the prompts file, relative to the project."""
    timeout: Seconds = Seconds(30)
    """For one answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSlo:
    """What the load test must hold."""

    success: float = 0.99
    """Share of *offered* requests that were answered in full, in time."""
    ttft_p95: Seconds | None = None
    e2e_p95: Seconds | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadGate:
    """An open-loop load test against the candidate."""

    rate: float = 10.0
    """Requests per second."""
    duration: Seconds = Seconds(600)
    timeout: Seconds = Seconds(30)
    """For one request; later is an error."""
    slo: LoadSlo = LoadSlo()


@dataclass(frozen=True, slots=True, kw_only=True)
class ColdStartGate:
    """How long the candidate's pods may take from their creation to Ready."""

    budget: Seconds | None = None
    """A slower start refuses the release; none: any time is right."""
    regression: Literal["warn", "fail", "off"] = "warn"
    """What it means to be over 20 % and 5 s slower than the last promoted release."""
    image_pull: Seconds = Seconds(20)
    """Longest pull of the engine's image on a node that should have it on its secondary boot disk."""
    image_cache: Literal["warn", "fail"] = "warn"
    """What it means when a node of a cluster with secondary boot disks did not use its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gates:
    smoke: SmokeGate
    load: LoadGate = LoadGate()
    cold_start: ColdStartGate = ColdStartGate()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """Deadlines of the roll-out."""

    ready_within: Seconds = Seconds(1200)
    """From the candidate's creation to all its pods ready: node, image, weights, engine."""
    node_within: Seconds = Seconds(900)
    """How long a pod may be without a node: an autoscaler needs minutes for one, more for a new node pool."""
    drain: Seconds = Seconds(30)
    """After the switch the previous release keeps serving its open connections for this long."""
    stop_within: Seconds = Seconds(60)
    """A pod that was told to stop may finish its running requests for this long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSpec:
    """One served model: include/services/<service>.yaml."""

    service: str
    cluster: str
    namespace: str
    model: Model
    engine: Engine
    accelerator: Accelerator
    weights: Weights
    gates: Gates
    scaling: Scaling = Scaling()
    rollout: Rollout = Rollout()
    hydration_within: Seconds = Seconds(4 * 3600)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hub:
    endpoint: str = HUB_ENDPOINT
    token_secret: str = "hf-token"
    """Secret in the service's namespace with the key `token`; read by the hydration Job alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSpec:
    bucket: str
    prefix: str = "releases"
    endpoint: str | None = None
    """Only for an emulator: the address as pods and workers reach it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where a kind of pod runs, beside the zone of its volume."""

    node_selector: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePool:
    """GPU node pools that are made in a Standard cluster, one for each engine image and shape."""

    machine: str
    """Machine type whose GPUs are one replica's `accelerator`, such as g2-standard-24 for two L4."""
    max: int
    """Nodes of one pool at most; two releases run side by side, mostly in a pool of their own each."""
    disk_gib: int = 100
    """Boot disk of a node."""
    service_account: str = ""
    """Of the nodes; empty: Compute's default one. It must be able to read images from Artifact Registry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeImages:
    """How secondary boot disks are built, and how nodes of this cluster come by them."""

    mode: Literal["autopilot", "standard", "compute-class"]
    zone: str
    """Where images are built and verified."""
    subnetwork: str
    """Of the machine: regions/<region>/subnetworks/<name>. It needs Private Google Access, and Cloud NAT for apt."""
    machine: str = "n2-standard-8"
    service_account: str = ""
    """Of the machine, to read images from Artifact Registry; empty: images are pulled anonymously."""
    location: str = ""
    """Region or multi-region that the image is stored in; empty: the one nearest to the zone."""
    build_within: Seconds = Seconds(3600)
    """After that Compute itself deletes the machine."""
    node_pool: NodePool | None = None
    """In mode standard, and only there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSpec:
    """One GKE cluster: include/clusters/<cluster>.yaml."""

    cluster: str
    connection: str
    """Airflow connection of type `google_cloud_platform`."""
    project: str
    location: str
    """Region of the GKE cluster, or zone of a zonal one."""
    gke_cluster: str
    store: StoreSpec
    toolbox: str
    """Image of the in-cluster jobs."""
    hub: Hub = Hub()
    hydration: Placement = Placement()
    serving: Placement = Placement()
    gates: Placement = Placement()
    node_images: NodeImages | None = None
    """Secondary boot disks with the engine's image; none: nodes pull it."""
    storage_class: str = "llm-release-hyperdisk-ml"
    insecure_registries: tuple[str, ...] = ()
    """Registries (host:port) that speak plain HTTP."""
    dns_endpoint: bool = False
    """Reach the API server by the cluster's DNS endpoint (private clusters)."""
    kubernetes_connection: str | None = None
    """Airflow connection of type `kubernetes` (a kubeconfig) to use instead of asking GKE for the cluster."""
    identity: str | None = None
    """Who the connection is in the cluster, to be granted what releases need: on GKE the service account's address."""
    service_accounts: Mapping[str, str] = field(default_factory=dict)
    """Google service account for llm-hydrator, llm-server, llm-gate (Workload Identity); empty: none."""


def service_spec(document: Any, *, source: str) -> ServiceSpec:
    """Decodes and checks a service document (parsed YAML).

    Args:
        source: the file's name, for messages.

    Raises:
        Invalid: with the path of the key and what was expected.
    """
    spec = decoded(ServiceSpec, document, source)
    check_rules(_service_rules(spec), source)
    return spec


def cluster_spec(document: Any, *, source: str) -> ClusterSpec:
    """Decodes and checks a cluster document (parsed YAML). Raises Invalid as `service_spec` does."""
    spec = decoded(ClusterSpec, document, source)
    check_rules([("cluster", bool(_NAME.fullmatch(spec.cluster)), _name_rule(spec.cluster))], source)
    if spec.node_images is not None:
        check_rules(_node_rules(spec.node_images), source)
    return spec


def decoded(cls: type[T], document: Any, source: str) -> T:
    """Decodes; an error names the document, too."""
    try:
        return decode(cls, document)
    except Invalid as e:
        raise Invalid(e.path, e.problem, document=source) from None


def check_rules(rules: list[tuple[str, bool, str]], source: str) -> None:
    """Raises Invalid for the first (path, holds, problem) that does not hold."""
    for path, holds, problem in rules:
        if not holds:
            raise Invalid(path, problem, document=source)


def _name_rule(name: str) -> str:
    return (
        f"{name!r} must be lower-case letters, digits and dashes, start with a letter, 40 characters at most"
    )


def _node_rules(images: NodeImages) -> list[tuple[str, bool, str]]:
    pool, standard, path = images.node_pool, images.mode == "standard", "node_images.node_pool"
    return [
        ("node_images.zone", bool(ZONE.fullmatch(images.zone)), f"{images.zone!r} is no zone"),
        (
            "node_images.subnetwork",
            bool(SUBNETWORK.fullmatch(images.subnetwork)),
            f"{images.subnetwork!r} is no regions/<region>/subnetworks/<name>",
        ),
        ("node_images.build_within", 60 <= images.build_within <= 86400, "must be 60s to 24h"),
        (path, pool is not None or not standard, "is needed in mode standard: {machine: ..., max: ...}"),
        (
            path,
            pool is None or standard,
            f"is for mode standard; in mode {images.mode} GKE chooses the nodes",
        ),
        (f"{path}.machine", pool is None or bool(pool.machine), "must name a machine type"),
        (f"{path}.max", pool is None or pool.max >= 1, "must be 1 or more"),
        (f"{path}.disk_gib", pool is None or pool.disk_gib >= 30, "must be 30 GiB or more"),
    ]


def _service_rules(s: ServiceSpec) -> list[tuple[str, bool, str]]:
    """(path, holds, problem) of every rule that types alone cannot say."""
    taken = [a for a in s.engine.extra_args if a.split("=")[0] in _RESERVED_FLAGS]
    load, slo, cold = s.gates.load, s.gates.load.slo, s.gates.cold_start
    return [
        ("service", bool(_NAME.fullmatch(s.service)), _name_rule(s.service)),
        ("namespace", bool(_NAME.fullmatch(s.namespace)), _name_rule(s.namespace)),
        (
            "service",
            len(s.service) + len(s.namespace) <= 46,
            f"{s.service!r} and namespace {s.namespace!r} are {len(s.service) + len(s.namespace)} characters together;"
            " a disk's name leaves room for 46",
        ),
        ("model.repo", bool(_REPO.fullmatch(s.model.repo)), f"{s.model.repo!r} is not <owner>/<name>"),
        (
            "engine.image",
            bool(IMAGE.fullmatch(s.engine.image)),
            f"{s.engine.image!r} needs a tag or a digest",
        ),
        ("engine.max_model_len", s.engine.max_model_len > 0, "must be above 0"),
        ("engine.extra_args", not taken, f"{', '.join(taken)} is set by the release itself"),
        ("accelerator.count", s.accelerator.count >= 1, "must be 1 or more"),
        (
            "weights.zones",
            len(s.weights.zones) == 1,
            "must name exactly one zone (copies to more zones are not there yet)",
        ),
        (
            "weights.throughput_mibps",
            400 <= s.weights.throughput_mibps <= 2_097_152,
            "must be 400 to 2097152 MiB/s",
        ),
        ("scaling.min", s.scaling.min >= 1, "must be 1 or more"),
        ("gates.load.rate", load.rate > 0, "must be above 0 requests per second"),
        ("gates.load.duration", load.duration > 0, "must be above 0"),
        ("gates.load.timeout", load.timeout > 0, "must be above 0"),
        ("gates.load.slo.success", 0 < slo.success <= 1, "is a share: above 0, at most 1"),
        ("gates.smoke.timeout", s.gates.smoke.timeout > 0, "must be above 0"),
        ("gates.cold_start.budget", cold.budget is None or cold.budget > 0, "must be above 0"),
        (
            "gates.cold_start.budget",
            cold.budget is None or cold.budget <= s.rollout.ready_within,
            f"is more than rollout.ready_within ({s.rollout.ready_within:.0f} s), which ends the roll-out before",
        ),
        ("gates.cold_start.image_pull", cold.image_pull > 0, "must be above 0"),
        ("rollout.ready_within", s.rollout.ready_within >= 10, "must be 10s or more"),
    ]
