"""What types alone cannot say of a document that a person wrote: rules with a sentence each, checked in order."""

from __future__ import annotations

import re
from typing import Any, TypeAlias, TypeVar

from llm_release.core.strict import Invalid, decode

T = TypeVar("T")
Rule: TypeAlias = tuple[str, bool, str]
"""Path of the key, whether the rule holds, and the problem when it does not."""

ZONE = re.compile(r"[a-z]+-[a-z]+\d+-[a-z]")
SUBNETWORK = re.compile(r"(projects/[\w.:-]+/)?regions/[a-z0-9-]+/subnetworks/[a-z0-9-]+")
IMAGE = re.compile(r"[\w.:-]+(/[\w.-]+)+(:[\w.-]+|@sha256:[0-9a-f]{64})")
_NAME = re.compile(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?")


def decoded(cls: type[T], document: Any, source: str) -> T:
    """Decodes; an error names the document, too."""
    try:
        return decode(cls, document)
    except Invalid as e:
        raise Invalid(e.path, e.problem, document=source) from None


def check_rules(rules: list[Rule], source: str) -> None:
    """Raises Invalid for the first rule that does not hold."""
    for path, holds, problem in rules:
        if not holds:
            raise Invalid(path, problem, document=source)


def name_rule(path: str, name: str) -> Rule:
    """For what becomes a part of objects' names."""
    return (
        path,
        bool(_NAME.fullmatch(name)),
        f"{name!r} must be lower-case letters, digits and dashes, start with a letter, 40 characters at most",
    )
