"""The release store: small documents in Cloud Storage, written with preconditions.

Nothing here knows what a document means. Every write is one request whose precondition makes a repeated or
a concurrent write harmless; google-cloud-storage's own retries are bounded by a deadline.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from google.api_core import exceptions as google
from google.auth import credentials as google_credentials
from google.auth import exceptions as auth
from google.cloud import storage
from google.cloud.storage.retry import DEFAULT_RETRY

from llm_release.core.errors import Conflict, Permanent, ReleaseError, Transient, Unavailable

TIMEOUT_S = 20.0
"""Of one request."""
DEADLINE_S = 60.0
"""Of one call with its retries."""
_URI = re.compile(r"gs://([a-z0-9][\w.-]{1,220}[a-z0-9])(?:/(.*))?")


@dataclass(frozen=True, slots=True)
class Written:
    """Where a document is, and which write of it this is."""

    uri: str
    generation: int


class Store:
    """Documents below gs://bucket/prefix.

    Args:
        bucket: its name; it exists.
        prefix: folder in it, without slashes at the ends; may be empty.
        client: see `connect`.
        deadline_s: longest time for one call with its retries.
    """

    def __init__(
        self, bucket: str, prefix: str, client: storage.Client, *, deadline_s: float = DEADLINE_S
    ) -> None:
        self._bucket = bucket
        self._prefix = prefix.strip("/")
        self._client = client
        self._retry = DEFAULT_RETRY.with_timeout(deadline_s)

    def uri(self, path: str) -> str:
        """`gs://...` of the document at `path`, which need not exist."""
        return f"gs://{self._bucket}/{self._name(path)}"

    def write_text(
        self, path: str, text: str, *, if_absent: bool = False, if_generation: int | None = None
    ) -> Written:
        """Writes the document in UTF-8.

        Args:
            if_absent: only where there is none yet.
            if_generation: only over that write of it (see `read_text`).

        Raises:
            Conflict: the precondition does not hold: somebody else wrote.
            Permanent: no such bucket, or not allowed.
            Transient, Unavailable: ask again later.
        """
        expected = 0 if if_absent else if_generation
        with _told(f"write {self.uri(path)}"):
            blob = self._blob(path)
            try:
                self._upload(blob, path, text, expected)
            except google.PreconditionFailed:
                # A retry inside the client finds its own first write, whose answer was lost.
                if expected is None or not self._is(path, text):
                    raise
                blob.reload(timeout=TIMEOUT_S, retry=self._retry)
            return Written(self.uri(path), int(blob.generation))

    def read_text(self, path: str) -> tuple[str, int] | None:
        """-> (text, generation), or None where there is no such document. Raises: as `write_text`."""
        with _told(f"read {self.uri(path)}"):
            blob = self._blob(path)
            try:
                data = blob.download_as_bytes(timeout=TIMEOUT_S, retry=self._retry)
            except google.NotFound as e:
                if "bucket does not exist" in str(e):
                    raise
                return None
            return data.decode(), int(blob.generation)

    def _is(self, path: str, text: str) -> bool:
        found = self.read_text(path)
        return found is not None and found[0] == text

    def _blob(self, path: str) -> Any:
        return self._client.bucket(self._bucket).blob(self._name(path))

    def _upload(self, blob: Any, path: str, text: str, expected: int | None) -> None:
        kind = "application/json" if path.endswith(".json") else "text/plain; charset=utf-8"
        blob.upload_from_string(
            text.encode(),
            content_type=kind,
            timeout=TIMEOUT_S,
            retry=self._retry,
            if_generation_match=expected,
        )

    def _name(self, path: str) -> str:
        return f"{self._prefix}/{path}" if self._prefix else path


def connect(
    endpoint: str | None = None,
    credentials: google_credentials.Credentials | None = None,
    project: str | None = None,
) -> storage.Client:
    """A client of Cloud Storage.

    Args:
        endpoint: address of an emulator; None: Google's (or STORAGE_EMULATOR_HOST, which the client reads).
        credentials: None: the environment's (Workload Identity), and none at all with an emulator.

    Raises:
        Permanent: the environment has no credentials.
    """
    options = {"api_endpoint": endpoint} if endpoint else None
    if endpoint and credentials is None:
        credentials = google_credentials.AnonymousCredentials()
    with _told("find credentials for Cloud Storage"):
        return storage.Client(project=project, credentials=credentials, client_options=options)


def split_uri(uri: str) -> tuple[str, str]:
    """`gs://bucket/a/b` -> (`bucket`, `a/b`).

    Raises:
        Permanent: it is none.
    """
    found = _URI.fullmatch(uri)
    if not found:
        raise Permanent(f"{uri!r} is no Cloud Storage address.", next_action="write it as gs://bucket/path.")
    return found[1], (found[2] or "").strip("/")


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    try:
        yield
    except (google.GoogleAPIError, google.RetryError) as e:
        raise _ours(what, e) from e
    except (auth.GoogleAuthError, OSError) as e:
        if isinstance(e, auth.DefaultCredentialsError):
            raise Permanent(
                f"could not {what}: {_short(e)}.", next_action="give this worker an identity."
            ) from e
        raise Unavailable(
            f"could not {what}: {_short(e)}.",
            next_action="check the way to Cloud Storage; it is tried again.",
        ) from e


def _ours(what: str, e: google.GoogleAPIError) -> ReleaseError:
    if isinstance(e, google.RetryError) and e.cause is not None:
        return _ours(what, e.cause) if isinstance(e.cause, google.GoogleAPIError) else _gone(what, e.cause)
    status = int(getattr(e, "code", 0) or 0)
    if status == 412:
        return Conflict(
            f"could not {what}: somebody else wrote it.", next_action="read it again and decide anew."
        )
    if status in (401, 403):
        return Permanent(
            f"could not {what}: not allowed ({status}).",
            next_action="grant Storage Object User on the bucket.",
        )
    if status == 404:
        return Permanent(f"could not {what}: there is no such bucket.", next_action="create the bucket.")
    if status == 429 or status >= 500 or status == 408:
        return Transient(f"could not {what}: the store answered {status}.", next_action="it is tried again.")
    return Permanent(f"could not {what}: {_short(e)}.", next_action="correct what it names.")


def _gone(what: str, e: BaseException) -> ReleaseError:
    return Unavailable(f"could not {what}: {_short(e)}.", next_action="check the way to Cloud Storage.")


def _short(e: BaseException) -> str:
    return (str(e).splitlines() or [type(e).__name__])[0][:200].rstrip(".")
