"""Lists as Compute gives them: `filter` on fields and labels, pages, and the list document.

Only the forms that tools use are understood: comparisons with =, !=, :, eq, ne, joined by AND or by
parentheses side by side. Anything else is refused, never ignored.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from testbench.fakes.google import errors
from testbench.fakes.google.messages import Resource

Test = Callable[[Resource], bool]
MAX_PAGE = 500

_TERM = re.compile(r'\s*([\w.-]+)\s*(!=|=|:|\beq\b|\bne\b)\s*("(?:[^"\\]|\\.)*"|[^\s()]+)\s*')


def tests(expression: str) -> list[Test]:
    """
    Raises:
        ApiError: 400, an expression that is not understood.
    """
    parts = [p for p in re.split(r"\bAND\b|\)\s*\(", expression) if p.strip(" ()")]
    return [_test(part.strip().strip("()"), expression) for part in parts]


def _test(term: str, whole: str) -> Test:
    found = _TERM.fullmatch(term)
    if not found:
        raise errors.ApiError(
            400, "invalid", f"Invalid value for field 'filter': '{whole}'. Invalid list filter expression."
        )
    field, operator, wanted = found[1], found[2], found[3].strip('"')
    if operator in ("eq", "ne"):
        pattern = re.compile(wanted)
        return lambda r: (pattern.fullmatch(str(_value(r, field) or "")) is not None) is (operator == "eq")
    if operator == ":":
        return lambda r: _has(_value(r, field), wanted)
    return lambda r: _equal(_value(r, field), wanted) is (operator == "=")


def _value(resource: Resource, field: str) -> Any:
    value: Any = resource
    for part in field.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _equal(value: Any, wanted: str) -> bool:
    if isinstance(value, bool):
        return str(value).lower() == wanted.lower()
    return value is not None and str(value) == wanted


def _has(value: Any, wanted: str) -> bool:
    if value is None:
        return False
    pattern = ".*".join(re.escape(p) for p in wanted.split("*"))
    return wanted == "*" or re.fullmatch(pattern, str(value)) is not None


def page(
    items: Sequence[tuple[str, Resource]], query: Mapping[str, str]
) -> tuple[list[tuple[str, Resource]], str]:
    """One page in the order of keys, and the token of the next one ("" at the end)."""
    wanted = tests(query.get("filter", ""))
    after = _token(query.get("pageToken", ""))
    chosen = sorted((k, r) for k, r in items if all(t(r) for t in wanted))
    if query.get("orderBy") == "creationTimestamp desc":
        chosen.sort(key=lambda kr: str(kr[1].get("creationTimestamp", "")), reverse=True)
    try:
        size = max(1, min(int(query.get("maxResults", MAX_PAGE)), MAX_PAGE))
    except ValueError as e:
        raise errors.invalid("maxResults", query["maxResults"], "Must be a number.") from e
    more = len(chosen) > after + size
    return chosen[after : after + size], _make_token(after + size) if more else ""


def _make_token(after: int) -> str:
    return base64.urlsafe_b64encode(f"after:{after}".encode()).decode()


def _token(token: str) -> int:
    if not token:
        return 0
    try:
        return int(base64.urlsafe_b64decode(token).decode().removeprefix("after:"))
    except (ValueError, binascii.Error) as e:
        raise errors.invalid("pageToken", token, "The page token is not valid.") from e


def document(kind: str, items: Sequence[Resource], *, link: str, token: str = "") -> Resource:
    """`kind` without the prefix, such as diskList."""
    result: Resource = {"kind": f"compute#{kind}", "id": link.partition("/projects/")[2], "selfLink": link}
    if items:
        result["items"] = list(items)
    if token:
        result["nextPageToken"] = token
    return result
