"""Builds an image as OCI layers and pushes them to a registry, without a container engine.

A layer is a tar that is written once, hashed on the way, pushed, and gone: the registry is the only copy.
Layers are not compressed, since they never leave the machine.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

TAR = "application/vnd.oci.image.layer.v1.tar"
CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Layer:
    digest: str
    size: int


class Registry:
    """Push side of the distribution API, plain HTTP.

    Raises (every method): RuntimeError with the registry's answer.
    """

    def __init__(self, host: str) -> None:
        self.host = host

    def push_tar(self, repository: str, tar: Path) -> Layer:
        digest, size = _hash(tar)
        layer = Layer(f"sha256:{digest}", size)
        if not self._has_blob(repository, layer.digest):
            with tar.open("rb") as body:
                self._upload(repository, layer, body)
        return layer

    def push_bytes(self, repository: str, content: bytes) -> Layer:
        with tempfile.TemporaryFile() as body:
            body.write(content)
            body.seek(0)
            layer = Layer("sha256:" + hashlib.sha256(content).hexdigest(), len(content))
            if not self._has_blob(repository, layer.digest):
                self._upload(repository, layer, body)
        return layer

    def push_image(
        self,
        repository: str,
        tag: str,
        *,
        layers: Sequence[Layer],
        config: Mapping[str, Any],
        architecture: str = "amd64",
    ) -> str:
        """-> digest of the manifest."""
        document = {
            "architecture": architecture,
            "os": "linux",
            "config": dict(config),
            "rootfs": {"type": "layers", "diff_ids": [layer.digest for layer in layers]},
            "history": [{} for _ in layers],
        }
        described = self.push_bytes(repository, json.dumps(document, sort_keys=True).encode())
        manifest: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": _described("application/vnd.oci.image.config.v1+json", described),
            "layers": [_described(TAR, layer) for layer in layers],
        }
        body = json.dumps(manifest, sort_keys=True).encode()
        headers = {"Content-Type": manifest["mediaType"]}
        status, _, text = self._call("PUT", f"/v2/{repository}/manifests/{tag}", body, headers)
        if status != 201:
            raise RuntimeError(f"the registry refused {repository}:{tag}: {status} {text[:200]!r}")
        return "sha256:" + hashlib.sha256(body).hexdigest()

    def digest(self, repository: str, tag: str) -> str | None:
        accept = {"Accept": "application/vnd.oci.image.manifest.v1+json"}
        status, headers, _ = self._call("HEAD", f"/v2/{repository}/manifests/{tag}", None, accept)
        return headers.get("Docker-Content-Digest") if status == 200 else None

    def _has_blob(self, repository: str, digest: str) -> bool:
        return self._call("HEAD", f"/v2/{repository}/blobs/{digest}", None, {})[0] == 200

    def _upload(self, repository: str, layer: Layer, body: IO[bytes]) -> None:
        status, headers, text = self._call("POST", f"/v2/{repository}/blobs/uploads/", b"", {})
        if status != 202:
            raise RuntimeError(f"the registry took no upload for {repository}: {status} {text[:200]!r}")
        location = headers["Location"]
        path = location.split(self.host, 1)[-1] if self.host in location else location
        path += ("&" if "?" in path else "?") + f"digest={layer.digest}"
        sent = {"Content-Type": "application/octet-stream", "Content-Length": str(layer.size)}
        status, _, text = self._call("PUT", path, body, sent)
        if status != 201:
            raise RuntimeError(f"the registry refused a layer of {repository}: {status} {text[:200]!r}")

    def _call(
        self, method: str, path: str, body: bytes | IO[bytes] | None, headers: Mapping[str, str]
    ) -> tuple[int, Mapping[str, str], bytes]:
        connection = http.client.HTTPConnection(self.host, timeout=600, blocksize=CHUNK)
        try:
            connection.request(method, path, body, dict(headers))
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()


def tar_folder(
    folder: Path, prefix: str, out: Path, *, exclude: Sequence[str] = (), mode: str = "go+rX"
) -> None:
    """Writes `folder` as `prefix`/... with fixed owners, order and times: the same files give the same digest.

    Args:
        mode: added to every file's mode, as for chmod: drafts are private folders, and pods run as another user.
    """
    skip = [f"--exclude={pattern}" for pattern in exclude]
    subprocess.run(
        [
            "tar",
            "-C",
            str(folder),
            "--numeric-owner",
            "--owner=0",
            "--group=0",
            f"--mode={mode}",
            "--sort=name",
            "--mtime=@0",
            *skip,
            "--transform",
            rf"s,^\.,{'/'.join(['.', *prefix.strip('/').split('/')]).rstrip('/')},",
            "-cf",
            str(out),
            ".",
        ],
        check=True,
    )


def _hash(path: Path) -> tuple[str, int]:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size


def _described(kind: str, layer: Layer) -> dict[str, Any]:
    return {"mediaType": kind, "digest": layer.digest, "size": layer.size}
