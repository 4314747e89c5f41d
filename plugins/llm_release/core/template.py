"""Fills the named placeholders of a manifest that was parsed from YAML. There is no logic in a manifest.

``${NAME}`` inside a text is replaced by text. A scalar that is nothing but ``${NAME}`` takes the value as it
is: a number, a list, a mapping. An item of a list that is nothing but ``${NAME}`` and stands for a list is
spliced in. A placeholder without a value, and a value without a placeholder, are both mistakes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from llm_release.core.errors import Permanent

_HOLE = re.compile(r"\$\{([A-Z_]+)\}")


def fill(document: Any, values: Mapping[str, Any], *, source: str) -> Any:
    """-> the document with every placeholder replaced.

    Args:
        source: the manifest's file name, for the message.

    Raises:
        Permanent: a placeholder has no value.
    """
    if isinstance(document, Mapping):
        return {k: fill(v, values, source=source) for k, v in document.items()}
    if isinstance(document, list):
        return _list(document, values, source)
    if not isinstance(document, str):
        return document
    whole = _HOLE.fullmatch(document)
    if whole:
        return _value(whole[1], values, source)
    return _HOLE.sub(lambda m: str(_value(m[1], values, source)), document)


def _list(items: list[Any], values: Mapping[str, Any], source: str) -> list[Any]:
    filled: list[Any] = []
    for item in items:
        value = fill(item, values, source=source)
        if isinstance(item, str) and isinstance(value, (list, tuple)):
            filled.extend(value)
        else:
            filled.append(value)
    return filled


def _value(name: str, values: Mapping[str, Any], source: str) -> Any:
    if name not in values:
        raise Permanent(
            f"{source} has a placeholder ${{{name}}} that nothing fills.",
            next_action="remove it from the manifest.",
        )
    return values[name]
