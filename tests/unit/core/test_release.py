"""What makes a release another one, and what its objects are called."""

from __future__ import annotations

import dataclasses
import re

import pytest

from llm_release.core.names import Names
from llm_release.core.release import release_id
from llm_release.core.spec import LoadGate, Scaling, Seconds, ServiceSpec, service_spec
from tests.unit.core.test_spec import GOOD, changed

SPEC = service_spec(GOOD, source="x")


def id_of(spec: ServiceSpec, **more: str) -> str:
    return release_id(spec, **{"commit": "a" * 40, "listing": "sha256:1", "image": "r@sha256:2", **more})


def test_the_same_inputs_are_the_same_release() -> None:
    assert id_of(SPEC) == id_of(service_spec(GOOD, source="y"))


@pytest.mark.parametrize("what", ["commit", "listing", "image"])
def test_other_bytes_are_another_release(what: str) -> None:
    assert id_of(SPEC, **{what: "other"}) != id_of(SPEC)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("engine.max_model_len", 8192),
        ("engine.extra_args", ["--x"]),
        ("accelerator.count", 4),
        ("engine.env", {"A": "b"}),
    ],
)
def test_what_changes_the_answers_is_another_release(path: str, value: object) -> None:
    assert id_of(service_spec(changed(path, value), source="x")) != id_of(SPEC)


def test_gates_and_replicas_do_not_make_another_release() -> None:
    strict = dataclasses.replace(SPEC.gates, load=LoadGate(rate=99, duration=Seconds(5)))
    assert id_of(dataclasses.replace(SPEC, gates=strict, scaling=Scaling(min=3))) == id_of(SPEC)


def test_a_tag_with_the_same_digest_is_the_same_release() -> None:
    retagged = service_spec(
        changed("engine.image", "us-docker.pkg.dev/acme/llm/vllm-openai:latest"), source="x"
    )
    assert id_of(retagged) == id_of(SPEC)


@pytest.mark.parametrize(("service", "namespace"), [("a", "b"), ("s" * 40, "n" * 6), ("s" * 6, "n" * 40)])
def test_every_name_fits_its_system_at_the_longest(service: str, namespace: str) -> None:
    who = Names(service, namespace, "0123456789")
    compute = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
    assert compute.fullmatch(who.disk)
    for name in (
        who.deployment,
        who.preview,
        who.pvc,
        who.staging_pvc,
        who.prompts,
        who.live_service,
        who.lease,
    ):
        assert compute.fullmatch(name), name
    for job in (who.job("hydrate"), who.job("access"), who.job("smoke", "999"), who.job("load", "999b")):
        assert len(job) <= 63, job
    assert all(len(v) <= 63 for v in (*who.labels.values(), *who.disk_labels.values()))


def test_names_of_two_releases_never_meet() -> None:
    a, b = Names("gemma", "llm", "0" * 10), Names("gemma", "llm", "1" * 10)
    assert not _every(a) & _every(b)


def _every(n: Names) -> set[str]:
    return {n.disk, n.pv, n.pvc, n.staging_pv, n.deployment, n.preview, n.job("hydrate"), n.model_path}
