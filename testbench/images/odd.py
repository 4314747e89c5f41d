"""Images for tests and measurements of secondary boot disks: one with everything odd in it, one that is large.

Layers are written entry by entry, as no file system here could hold their sources.
"""

from __future__ import annotations

import io
import random
import tarfile
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from testbench import config
from testbench.images.oci import Registry

CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000").decode("latin-1")
"""security.capability of a file that may bind low ports (cap_net_bind_service, version 2)."""
_FILE_BYTES = 1 << 18
_LARGE_BYTES = 12 << 20
"""More than the smallest disk that a test makes."""


def nasty(repository: str = "llm/nasty", *, architecture: str = "amd64") -> str:
    """Pushes an image whose layers hold what copies lose. -> image by digest

    Deleted files, an opaque folder, a file in a folder's place and the other way round, hard links, devices, a
    fifo, a dangling link, xattrs, file capabilities, set-id and sticky bits, owners without names, odd names, times
    before 1970 and with nanoseconds, an empty layer, and the same layer twice.
    """
    registry = Registry(config.REGISTRY)
    layers = [registry.push_bytes(repository, tar(entries)) for entries in _NASTY]
    large = io.BytesIO()
    with tarfile.open(fileobj=large, mode="w") as archive:
        info = entry("data/large")
        info.size = _LARGE_BYTES
        archive.addfile(info, io.BytesIO(random.Random(0).randbytes(_LARGE_BYTES)))
    layers.append(registry.push_bytes(repository, large.getvalue()))
    digest = registry.push_image(
        repository,
        "v1",
        layers=[*layers, layers[0]],
        config={"Entrypoint": ["/bin/true"]},
        architecture=architecture,
    )
    return f"{config.REGISTRY}/{repository}@{digest}"


def bulky(base: Path, size: int, repository: str = "llm/perf-engine") -> str:
    """Pushes an image of a base (a tar) and `size` bytes that compress to nothing. -> image by digest"""
    registry, source = Registry(config.REGISTRY), random.Random(0)
    with tempfile.TemporaryDirectory(dir=config.CACHE / "images") as folder:
        draft = Path(folder) / "layer.tar"
        with tarfile.open(draft, "w") as out:
            for number in range(max(1, size // _FILE_BYTES)):
                info = tarfile.TarInfo(f"opt/engine/{number // 100}/{number}.bin")
                info.size = _FILE_BYTES
                out.addfile(info, io.BytesIO(source.randbytes(_FILE_BYTES)))
        layers = [registry.push_tar(repository, tar) for tar in (base, draft)]
    digest = registry.push_image(repository, "v1", layers=layers, config={"Entrypoint": ["sleep"]})
    return f"{config.REGISTRY}/{repository}@{digest}"


def tar(entries: Iterable[tarfile.TarInfo]) -> bytes:
    """Each entry's content, where it is a file, is its own name."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for info in entries:
            content = (
                info.name.encode() if info.isreg() and not Path(info.name).name.startswith(".wh.") else b""
            )
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content) if info.isreg() else None)
    return out.getvalue()


def entry(
    name: str,
    kind: bytes = tarfile.REGTYPE,
    *,
    mode: int = 0o644,
    owner: int = 0,
    link: str = "",
    device: tuple[int, int] = (0, 0),
    mtime: str = "1700000000",
    xattrs: Mapping[str, str] | None = None,
) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.uid, info.gid, info.linkname = kind, mode, owner, owner, link
    info.devmajor, info.devminor = device
    info.pax_headers = {"mtime": mtime} | {f"SCHILY.xattr.{k}": v for k, v in (xattrs or {}).items()}
    return info


def _folder(name: str, mode: int = 0o755, owner: int = 0) -> tarfile.TarInfo:
    return entry(name, tarfile.DIRTYPE, mode=mode, owner=owner)


_NASTY: tuple[tuple[tarfile.TarInfo, ...], ...] = (
    (
        _folder("data"),
        _folder("data/opaque"),
        _folder("data/becomes-file"),
        _folder("data/empty", 0o700, 65534),
        _folder("data/sticky", 0o1777),
        entry("data/opaque/below"),
        entry("data/becomes-file/inner"),
        entry("data/deleted"),
        entry("data/becomes-folder"),
        entry("data/setuid", mode=0o4755),
        entry("data/setgid", mode=0o2755, owner=4242),
        entry("data/capable", mode=0o755, xattrs={"security.capability": CAPABILITY}),
        entry("data/attributed", xattrs={"user.note": "kept", "user.umlaut": "größer"}),
        entry("data/hard-1"),
        entry("data/hard-2", tarfile.LNKTYPE, link="data/hard-1"),
        entry("data/sticky/hard-3", tarfile.LNKTYPE, link="data/hard-1"),
        entry("data/dangling", tarfile.SYMTYPE, link="/nowhere/at all"),
        entry("data/null", tarfile.CHRTYPE, mode=0o666, device=(1, 3)),
        entry("data/block", tarfile.BLKTYPE, mode=0o600, device=(7, 200)),
        entry("data/fifo", tarfile.FIFOTYPE),
        entry("data/日本語 模型.bin"),
        entry("data/new\nline"),
        entry("data/ space at both ends "),
        entry("data/-rf"),
        entry("data/" + "long-" * 40),
        entry("data/old", mtime="-86400"),
        entry("data/precise", mtime="1700000000.123456789"),
    ),
    (
        entry("data/.wh.deleted"),
        entry("data/opaque/.wh..wh..opq"),
        entry("data/opaque/above"),
        entry("data/.wh.becomes-file"),
        entry("data/becomes-file"),
        entry("data/.wh.becomes-folder"),
        _folder("data/becomes-folder"),
        entry("data/becomes-folder/inner"),
        entry("data/hard-1", mode=0o600),
    ),
    (),
    (entry("data/deleted", mode=0o755),),
)
