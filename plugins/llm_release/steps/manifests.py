"""Reads include/, and fills the manifests of one release. Rendered once; later steps take the kept text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from llm_release.core import names as n
from llm_release.core import nodeplace, template, volume
from llm_release.core.clusterspec import ClusterSpec, cluster_spec
from llm_release.core.errors import Permanent
from llm_release.core.names import Names
from llm_release.core.release import Release
from llm_release.core.spec import ServiceSpec, service_spec
from llm_release.core.strict import Invalid

STARTUP_PERIOD_S = 2
GATE_CPU = "1"
"""A throttled load client is late, and calls its own measurement invalid."""
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "HOME": "/tmp"}
"""A serving pod never asks the hub for anything: what it serves is on its volume."""

STAGED = (
    "staging-pv",
    "staging-pvc",
    "hydrate-job",
    "access-job",
    "pv",
    "pvc",
    "deployment",
    "preview-service",
    "prompts",
)


def service(home: Path, name: str) -> ServiceSpec:
    """include/services/<name>.yaml. Raises Invalid with the key that is wrong."""
    path = home / "include/services" / f"{name}.yaml"
    spec = service_spec(_yaml(path), source=_shown(home, path))
    if spec.service != name:
        raise Invalid(
            "service", f"is {spec.service!r} in a file named {path.name}", document=_shown(home, path)
        )
    return spec


def cluster(home: Path, name: str) -> ClusterSpec:
    """include/clusters/<name>.yaml. Raises Invalid with the key that is wrong."""
    path = home / "include/clusters" / f"{name}.yaml"
    return cluster_spec(_yaml(path), source=_shown(home, path))


def services(home: Path) -> tuple[str, ...]:
    return tuple(sorted(p.stem for p in (home / "include/services").glob("*.yaml")))


def services_on(home: Path, cluster: str) -> tuple[ServiceSpec, ...]:
    """Every service that a cluster has. Raises Invalid when any service's file is wrong."""
    found = [service(home, name) for name in services(home)]
    return tuple(s for s in found if s.cluster == cluster)


def clusters(home: Path) -> tuple[str, ...]:
    return tuple(sorted(p.stem for p in (home / "include/clusters").glob("*.yaml")))


def render(home: Path, file: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """One manifest of include/manifests, filled."""
    path = home / "include/manifests" / f"{file}.yaml"
    filled = template.fill(_yaml(path), values, source=_shown(home, path))
    assert isinstance(filled, dict)
    return filled


def release_manifests(
    home: Path, *, spec: ServiceSpec, cluster: ClusterSpec, release: Release
) -> dict[str, dict[str, Any]]:
    """Everything that a release applies up to its gates, by the manifest's file name."""
    values = _values(spec, cluster, release, prompts_text(home, spec))
    return {file: render(home, file, values) for file in STAGED}


def prompts_text(home: Path, spec: ServiceSpec) -> str:
    path = home / spec.gates.smoke.prompts
    try:
        return path.read_text()
    except OSError:
        raise Invalid(
            "gates.smoke.prompts",
            f"there is no file {spec.gates.smoke.prompts}",
            document=f"include/services/{spec.service}.yaml",
        ) from None


def gate_job(
    home: Path,
    kind: str,
    *,
    spec: ServiceSpec,
    cluster: ClusterSpec,
    release: Release,
    attempt: str,
    url: str,
    output: str,
) -> dict[str, Any]:
    """The Job of one measurement; `attempt` is the lease's fence, so a new run measures again."""
    gates, who = spec.gates, Names(spec.service, spec.namespace, release.id)
    args = [
        "--url",
        url,
        "--model",
        spec.service,
        "--prompts",
        "/etc/llm-release/prompts.yaml",
        "--output",
        output,
    ]
    if kind == "load":
        load = gates.load
        args += [
            "--rate",
            f"{load.rate:g}",
            "--duration",
            f"{load.duration:g}",
            "--timeout",
            f"{load.timeout:g}",
            "--seed",
            str(int(release.id[:6], 16)),
        ]
        seconds = load.duration + load.timeout + 300
    else:
        args += ["--timeout", f"{gates.smoke.timeout:g}"]
        seconds = 900.0
    endpoint = cluster.store.endpoint
    values = {
        "GATE": kind,
        "GATE_JOB": who.job(kind, attempt),
        "NAMESPACE": spec.namespace,
        "LABELS": who.labels,
        "GATE_SECONDS": int(seconds),
        "GATE_SELECTOR": dict(cluster.gates.node_selector),
        "TOOLBOX": release.toolbox,
        "GATE_ARGS": args,
        "GATE_ENV": env({"STORAGE_EMULATOR_HOST": endpoint} if endpoint else {}),
        "GATE_CPU": GATE_CPU,
        "PROMPTS": who.prompts,
    }
    return render(home, "gate-job", values)


def live_service(home: Path, *, spec: ServiceSpec, release: str, previous: str) -> dict[str, Any]:
    return render(
        home,
        "service",
        {"SERVICE": spec.service, "NAMESPACE": spec.namespace, "RELEASE": release, "PREVIOUS": previous},
    )


def env(values: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"name": k, "value": v} for k, v in values.items()]


def to_lines(manifests: Mapping[str, Mapping[str, Any]]) -> str:
    """JSON lines: {"file": ..., "object": ...}; what the store keeps."""
    return "".join(json.dumps({"file": f, "object": o}, sort_keys=True) + "\n" for f, o in manifests.items())


def from_lines(text: str) -> dict[str, dict[str, Any]]:
    return {row["file"]: row["object"] for row in map(json.loads, text.splitlines())}


def _values(spec: ServiceSpec, cluster: ClusterSpec, release: Release, prompts: str) -> dict[str, Any]:
    who = Names(spec.service, spec.namespace, release.id)
    startup = max(1, int(spec.rollout.ready_within // STARTUP_PERIOD_S))
    return {
        "NAMESPACE": spec.namespace,
        "SERVICE": spec.service,
        "RELEASE": release.id,
        "COMMIT": release.commit,
        "LABELS": who.labels,
        "SERVER_LABELS": {**who.labels, n.ROLE: "server"},
        "STAGING_PV": who.staging_pv,
        "STAGING_PVC": who.staging_pvc,
        "PV": who.pv,
        "PVC": who.pvc,
        "DISK_SIZE": f"{volume.size_gib(release.total_bytes)}Gi",
        "DISK_HANDLE": f"projects/{cluster.project}/zones/{release.zone}/disks/{who.disk}",
        "ZONE": release.zone,
        "STORAGE_CLASS": cluster.storage_class,
        "TOOLBOX": release.toolbox,
        "HUB": cluster.hub.endpoint,
        "TOKEN_SECRET": cluster.hub.token_secret,
        "HYDRATE_JOB": who.job("hydrate"),
        "HYDRATE_SECONDS": int(spec.hydration_within),
        "HYDRATE_ARGS": _hydrate_args(spec, release, who),
        "HYDRATION_SELECTOR": dict(cluster.hydration.node_selector),
        "ACCESS_JOB": who.job("access"),
        "ACCESS_ARGS": ["--repo", release.repo, "--commit", release.commit, "--path", release.probe_file],
        "DEPLOYMENT": who.deployment,
        "PREVIEW": who.preview,
        "PROMPTS": who.prompts,
        "PROMPTS_TEXT": prompts,
        "IMAGE": release.image,
        "MODEL_PATH": who.model_path,
        "ENGINE_ARGS": _engine_args(spec),
        "ENGINE_ENV": env({**OFFLINE, **spec.engine.env}),
        "SERVING_SELECTOR": serving_selector(spec, cluster, release),
        "CPU": spec.engine.cpu,
        "MEMORY": spec.engine.memory,
        "GPUS": str(spec.accelerator.count),
        "READY_SECONDS": int(spec.rollout.ready_within),
        "STARTUP_FAILURES": startup,
        "STOP_SECONDS": int(spec.rollout.stop_within),
    }


def _hydrate_args(spec: ServiceSpec, release: Release, who: Names) -> list[str]:
    args = [
        "--repo",
        release.repo,
        "--commit",
        release.commit,
        "--dest",
        who.model_path,
        "--release",
        release.id,
    ]
    for pattern in spec.model.files:
        args += ["--include", pattern]
    return [*args, "--listing", release.listing]


def _engine_args(spec: ServiceSpec) -> list[str]:
    e = spec.engine
    args = [
        f"--served-model-name={spec.service}",
        f"--port={n.PORT}",
        f"--max-model-len={e.max_model_len}",
        f"--kv-cache-dtype={e.kv_cache_dtype}",
        f"--tensor-parallel-size={spec.accelerator.count}",
    ]
    if e.quantization:
        args.append(f"--quantization={e.quantization}")
    if spec.model.trust_remote_code:
        args.append("--trust-remote-code")
    return [*args, *e.extra_args]


def serving_selector(spec: ServiceSpec, cluster: ClusterSpec, release: Release) -> dict[str, str]:
    """The nodeSelector of a release's pods."""
    return nodeplace.selector(
        release.image.rpartition("@")[2],
        cluster.node_images,
        project=cluster.project,
        accelerator=spec.accelerator,
        zone=release.zone,
        more=cluster.serving.node_selector,
    )


def _yaml(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text())
    except OSError:
        raise Permanent(
            f"there is no {path.parent.name}/{path.name} in include.",
            next_action="add the file, or correct the name.",
        ) from None
    except yaml.YAMLError as e:
        raise Permanent(
            f"{path.name} is no YAML: {str(e).splitlines()[0]}.", next_action="correct the file."
        ) from None


def _shown(home: Path, path: Path) -> str:
    return str(path.relative_to(home))
