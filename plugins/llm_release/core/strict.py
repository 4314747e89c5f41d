"""Strict decoding of plain data (YAML, JSON) into frozen dataclasses, and back.

Every refusal names the path of the key, what was found there and what was expected. This is no general
schema language: it knows the few shapes that our specs and facts are made of.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from llm_release.core.errors import Permanent

T = TypeVar("T")

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_UNIT_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


class Seconds(float):
    """A duration in seconds, written as ``250ms``, ``30s``, ``10m`` or ``2h`` in a spec."""


class Invalid(Permanent):
    """A document that does not have the shape it must have.

    Args:
        path: where, as ``gates.load.rate``.
        problem: what was found and what was expected.
    """

    def __init__(self, path: str, problem: str, *, document: str = "the document") -> None:
        super().__init__(f"{path}: {problem}", next_action=f"correct {path} in {document}.")
        self.path = path
        self.problem = problem


def seconds(text: Any, path: str) -> Seconds:
    """``"30s"`` -> 30.0. A bare number is refused: it does not say its unit."""
    found = _DURATION.fullmatch(text) if isinstance(text, str) else None
    if not found:
        raise Invalid(path, f"{text!r} is not a duration; expected a number with a unit, as 30s, 10m or 2h")
    return Seconds(float(found[1]) * _UNIT_SECONDS[found[2]])


def decode(cls: type[T], value: Any, path: str = "") -> T:
    """Builds the dataclass `cls` from a mapping; unknown and missing keys are refused.

    Raises:
        Invalid: with the path of the first key that is wrong.
    """
    if not isinstance(value, Mapping):
        raise Invalid(path or cls.__name__, f"expected a mapping, found {_kind(value)}")
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(typing.cast(Any, cls))}
    for key in value:
        if key not in fields:
            raise Invalid(_join(path, str(key)), _unknown(str(key), list(fields)))
    made: dict[str, Any] = {}
    for name, field in fields.items():
        if name in value:
            made[name] = _value(hints[name], value[name], _join(path, name))
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise Invalid(_join(path, name), "is missing")
    return cls(**made)


def encode(value: Any) -> Any:
    """The inverse of `decode` for facts: dataclasses to plain JSON data (durations become seconds)."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): encode(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [encode(v) for v in value]
    return float(value) if isinstance(value, Seconds) else value


def _value(hint: Any, value: Any, path: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        return _value(next(a for a in args if a is not type(None)), value, path)
    if origin is typing.Literal:
        if value is False and "off" in args:
            return "off"  # YAML 1.1 reads a bare off as false
        if value not in args:
            raise Invalid(path, f"{value!r} is not one of {', '.join(map(repr, args))}")
        return value
    if origin is tuple:
        return _items(args[0], value, path)
    if origin is not None and issubclass(origin, Mapping):
        return _mapping(args[1], value, path)
    if dataclasses.is_dataclass(hint):
        return decode(typing.cast(Any, hint), value, path)
    return _scalar(hint, value, path)


def _items(hint: Any, value: Any, path: str) -> tuple[Any, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise Invalid(path, f"expected a list, found {_kind(value)}")
    return tuple(_value(hint, item, f"{path}[{n}]") for n, item in enumerate(value))


def _mapping(hint: Any, value: Any, path: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise Invalid(path, f"expected a mapping, found {_kind(value)}")
    return {str(k): _value(hint, v, _join(path, str(k))) for k, v in value.items()}


def _scalar(hint: Any, value: Any, path: str) -> Any:
    if hint is Any or hint is object:
        return value
    if hint is Seconds:
        return Seconds(value) if isinstance(value, Seconds | float) else seconds(value, path)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint in (int, float) and isinstance(value, bool)):
        raise Invalid(path, f"expected {_name(hint)}, found {_kind(value)}")
    return value


def _unknown(key: str, known: list[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1)
    return "is not a known key; " + (
        f"did you mean {near[0]}?" if near else f"known keys: {', '.join(known)}"
    )


def _name(hint: type) -> str:
    return {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}.get(
        hint, hint.__name__
    )


def _kind(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        return "a mapping"
    return f"{value!r}"[:60]


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
