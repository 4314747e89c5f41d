"""The toolbox image holds what its jobs import, and nothing else of ours."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PACKAGE = ROOT / "plugins" / "llm_release"
IMAGE = ROOT / "include" / "images" / "toolbox"
DISTRIBUTIONS = {"aiohttp": "aiohttp", "yaml": "pyyaml", "google": "google-cloud-storage"}


def _file(module: str) -> Path | None:
    place = PACKAGE.parent / module.replace(".", "/")
    return next((f for f in (place.with_suffix(".py"), place / "__init__.py") if f.is_file()), None)


def _imports(file: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def _reached() -> tuple[set[Path], set[str]]:
    """-> (our files, names of foreign packages) that the jobs import, directly or not."""
    ours, foreign = set(), set()
    waiting = list((PACKAGE / "jobs").rglob("*.py"))
    while waiting:
        file = waiting.pop()
        if file in ours:
            continue
        ours.add(file)
        for module in _imports(file):
            if module.startswith("llm_release"):
                waiting += [f for f in [_file(module)] if f]
            elif (top := module.partition(".")[0]) not in sys.stdlib_module_names:
                foreign.add(top)
    return ours, foreign


def test_every_module_that_a_job_imports_is_in_the_image() -> None:
    text = (IMAGE / "Dockerfile").read_text().replace("\\\n", " ")
    copied = [Path(p) for line in re.findall(r"^COPY (?!--)(.*)$", text, re.M) for p in line.split()[:-1]]
    for file in _reached()[0]:
        path = file.relative_to(ROOT)
        assert any(c == path or c in path.parents for c in copied), f"{path} is not copied into the image"


def test_every_package_that_a_job_imports_is_pinned() -> None:
    wanted = {DISTRIBUTIONS[name] for name in _reached()[1]}
    asked = _names(IMAGE / "requirements.in")
    assert wanted == asked, "requirements.in lists what the jobs import, and nothing else"
    assert asked <= _names(IMAGE / "requirements.txt")


def test_the_pins_are_exact() -> None:
    for name in ("requirements.in", "requirements.txt"):
        for line in _lines(IMAGE / name):
            assert re.match(r"[\w.-]+==[\w.]+( ;.*)?$", line), line


def test_jobs_import_clients_and_core_and_never_airflow() -> None:
    ours, foreign = _reached()
    assert {f.relative_to(PACKAGE).parts[0] for f in ours} <= {"__init__.py", "jobs", "clients", "core"}
    assert not foreign & {"airflow", "kubernetes", "testbench"}


def _lines(file: Path) -> list[str]:
    return [line for line in file.read_text().splitlines() if line and not line.startswith("#")]


def _names(file: Path) -> set[str]:
    return {line.partition("==")[0].lower() for line in _lines(file)}
