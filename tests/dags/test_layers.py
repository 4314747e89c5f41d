"""The direction of dependencies, asserted on every import statement, those inside functions too."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "plugins" / "llm_release"

MAY_IMPORT = {
    "core": {"core"},
    "clients": {"clients", "core"},
    "steps": {"steps", "clients", "core"},
    "jobs": {"jobs", "clients", "core"},
    "hooks": {"hooks", "clients", "core"},
    "triggers": {"triggers", "hooks", "steps", "clients", "core"},
    "operators": {"operators", "triggers", "hooks", "steps", "clients", "core"},
    "console": {"console", "clients", "core"},
}
AIRFLOW_IN = {"operators", "triggers", "hooks", "console"}
SDK_IN = {"clients", "jobs", "hooks"}
SDKS = {
    "google",
    "kubernetes",
    "kubernetes_asyncio",
    "huggingface_hub",
    "aiohttp",
    "requests",
    "urllib3",
    "grpc",
}
LAYERS = sorted(d.name for d in PACKAGE.iterdir() if d.is_dir() and not d.name.startswith("_"))


def _imports(file: Path) -> Iterator[str]:
    """Full names of what a file imports; `from a import b` counts as a.b."""
    for node in ast.walk(ast.parse(file.read_text(), str(file))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _broken(folder: Path, allowed: object) -> list[str]:
    assert callable(allowed)
    files = sorted(f for f in folder.rglob("*.py"))
    return [f"{f.relative_to(ROOT)}: {name}" for f in files for name in _imports(f) if not allowed(name)]


def test_every_layer_has_a_rule() -> None:
    assert set(LAYERS) <= set(MAY_IMPORT)


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_imports_only_what_lies_below_it(layer: str) -> None:
    def allowed(name: str) -> bool:
        parts = name.split(".")
        return parts[0] != "llm_release" or parts[1] in MAY_IMPORT[layer]

    assert _broken(PACKAGE / layer, allowed) == []


@pytest.mark.parametrize("layer", LAYERS)
def test_airflow_and_sdks_stay_where_they_belong(layer: str) -> None:
    def allowed(name: str) -> bool:
        root = name.split(".")[0]
        return (root != "airflow" or layer in AIRFLOW_IN) and (root not in SDKS or layer in SDK_IN)

    assert _broken(PACKAGE / layer, allowed) == []


def test_core_is_the_standard_library_and_itself() -> None:
    def allowed(name: str) -> bool:
        return name.split(".")[0] in sys.stdlib_module_names | {"llm_release"}

    assert _broken(PACKAGE / "core", allowed) == []


def test_dags_are_wiring() -> None:
    def allowed(name: str) -> bool:
        parts = name.split(".")
        if parts[0] == "llm_release":
            return parts[1] in {"operators", "core"}
        return parts[0] == "airflow" or parts[0] in sys.stdlib_module_names

    assert _broken(ROOT / "dags", allowed) == []


@pytest.mark.parametrize("folder", ["plugins", "dags", "config"])
def test_the_product_does_not_know_the_bench(folder: str) -> None:
    assert _broken(ROOT / folder, lambda name: name.split(".")[0] not in {"testbench", "tests"}) == []
    for file in (ROOT / folder).rglob("*.py"):
        text = file.read_text()
        assert "testbench" not in text, file
        assert "10.88." not in text, file


def test_the_bench_is_not_imported_by_its_own_subject() -> None:
    assert _broken(ROOT / "testbench", lambda name: name.split(".")[0] != "tests") == []
