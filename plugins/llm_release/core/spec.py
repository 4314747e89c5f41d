"""The service spec: what a person asks to be served, with which gates, validated.

Nothing here knows what exists; that is the business of the plan. Durations are seconds, throughput is MiB/s.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from llm_release.core.rules import IMAGE, Rule, check_rules, decoded, name_rule
from llm_release.core.strict import Seconds

_REPO = re.compile(r"[\w.-]+/[\w.-]+")
_RESERVED_FLAGS = ("--model", "--served-model-name", "--port", "--host", "--max-model-len")


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


def _service_rules(s: ServiceSpec) -> list[Rule]:
    """Every rule that types alone cannot say."""
    taken = [a for a in s.engine.extra_args if a.split("=")[0] in _RESERVED_FLAGS]
    load, slo, cold = s.gates.load, s.gates.load.slo, s.gates.cold_start
    return [
        name_rule("service", s.service),
        name_rule("namespace", s.namespace),
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
