"""How a job in the cluster tells its end to Kubernetes: one number, which the Job's podFailurePolicy reads.

10 to 29 are permanent (FailJob: another try would only cost time); everything else that is not 0 counts
against the Job's backoffLimit. Nothing here decides what failed; that is said where the error is raised.
"""

from __future__ import annotations

import enum

from llm_release.core.errors import Permanent, ReleaseError


class Code(enum.IntEnum):
    """Exit codes of every job. The names, in lower case with dashes, are the `code` of a failed result."""

    OK = 0
    BAD_INPUT = 10
    TERMS_NOT_ACCEPTED = 11
    TOKEN_REFUSED = 12
    NOT_FOUND = 13
    CORRUPT = 14
    DISK_FULL = 15
    LISTING_CHANGED = 16
    FOREIGN_VOLUME = 17
    TOKEN_MISSING = 18
    INCOMPLETE_MODEL = 19
    VOLUME_UNWRITABLE = 20
    PROTOCOL = 21
    INTERNAL = 70
    """sysexits' EX_SOFTWARE: a bug of ours; worth the Job's retries, because the next node may differ."""
    TRANSIENT = 75
    """sysexits' EX_TEMPFAIL."""

    @property
    def label(self) -> str:
        return self.name.lower().replace("_", "-")


PERMANENT = range(10, 30)
"""What the manifests' podFailurePolicy answers with FailJob."""


class Refused(Permanent):
    """A permanent failure that has a number of its own.

    Args:
        code: one of the permanent codes.
        cause, next_action: see ReleaseError.
    """

    def __init__(self, code: Code, cause: str, *, next_action: str) -> None:
        super().__init__(cause, next_action=next_action)
        self.code = code


def code_of(error: BaseException) -> Code:
    """The exit code that says what `error` is; anything that is not ours is a bug of ours."""
    if isinstance(error, Refused):
        return error.code
    if isinstance(error, Permanent):
        return Code.BAD_INPUT
    return Code.TRANSIENT if isinstance(error, ReleaseError) else Code.INTERNAL
