"""Change some settings of a preset by name, from the command line."""

from __future__ import annotations

import difflib
import types
from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from headsplat.errors import HeadsplatError

Config = TypeVar("Config")


def override(config: Config, changes: Sequence[str]) -> Config:
    """The frozen dataclass with some fields replaced.

    Args:
        config: may hold other dataclasses.
        changes: such as "derivations=8", "planes=none" or, within a field, "network.width=64".

    Raises:
        HeadsplatError: an unknown name, or a value that is not of the field's type.
    """
    for change in changes:
        name, equals, text = change.partition("=")
        if not equals:
            raise HeadsplatError(f"Cannot read the setting {change!r}; write it like name=value.")
        config = _replaced(config, name.strip().split("."), text.strip(), name.strip())
    return config


def _replaced(config: Any, path: list[str], text: str, name: str) -> Any:
    known = [f.name for f in fields(config)]
    if path[0] not in known:
        close = difflib.get_close_matches(path[0], known, 3)
        there = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(known)}."
        raise HeadsplatError(f"There is no setting {name!r}; {there}")
    if len(path) > 1:
        inner = getattr(config, path[0])
        if not is_dataclass(inner):
            raise HeadsplatError(f"The setting {path[0]!r} has no parts; give it a value itself.")
        value = _replaced(inner, path[1:], text, name)
    else:
        value = _parsed(get_type_hints(type(config))[path[0]], text, name)
    try:
        return replace(config, **{path[0]: value})
    except ValueError as error:
        raise HeadsplatError(f"The setting {name}={text} does not do: {error}.") from error


def _parsed(kind: Any, text: str, name: str) -> Any:
    origin, options = get_origin(kind), get_args(kind)
    wrong = HeadsplatError(f"The setting {name} cannot be {text!r}; it is {_described(kind)}.")
    try:
        if origin in (Union, types.UnionType):
            if text.lower() == "none" and type(None) in options:
                return None
            return _parsed(next(o for o in options if o is not type(None)), text, name)
        if origin is Literal:
            return next(o for o in options if str(o) == text)
        if kind is bool:
            return {"true": True, "false": False, "1": True, "0": False}[text.lower()]
        if origin is tuple:
            return tuple(_parsed(options[0], part, name) for part in text.split(",") if part)
        if kind in (int, float, str):
            return kind(text)
    except (ValueError, KeyError, StopIteration):
        raise wrong from None
    raise wrong


def _described(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(str, get_args(kind)))}"
    if kind is bool:
        return "true or false"
    return getattr(kind, "__name__", str(kind)) if get_origin(kind) is None else str(kind)
