"""Check that a JSON object is a record of a frozen dataclass: the fields it needs, no others, each of its type.

The one validator for model cards, published scores, calibrations, endpoint settings and the index of healthy cases.
Knows no file and no class of its own; the caller says what the record is and what to do about a damaged one.
"""

from __future__ import annotations

import types
import typing
from dataclasses import MISSING, fields
from typing import Any

_NAMES = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "an object",
}


def check_record(cls: type, content: Any, *, complete: bool = False) -> dict[str, Any]:
    """Return `content` if it is a JSON object with the fields of the dataclass `cls`, each of the declared type.

    A field of type `tuple` is a JSON array, a nested dataclass is a JSON object, `float` takes whole numbers, and no
    number takes true or false. Items of arrays and objects are the caller's to check.

    Args:
        cls: dataclass whose fields `content` must have.
        content: parsed JSON.
        complete: require the fields that have a default, too.

    Returns:
        `content`, unchanged.

    Raises:
        ValueError: in one clause, such as "its field 'value' must be a number, not 'high'".
    """
    if not isinstance(content, dict):
        raise ValueError(f"it must be a JSON object, not {_kind(content)}")
    known = {f.name: f for f in fields(cls)}
    needed = [n for n, f in known.items() if complete or (f.default is MISSING and f.default_factory is MISSING)]
    if unknown := sorted(set(content) - set(known)):
        raise ValueError(f"it has unknown fields {', '.join(unknown)}")
    if missing := [name for name in needed if name not in content]:
        raise ValueError(f"it lacks {', '.join(missing)}")
    hints = typing.get_type_hints(cls)
    for name, value in content.items():
        kinds = _json_types(hints[name])
        if not _fits(value, kinds):
            wanted = " or ".join(_NAMES[kind] for kind in kinds)
            raise ValueError(f"its field '{name}' must be {wanted}, not {value!r}")
    return content


def _json_types(hint: Any) -> tuple[type, ...]:
    """Return the types that `json.loads` gives for a value of a type hint."""
    origin = typing.get_origin(hint) or hint
    if origin in (typing.Union, types.UnionType):
        return tuple(kind for part in typing.get_args(hint) if part is not type(None) for kind in _json_types(part))
    if origin in (str, int, float, bool, dict, list):
        return (origin,)
    return (list,) if origin is tuple else (dict,)


def _fits(value: Any, kinds: tuple[type, ...]) -> bool:
    if isinstance(value, bool):
        return bool in kinds
    if isinstance(value, tuple):  # of a record that was parsed already
        return list in kinds
    return isinstance(value, kinds) or (isinstance(value, int) and float in kinds)


def _kind(value: Any) -> str:
    return next((name for kind, name in _NAMES.items() if type(value) is kind), type(value).__name__)
