"""Files of include/ that are not there, or are not what their name says."""

from __future__ import annotations

from pathlib import Path

import pytest

from llm_release.core.errors import Permanent
from llm_release.steps import manifests

HOME = Path(__file__).resolve().parents[2]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for folder in ("services", "clusters"):
        (tmp_path / "include" / folder).mkdir(parents=True)
    return tmp_path


def test_a_service_that_has_no_file_is_told_with_the_file_that_is_missing(home: Path) -> None:
    with pytest.raises(Permanent, match=r"there is no services/gema.yaml in include.") as refused:
        manifests.service(home, "gema")
    assert refused.value.next_action == "add the file, or correct the name."


def test_a_service_in_a_file_of_another_name_is_refused(home: Path) -> None:
    copied = (HOME / "include/services/sim.yaml").read_text()
    (home / "include/services/gema.yaml").write_text(copied)
    with pytest.raises(Permanent, match=r"'sim' in a file named gema.yaml"):
        manifests.service(home, "gema")


def test_a_file_that_is_no_yaml_is_told_by_its_name(home: Path) -> None:
    (home / "include/clusters/demo.yaml").write_text("cluster: [")
    with pytest.raises(Permanent, match=r"demo.yaml is no YAML"):
        manifests.cluster(home, "demo")
