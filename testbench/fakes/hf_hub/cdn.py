"""The CDN: another origin that serves LFS files to whoever holds a signed, unexpired address.

It has no tokens: a client that sends one here leaks it, which the log shows.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from pathlib import Path
from typing import ClassVar
from urllib.parse import parse_qs, quote, unquote, urlsplit

from testbench.fakes.hf_hub import repos
from testbench.fakes.hf_hub.answers import Handler

_KEY = secrets.token_bytes(32)


def signed(repo: str, commit: str, path: str, seconds: float) -> str:
    """The path and query of a file that works for so long."""
    place = f"/cdn/{repo}/{commit}/{quote(path)}"
    expires = f"{time.time() + seconds:.3f}"
    return f"{place}?Expires={expires}&Signature={_signature(place, expires)}"


def _signature(place: str, expires: str) -> str:
    return hmac.new(_KEY, f"{place}\n{expires}".encode(), hashlib.sha256).hexdigest()


class CdnHandler(Handler):
    """GET and HEAD of files, by content address."""

    origin = "cdn"
    root: ClassVar[Path]

    def route(self) -> None:
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        expires = query.get("Expires", "0")
        good = hmac.compare_digest(query.get("Signature", ""), _signature(url.path, expires))
        if not good or float(expires) < time.time():
            self.error(403, None, "AccessDenied: the address is not signed, or has expired")
            return
        _, _, owner, name, commit, path = unquote(url.path).split("/", 5)
        fact = repos.files(self.root, f"{owner}/{name}", commit)[path]
        self.file(repos.location(self.root, f"{owner}/{name}", commit, path), {"ETag": f'"{fact.sha256}"'})
