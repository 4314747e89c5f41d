"""Container registries: a tag becomes a digest, a digest its layers. The OCI distribution API, read only.

Neither google-cloud nor Airflow's providers can resolve a tag on an arbitrary registry; the protocol is
one HEAD request and, where the registry asks for it, one token request.
"""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from email.message import Message
from typing import Any

from llm_release.core.errors import Permanent, Transient, Unavailable

TIMEOUT_S = 20
PLATFORM = "linux/amd64"
_ACCEPT = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_GOOGLE = re.compile(r"(.+-)?docker\.pkg\.dev|(.+\.)?gcr\.io")


@dataclass(frozen=True, slots=True)
class Layers:
    """The layers of one image for one platform."""

    compressed_bytes: int
    """As the registry holds them."""
    diff_ids: tuple[str, ...]
    """Digests of the unpacked layers, lowest first."""


class Registry:
    """Resolves images to digests.

    Args:
        insecure: registries (host:port) that speak plain HTTP.
        google_token: gives an access token for Artifact Registry; asked, and sent, for Google's registries alone.
    """

    def __init__(
        self, *, insecure: tuple[str, ...] = (), google_token: Callable[[], str] | None = None
    ) -> None:
        self._insecure = insecure
        self._google_token = google_token

    def digest(self, image: str) -> str:
        """`host/repository:tag` -> `host/repository@sha256:...`; a digest is checked to exist.

        Raises:
            Permanent: no such image, or not readable with our credentials.
            Transient, Unavailable: ask again later.
        """
        host, repository, reference = split(image)
        scheme = "http" if host in self._insecure else "https"
        url = f"{scheme}://{_api_host(host)}/v2/{repository}/manifests/{reference}"
        headers, _ = self._asked(url, image, self._bearer(host), method="HEAD")
        digest = headers.get("Docker-Content-Digest", "")
        if not _DIGEST.fullmatch(digest):
            raise Permanent(
                f"the registry names no digest for image {image}.", next_action="check the image's name."
            )
        return f"{host}/{repository}@{digest}"

    def layers(self, image: str) -> Layers:
        """What an image (by digest) consists of for linux/amd64.

        Raises:
            Permanent: no such image, or none for this platform.
            Transient, Unavailable: ask again later.
        """
        host, repository, reference = split(image)
        manifest = self._json(image, host, f"{repository}/manifests/{reference}")
        if "manifests" in manifest:
            fits = [m for m in manifest["manifests"] if _platform(m.get("platform", {})) == PLATFORM]
            if not fits:
                raise _other_platform(
                    image, {_platform(m.get("platform", {})) for m in manifest["manifests"]}
                )
            manifest = self._json(image, host, f"{repository}/manifests/{fits[0]['digest']}")
        config = self._json(image, host, f"{repository}/blobs/{manifest['config']['digest']}")
        if _platform(config) != PLATFORM:
            raise _other_platform(image, {_platform(config)})
        return Layers(
            compressed_bytes=sum(int(layer["size"]) for layer in manifest["layers"]),
            diff_ids=tuple(config["rootfs"]["diff_ids"]),
        )

    def _json(self, image: str, host: str, path: str) -> dict[str, Any]:
        scheme = "http" if host in self._insecure else "https"
        url = f"{scheme}://{_api_host(host)}/v2/{path}"
        body = self._asked(url, image, self._bearer(host), method="GET")[1]
        try:
            found: dict[str, Any] = json.loads(body)
        except ValueError as e:
            raise Permanent(
                f"the registry answered no JSON for image {image}.", next_action="check the image's name."
            ) from e
        return found

    def _bearer(self, host: str) -> str | None:
        return self._google_token() if self._google_token and is_google(host) else None

    def _asked(self, url: str, image: str, bearer: str | None, *, method: str) -> tuple[Message, bytes]:
        try:
            return _request(url, bearer, method)
        except urllib.error.HTTPError as e:
            challenge = e.headers.get("WWW-Authenticate", "")
            if e.code == 401 and bearer is None and challenge.startswith("Bearer"):
                return self._asked(url, image, _anonymous_token(challenge, image), method=method)
            raise _refused(e, image) from e
        except OSError as e:
            raise Unavailable(
                f"the registry of image {image} cannot be reached: {e}.",
                next_action="check the image's host, and the network of the worker.",
            ) from e


def is_google(host: str) -> bool:
    """Whether a registry takes Google's access tokens; nobody else is ever sent one."""
    return _GOOGLE.fullmatch(host) is not None


def split(image: str) -> tuple[str, str, str]:
    """-> (host, repository, tag or digest). Names without a host are Docker Hub's."""
    name, reference = image.split("@") if "@" in image else (image, "")
    first, _, rest = name.partition("/")
    host = first if rest and re.search(r"[.:]|^localhost$", first) else "docker.io"
    repository = rest if host == first else name
    if not reference:
        repository, _, reference = (
            repository.rpartition(":") if ":" in repository else (repository, "", "latest")
        )
    if host == "docker.io" and "/" not in repository:
        repository = f"library/{repository}"
    return host, repository, reference


def _api_host(host: str) -> str:
    return "registry-1.docker.io" if host == "docker.io" else host


def _request(url: str, bearer: str | None, method: str) -> tuple[Message, bytes]:
    request = urllib.request.Request(url, method=method, headers={"Accept": _ACCEPT})
    if bearer:
        # A redirect may lead to any host: the token does not go along.
        request.add_unredirected_header("Authorization", f"Bearer {bearer}")
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
        return answer.headers, answer.read()


def _anonymous_token(challenge: str, image: str) -> str:
    fields = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
    query = urllib.parse.urlencode({k: fields[k] for k in ("service", "scope") if k in fields})
    try:
        with urllib.request.urlopen(f"{fields['realm']}?{query}", timeout=TIMEOUT_S) as answer:
            found: Any = json.load(answer)
    except (OSError, KeyError, ValueError) as e:
        raise Unavailable(
            f"the registry of image {image} gave no token: {e}.", next_action="try again later."
        ) from e
    return str(found.get("token") or found.get("access_token"))


def _platform(document: Mapping[str, Any]) -> str:
    return f"{document.get('os', '?')}/{document.get('architecture', '?')}"


def _other_platform(image: str, there: Collection[str]) -> Permanent:
    return Permanent(
        f"image {image} is for {', '.join(sorted(there))}, not for {PLATFORM}.",
        next_action="name an image that the nodes can run.",
    )


def _refused(e: urllib.error.HTTPError, image: str) -> Exception:
    if e.code == 404:
        return Permanent(
            f"image {image} does not exist.", next_action="check its name and tag, or push it first."
        )
    if e.code in (401, 403):
        return Permanent(
            f"image {image} may not be read ({e.code}).",
            next_action="grant the connection's account Artifact Registry Reader.",
        )
    if e.code == 429 or e.code >= 500:
        return Transient(
            f"the registry answered {e.code} for image {image}.", next_action="the task will try again."
        )
    return Permanent(
        f"the registry answered {e.code} for image {image}.", next_action="check the image's name."
    )
