"""What a spec and a trigger may say, and how a refusal reads."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from llm_release.core.clusterspec import cluster_spec
from llm_release.core.request import image_request, release_request
from llm_release.core.spec import ColdStartGate, service_spec
from llm_release.core.strict import Invalid, Seconds

GOOD: dict[str, Any] = {
    "service": "gemma",
    "cluster": "demo",
    "namespace": "llm",
    "model": {"repo": "google/gemma-2-9b-it"},
    "engine": {"kind": "vllm", "image": "us-docker.pkg.dev/acme/llm/vllm-openai:v0.29.0"},
    "accelerator": {"type": "nvidia-l4", "count": 2},
    "weights": {"zones": ["us-central1-a"]},
    "gates": {"smoke": {"prompts": "include/prompts/gemma.yaml"}},
}


def changed(path: str, value: Any) -> dict[str, Any]:
    document = copy.deepcopy(GOOD)
    *parents, last = path.split(".")
    at = document
    for key in parents:
        at = at.setdefault(key, {})
    at[last] = value
    return document


def test_defaults_are_filled_in() -> None:
    spec = service_spec(GOOD, source="gemma.yaml")
    assert spec.gates.load.rate == 10
    assert spec.gates.load.duration == 600
    assert spec.model.revision == "main"
    assert spec.gates.cold_start == ColdStartGate(
        budget=None, regression="warn", image_pull=Seconds(20), image_cache="warn"
    )


def test_the_cold_start_gate_is_read() -> None:
    wanted = {"budget": "170s", "regression": "fail", "image_pull": "1m", "image_cache": "fail"}
    found = service_spec(changed("gates.cold_start", wanted), source="x").gates.cold_start
    assert (found.budget, found.regression, found.image_pull, found.image_cache) == (170, "fail", 60, "fail")


@pytest.mark.parametrize("off", ["off", False])
def test_off_is_off_also_without_quotes_in_yaml(off: Any) -> None:
    assert (
        service_spec(changed("gates.cold_start.regression", off), source="x").gates.cold_start.regression
        == "off"
    )


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("modle", {}, "modle: is not a known key; did you mean model?"),
        ("engine.imgae", "x", "engine.imgae: is not a known key; did you mean image?"),
        ("engine.kind", "tgi", "engine.kind: 'tgi' is not one of 'vllm'"),
        ("engine.image", "vllm-openai", "engine.image: 'vllm-openai' needs a tag or a digest"),
        ("engine.max_model_len", "4096", "engine.max_model_len: expected a whole number, found '4096'"),
        ("engine.max_model_len", True, "engine.max_model_len: expected a whole number, found True"),
        ("engine.extra_args", "--x", "engine.extra_args: expected a list, found '--x'"),
        ("engine.extra_args", ["--port=1"], "engine.extra_args: --port=1 is set by the release itself"),
        ("accelerator.count", 0, "accelerator.count: must be 1 or more"),
        ("gates.load.rate", 0, "gates.load.rate: must be above 0"),
        (
            "gates.load.duration",
            30,
            "gates.load.duration: 30 is not a duration; expected a number with a unit",
        ),
        ("gates.load.duration", "-3s", "gates.load.duration: '-3s' is not a duration"),
        ("gates.load.slo.success", 99, "gates.load.slo.success: is a share"),
        ("gates.cold_strat", {}, "gates.cold_strat: is not a known key; did you mean cold_start?"),
        ("gates.cold_start.buget", "3m", "gates.cold_start.buget: is not a known key; did you mean budget?"),
        ("gates.cold_start.budget", 170, "gates.cold_start.budget: 170 is not a duration"),
        ("gates.cold_start.budget", "0s", "gates.cold_start.budget: must be above 0"),
        (
            "gates.cold_start.budget",
            "21m",
            "gates.cold_start.budget: is more than rollout.ready_within (1200 s)",
        ),
        (
            "gates.cold_start.regression",
            "no",
            "gates.cold_start.regression: 'no' is not one of 'warn', 'fail', 'off'",
        ),
        (
            "gates.cold_start.image_cache",
            False,
            "gates.cold_start.image_cache: False is not one of 'warn', 'fail'",
        ),
        ("gates.cold_start.image_pull", "0s", "gates.cold_start.image_pull: must be above 0"),
        ("weights.zones", [], "weights.zones: must name exactly one zone"),
        ("weights.throughput_mibps", 100, "weights.throughput_mibps: must be 400 to"),
        ("model.repo", "gemma", "model.repo: 'gemma' is not <owner>/<name>"),
        ("service", "Gemma", "service: 'Gemma' must be lower-case"),
        ("model", None, "model: expected a mapping, found nothing"),
    ],
)
def test_a_wrong_key_is_named_with_what_was_expected(path: str, value: Any, said: str) -> None:
    with pytest.raises(Invalid) as refused:
        service_spec(changed(path, value), source="include/services/gemma.yaml")
    assert said in refused.value.cause
    assert "include/services/gemma.yaml" in refused.value.next_action


def test_a_missing_key_is_named() -> None:
    document = copy.deepcopy(GOOD)
    del document["engine"]["image"]
    with pytest.raises(Invalid, match=r"engine\.image: is missing"):
        service_spec(document, source="x")


def test_service_and_namespace_leave_room_for_the_release_id_in_a_disk_name() -> None:
    document = changed("service", "a" * 30)
    document["namespace"] = "b" * 17
    with pytest.raises(Invalid, match="leaves room for 46"):
        service_spec(document, source="x")


CLUSTER: dict[str, Any] = {
    "cluster": "prod",
    "connection": "google_cloud_default",
    "project": "acme",
    "location": "us-central1",
    "gke_cluster": "llm",
    "store": {"bucket": "releases"},
    "toolbox": "us-docker.pkg.dev/acme/llm/toolbox:v1",
}
IMAGES: dict[str, Any] = {
    "mode": "autopilot",
    "zone": "us-central1-a",
    "subnetwork": "regions/r/subnetworks/s",
}
POOL = {"machine": "g2-standard-24", "max": 4}


@pytest.mark.parametrize(
    "images",
    [
        IMAGES,
        IMAGES | {"mode": "compute-class"},
        IMAGES | {"mode": "standard", "node_pool": POOL},
        IMAGES | {"mode": "standard", "node_pool": POOL | {"disk_gib": 200, "service_account": "a@b"}},
    ],
)
def test_each_way_to_nodes_with_a_boot_disk_can_be_chosen(images: dict[str, Any]) -> None:
    found = cluster_spec(CLUSTER | {"node_images": images}, source="prod.yaml").node_images
    assert found is not None
    assert found.mode == images["mode"]


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (
            IMAGES | {"mode": "nap"},
            "node_images.mode: 'nap' is not one of 'autopilot', 'standard', 'compute-class'",
        ),
        (IMAGES | {"mode": "standard"}, "node_images.node_pool: is needed in mode standard"),
        (
            IMAGES | {"node_pool": POOL},
            "node_images.node_pool: is for mode standard; in mode autopilot GKE chooses the nodes",
        ),
        (
            IMAGES | {"mode": "compute-class", "node_pool": POOL},
            "node_images.node_pool: is for mode standard",
        ),
        (IMAGES | {"mode": "standard", "node_pool": {"max": 1}}, "node_images.node_pool.machine: is missing"),
        (
            IMAGES | {"mode": "standard", "node_pool": POOL | {"machine": ""}},
            "node_images.node_pool.machine: must name a machine type",
        ),
        (
            IMAGES | {"mode": "standard", "node_pool": POOL | {"max": 0}},
            "node_images.node_pool.max: must be 1 or more",
        ),
        (
            IMAGES | {"mode": "standard", "node_pool": POOL | {"disk_gib": 10}},
            "node_images.node_pool.disk_gib: must be 30 GiB or more",
        ),
    ],
)
def test_a_wrong_way_to_nodes_is_named_by_its_key(images: dict[str, Any], said: str) -> None:
    with pytest.raises(Invalid) as refused:
        cluster_spec(CLUSTER | {"node_images": images}, source="include/clusters/prod.yaml")
    assert said in refused.value.cause
    assert "include/clusters/prod.yaml" in refused.value.next_action


KNOWN = frozenset({"revision", "image"})


def test_an_unknown_conf_key_is_refused_because_the_default_would_be_released() -> None:
    with pytest.raises(Invalid) as refused:
        release_request({"revison": "v2"}, KNOWN)
    assert "revison: is not a parameter of this DAG; known: image, revision" in refused.value.cause


def test_an_empty_field_of_the_form_means_as_specified() -> None:
    assert release_request({"revision": "", "image": ""}, KNOWN) == release_request({}, KNOWN)


def test_a_conf_value_of_the_wrong_type_is_refused() -> None:
    with pytest.raises(Invalid, match="revision: expected a text, found 3"):
        release_request({"revision": 3}, KNOWN)


def test_an_image_without_a_tag_is_refused() -> None:
    with pytest.raises(Invalid, match="no image with a tag or digest"):
        release_request({"image": "vllm"}, KNOWN)


def test_a_request_for_a_disk_image_names_engine_images_or_asks_to_sweep() -> None:
    known = frozenset({"images", "sweep"})
    for conf in ({}, {"images": []}, {"images": [], "sweep": False}):
        with pytest.raises(Invalid, match="at least one engine image is wanted, or sweep"):
            image_request(conf, known)
    assert image_request({"images": [], "sweep": True}, known).sweep
    assert image_request({"images": ["host/engine:v1"]}, known).sweep is False
    with pytest.raises(Invalid, match="sweep: expected true or false"):
        image_request({"sweep": "yes"}, known)
