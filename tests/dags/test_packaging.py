"""The files that carry the product elsewhere say what is true of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]


def compose() -> dict[str, object]:
    loaded: dict[str, object] = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())
    return loaded


def test_compose_starts_every_part_of_airflow_with_the_same_secrets() -> None:
    services = compose()["services"]
    assert isinstance(services, dict)
    airflow = {"init", "api-server", "scheduler", "dag-processor", "triggerer"}
    assert set(services) == airflow | {"postgres"}
    environments = [services[name]["environment"] for name in airflow]
    assert all(e == environments[0] for e in environments)


def test_no_secret_of_compose_has_a_default() -> None:
    variables = re.findall(r"\$\{[^}]*\}", (ROOT / "docker-compose.yaml").read_text())
    assert variables
    assert [v for v in variables if ":?" not in v] == []


def test_the_images_copy_what_exists() -> None:
    for line in (ROOT / "Dockerfile").read_text().splitlines():
        if line.startswith("COPY"):
            *sources, _target = [word for word in line.split()[1:] if not word.startswith("--")]
            assert [s for s in sources if not (ROOT / s).exists()] == []


def test_the_image_has_the_airflow_that_is_pinned() -> None:
    pinned = re.search(r"^apache-airflow==(\S+)$", (ROOT / "requirements.txt").read_text(), re.M)
    built = re.search(r"^ARG AIRFLOW_VERSION=(\S+)$", (ROOT / "Dockerfile").read_text(), re.M)
    assert pinned
    assert built
    assert built[1] == pinned[1]


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_every_requirement_is_bounded_and_the_lock_is_within(name: str) -> None:
    lock = dict(re.findall(r"^([A-Za-z0-9._-]+)==(\S+)$", (ROOT / "requirements.lock").read_text(), re.M))
    for line in (ROOT / name).read_text().splitlines():
        if not line or line.startswith(("#", "-r")):
            continue
        package = re.match(r"[A-Za-z0-9._-]+", line)
        assert package
        assert "==" in line or ("," in line and "<" in line), line
        locked = lock[package[0].lower().replace("_", "-")]
        for bound, operator in ((b[2:], b[:2]) for b in re.findall(r">=[\d.]+", line)):
            assert operator == ">="
            assert _version(locked) >= _version(bound), f"{line} but {locked} is locked"


def test_links_of_the_documents_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_make_targets_that_documents_name_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    named = set()
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        named |= set(re.findall(r"(?:`|^)make ([a-z-]+)", page.read_text(), re.M))
    known = set(re.findall(r"^([a-z -]+):", makefile, re.M))
    words = {w for target in known for w in target.split()}
    assert named
    assert {n for n in named if n not in words} == set()


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(n) for n in re.findall(r"\d+", text))
