"""python -m testbench.versions.publish: every repository that the bench and its tests use.

Training takes half a minute of a processor per version, so its results are kept, under a name that
changes with the code that made them.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from testbench.fakes.hf_hub.repos import publish
from testbench.versions import sim

GEMMA = "acme/tiny-gemma-2-it"
SIM = "acme/sim"
_VERSIONS = {"v1": "A", "v2": "B", "v3": "C"}
_HERE = Path(__file__).resolve().parent
_ODD: Mapping[str, Callable[[Path], None]] = {
    "acme/no-safetensors": sim.without_safetensors,
    "acme/with-code": sim.with_code,
    "acme/missing-shard": sim.missing_shard,
    "acme/no-template": sim.without_template,
    "acme/many-files": sim.many_files,
}
_TRAINING_S = 900


def train(cache: Path, site_packages: Path, python: str) -> dict[str, Path]:
    """The folder of each version of the tiny Gemma, trained if it is not in the cache.

    Raises:
        CalledProcessError: a training failed; its output went to ours.
    """
    code = b"".join((_HERE / name).read_bytes() for name in ("gemma.py", "answers.py"))
    kept = cache / f"tiny-gemma-{hashlib.sha256(code).hexdigest()[:12]}"
    kept.mkdir(parents=True, exist_ok=True)
    env = {**os.environ, "PYTHONPATH": f"{site_packages}{os.pathsep}{_HERE.parents[1]}"}
    for version in _VERSIONS.values():
        if (kept / version).is_dir():
            continue
        with tempfile.TemporaryDirectory(dir=kept) as part:
            command = [python, "-m", "testbench.versions.gemma", "--out", f"{part}/out", "--version", version]
            subprocess.run(command, env=env, check=True, timeout=_TRAINING_S)
            Path(part, "out").rename(kept / version)
    return {version: kept / version for version in _VERSIONS.values()}


def publish_gemma(root: Path, trained: Mapping[str, Path]) -> dict[str, str]:
    """Returns the commit of each branch, as `repo@branch`."""
    found = {
        f"{GEMMA}@{branch}": publish(root, GEMMA, trained[version], branch, license="gemma")
        for branch, version in _VERSIONS.items()
    }
    found[f"{GEMMA}@main"] = publish(root, GEMMA, trained["A"], "main", license="gemma")
    return found


def publish_sims(root: Path) -> dict[str, str]:
    """Everything that needs no training. Returns the commit of each branch, as `repo@branch`."""
    found = {}
    with tempfile.TemporaryDirectory() as scratch:
        for branch, behaviour in sim.BEHAVIOURS.items():
            folder = sim.base(Path(scratch, branch), branch, behaviour)
            found[f"{SIM}@{branch}"] = publish(root, SIM, folder, branch, license="apache-2.0")
        found[f"{SIM}@main"] = publish(root, SIM, Path(scratch, "v1"), license="apache-2.0")
        gated = sim.base(Path(scratch, "gated"), "gated")
        found["acme/gated@main"] = publish(root, "acme/gated", gated, gated=True, license="gemma")
        for repo, fill in _ODD.items():
            folder = Path(scratch, repo)
            fill(folder)
            found[f"{repo}@main"] = publish(root, repo, folder, license="apache-2.0")
    return found


def ensure(root: Path, site_packages: Path, cache: Path, *, python: str = sys.executable) -> None:
    """Everything, made where it is missing; seconds when it is all there."""
    publish_sims(root)
    publish_gemma(root, train(cache, site_packages, python))


def main() -> None:
    parser = argparse.ArgumentParser(prog="testbench.versions.publish", description=__doc__)
    parser.add_argument("--root", type=Path, required=True, help="of the hub")
    parser.add_argument("--site-packages", type=Path, help="with torch; without it, no tiny Gemma")
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--python", default=sys.executable, help="that fits the site-packages")
    args = parser.parse_args()
    found = publish_sims(args.root)
    if args.site_packages:
        trained = train(args.cache, args.site_packages.resolve(), args.python)
        found |= publish_gemma(args.root, trained)
    for name, commit in found.items():
        print(f"{name} {commit}")


if __name__ == "__main__":
    main()
