"""What every object of a release must be like, on the manifests of every service in include/, as they are applied."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llm_release.core.names import Names
from llm_release.steps import manifests
from tests.unit.support.release import DIGEST, release

HOME = Path(__file__).resolve().parents[2]
SERVICES = manifests.services(HOME)
MAY_HOLD_THE_TOKEN = {"hydrate-job", "access-job"}

Objects = dict[str, dict[str, Any]]


@pytest.fixture(params=SERVICES)
def objects(request: pytest.FixtureRequest) -> Objects:
    """Every object of one release, by manifest, the gates' Jobs too."""
    spec = manifests.service(HOME, request.param)
    cluster = manifests.cluster(HOME, spec.cluster)
    pinned = release(
        spec.service,
        cluster=spec.cluster,
        namespace=spec.namespace,
        repo=spec.model.repo,
        gated=True,
        zone=spec.weights.zones[0],
    )
    made = manifests.release_manifests(HOME, spec=spec, cluster=cluster, release=pinned)
    for kind in ("smoke", "load"):
        made[f"{kind}-job"] = manifests.gate_job(
            HOME,
            kind,
            spec=spec,
            cluster=cluster,
            release=pinned,
            attempt="1",
            url="http://10.0.0.1:8000",
            output="gs://bucket/x",
        )
    return made


def pods(objects: Objects) -> Iterator[tuple[str, dict[str, Any]]]:
    for file, made in objects.items():
        if "template" in made.get("spec", {}):
            yield file, made["spec"]["template"]["spec"]


def containers(objects: Objects) -> Iterator[tuple[str, dict[str, Any]]]:
    for file, pod in pods(objects):
        for container in [*pod["containers"], *pod.get("initContainers", ())]:
            yield file, container


def test_nothing_is_left_to_fill_in(objects: Objects) -> None:
    assert "${" not in json.dumps(objects)


def test_the_token_is_a_file_of_the_hydrator_alone(objects: Objects) -> None:
    holders = {
        file
        for file, pod in pods(objects)
        if any("secret" in v or "projected" in v for v in pod.get("volumes", ()))
    }
    assert holders == MAY_HOLD_THE_TOKEN
    for file, container in containers(objects):
        for variable in container.get("env", ()):
            assert "valueFrom" not in variable, f"{file}: {variable}"
            assert variable["name"] not in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"), file
        assert "envFrom" not in container, file
        words = [*container.get("command", ()), *container.get("args", ())]
        assert not any(w.startswith(("--token", "hf_")) for w in words), file


def test_a_serving_pod_is_offline_and_has_no_credentials(objects: Objects) -> None:
    pod = objects["deployment"]["spec"]["template"]["spec"]
    engine = pod["containers"][0]
    assert pod["automountServiceAccountToken"] is False
    assert {"name": "HF_HUB_OFFLINE", "value": "1"} in engine["env"]
    assert not any("secret" in v or "projected" in v for v in pod["volumes"])


def test_the_weights_are_mounted_read_only_twice_over(objects: Objects) -> None:
    pod = objects["deployment"]["spec"]["template"]["spec"]
    claim = next(v for v in pod["volumes"] if "persistentVolumeClaim" in v)
    mount = next(m for m in pod["containers"][0]["volumeMounts"] if m["name"] == claim["name"])
    assert claim["persistentVolumeClaim"]["readOnly"] is True
    assert mount["readOnly"] is True


def test_a_published_volume_can_neither_be_written_nor_deleted_nor_taken(objects: Objects) -> None:
    volume = objects["pv"]["spec"]
    assert volume["accessModes"] == ["ReadOnlyMany"]
    assert volume["csi"]["readOnly"] is True
    assert volume["persistentVolumeReclaimPolicy"] == "Retain"
    assert volume["claimRef"]["name"] == objects["pvc"]["metadata"]["name"]
    assert objects["pvc"]["spec"]["volumeName"] == objects["pv"]["metadata"]["name"]
    assert objects["staging-pv"]["spec"]["persistentVolumeReclaimPolicy"] == "Retain"


def test_images_are_named_by_digest(objects: Objects) -> None:
    assert [(f, c["image"]) for f, c in containers(objects) if f"@{DIGEST}" not in c["image"]] == []


def test_no_container_may_gain_rights(objects: Objects) -> None:
    for file, container in containers(objects):
        security = container["securityContext"]
        assert security["allowPrivilegeEscalation"] is False, file
        assert security["capabilities"] == {"drop": ["ALL"]}, file


def test_jobs_run_as_nobody_in_particular_on_a_read_only_root(objects: Objects) -> None:
    for file, pod in pods(objects):
        if objects[file]["kind"] == "Job":
            assert pod["securityContext"]["runAsNonRoot"] is True, file
            assert pod["automountServiceAccountToken"] is False, file
            assert pod["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is True, file


def test_jobs_are_bounded_and_kept_until_they_were_read(objects: Objects) -> None:
    for file, made in objects.items():
        if made["kind"] == "Job":
            assert made["spec"]["activeDeadlineSeconds"] > 0, file
            assert "ttlSecondsAfterFinished" not in made["spec"], file


def test_memory_is_bounded_everywhere(objects: Objects) -> None:
    assert [f for f, c in containers(objects) if "memory" not in c["resources"]["limits"]] == []


def test_every_object_says_whose_it_is(objects: Objects) -> None:
    for file, made in objects.items():
        labels = made["metadata"]["labels"]
        assert labels["app.kubernetes.io/managed-by"] == "llm-release", file
        assert labels["llm-release/release"] == "0123456789", file


def test_the_preview_finds_this_candidate_and_nothing_else(objects: Objects) -> None:
    selector = objects["preview-service"]["spec"]["selector"]
    offered = objects["deployment"]["spec"]["template"]["metadata"]["labels"]
    assert selector.items() <= offered.items()
    assert selector["llm-release/release"] == "0123456789"


def test_replicas_are_left_to_whoever_scales(objects: Objects) -> None:
    assert "replicas" not in objects["deployment"]["spec"]


def test_names_come_from_the_one_place_that_makes_them(objects: Objects) -> None:
    labels = objects["deployment"]["metadata"]["labels"]
    names = Names(labels["llm-release/service"], objects["deployment"]["metadata"]["namespace"], "0123456789")
    assert objects["deployment"]["metadata"]["name"] == names.deployment
    assert objects["pv"]["metadata"]["name"] == names.pv
    assert objects["hydrate-job"]["metadata"]["name"] == names.job("hydrate")
