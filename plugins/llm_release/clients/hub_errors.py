"""What the hub's refusals mean. The status alone does not say: 401 is a missing token, a bad token, or a
private repository that is called not found.

Source: the hub's X-Error-Code and X-Error-Message headers as huggingface_hub reads them (2.4,
utils/_http.py), and answers seen of gated, private and missing repositories.
"""

from __future__ import annotations

import email.utils
import re
import time
from email.message import Message

from llm_release.clients.wire import Target
from llm_release.core.errors import ReleaseError, Transient
from llm_release.core.exitcodes import Code, Refused

_RATE_LIMIT = re.compile(r"\bt=(\d+)")
MAX_WAIT_S = 300.0


class Busy(Transient):
    """The other side asked to come back later.

    Args:
        cause: see ReleaseError.
        after_s: seconds to wait, as it asked for; None where it did not say.
    """

    def __init__(self, cause: str, *, after_s: float | None) -> None:
        super().__init__(cause, next_action="it is tried again.")
        self.after_s = after_s


class Expired(Transient):
    """A signed address is no longer (or not yet) good: ask the hub for a new one."""


def refusal(status: int, headers: Message, what: str, *, has_token: bool) -> ReleaseError:
    """An answer of the hub itself that is neither the thing nor a redirect."""
    code, said = headers.get("X-Error-Code", ""), headers.get("X-Error-Message", "")
    if status in (408, 429) or status >= 500:
        return Busy(f"{what}: the hub answered {status}.", after_s=wait_asked(headers))
    if status == 401 and has_token:
        return Refused(
            Code.TOKEN_REFUSED,
            f"{what}: the hub does not accept the token (401).",
            next_action="replace the token in the secret: it is wrong, expired or revoked.",
        )
    if code == "GatedRepo" or (status == 403 and "gated" in said.lower()):
        return _gated(what, has_token)
    if status == 401:
        return Refused(
            Code.TOKEN_MISSING,
            f"{what}: the hub wants a token (401): the repository is private, or does not exist.",
            next_action="check the repository's name; for a private one store a token in the secret.",
        )
    if status == 403:
        return Refused(
            Code.TOKEN_REFUSED,
            f"{what}: the hub forbids it (403).",
            next_action="let the token read this repository (a fine-grained token names its repositories).",
        )
    if status in (404, 410):
        return Refused(
            Code.NOT_FOUND,
            f"{what}: {_absent(code)}.",
            next_action="check the spelling, or whether it was removed.",
        )
    return Refused(
        Code.PROTOCOL, f"{what}: the hub answered {status}.", next_action="check the hub's endpoint."
    )


def elsewhere(status: int, headers: Message, what: str, where: Target) -> ReleaseError:
    """An answer of the place that the hub redirected to, which is neither the bytes nor a redirect."""
    if status in (408, 429) or status >= 500:
        return Busy(f"{what}: {where.origin} answered {status}.", after_s=wait_asked(headers))
    if status in (400, 401, 403, 404, 410):
        return Expired(
            f"{what}: {where.origin} refused the address ({status}).",
            next_action="the hub is asked for a new one.",
        )
    return Refused(
        Code.PROTOCOL,
        f"{what}: {where.origin} answered {status}.",
        next_action="check for a proxy between this machine and the hub's storage.",
    )


def wait_asked(headers: Message) -> float | None:
    """Seconds that Retry-After (number or date) or the hub's RateLimit header asks for, at most 300."""
    asked = headers.get("Retry-After", "").strip()
    if asked.isascii() and asked.isdigit():
        return min(float(asked), MAX_WAIT_S)
    if asked:
        try:
            due = email.utils.parsedate_to_datetime(asked).timestamp()
        except (ValueError, TypeError, OverflowError):
            return None
        return min(max(due - time.time(), 0.0), MAX_WAIT_S)
    found = _RATE_LIMIT.search(headers.get("RateLimit", ""))
    return min(float(found[1]), MAX_WAIT_S) if found else None


def _gated(what: str, has_token: bool) -> Refused:
    if has_token:
        return Refused(
            Code.TERMS_NOT_ACCEPTED,
            f"{what}: the repository is gated and the token's account has not accepted its terms.",
            next_action="accept the terms on the repository's page with that account, then start again.",
        )
    return Refused(
        Code.TOKEN_MISSING,
        f"{what}: the repository is gated and there is no token.",
        next_action="store the token of an account that accepted the terms in the secret.",
    )


def _absent(code: str) -> str:
    return {
        "RepoNotFound": "no such repository",
        "RevisionNotFound": "no such revision",
        "EntryNotFound": "no such file",
    }.get(code, "not found")
