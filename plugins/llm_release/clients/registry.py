"""Container registries: a tag becomes a digest. The OCI distribution API, read only.

Neither google-cloud nor Airflow's providers can resolve a tag on an arbitrary registry; the protocol is
one HEAD request and, where the registry asks for it, one token request.
"""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from email.message import Message
from typing import Any

from llm_release.core.errors import Permanent, Transient, Unavailable

TIMEOUT_S = 20
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
        headers = self._head(url, image, self._bearer(host))
        digest = headers.get("Docker-Content-Digest", "")
        if not _DIGEST.fullmatch(digest):
            raise Permanent(
                f"the registry names no digest for image {image}.", next_action="check the image's name."
            )
        return f"{host}/{repository}@{digest}"

    def _bearer(self, host: str) -> str | None:
        return self._google_token() if self._google_token and _GOOGLE.fullmatch(host) else None

    def _head(self, url: str, image: str, bearer: str | None) -> Message:
        try:
            return _request(url, bearer)
        except urllib.error.HTTPError as e:
            challenge = e.headers.get("WWW-Authenticate", "")
            if e.code == 401 and bearer is None and challenge.startswith("Bearer"):
                return self._head(url, image, _anonymous_token(challenge, image))
            raise _refused(e, image) from e
        except OSError as e:
            raise Unavailable(
                f"the registry of image {image} cannot be reached: {e}.",
                next_action="check the image's host, and the network of the worker.",
            ) from e


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


def _request(url: str, bearer: str | None) -> Message:
    request = urllib.request.Request(url, method="HEAD", headers={"Accept": _ACCEPT})
    if bearer:
        # A redirect may lead to any host: the token does not go along.
        request.add_unredirected_header("Authorization", f"Bearer {bearer}")
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
        found: Message = answer.headers
        return found


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
