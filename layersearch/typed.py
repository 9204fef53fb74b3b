"""Calls that say in one line which word of theirs is of another type than it may be; one text is a list of one.

Knows: annotations and values. Does not know: any call, what its words mean, whether a number is too large.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from inspect import Parameter, signature
from numbers import Integral, Real
from pathlib import Path
from types import NoneType, SimpleNamespace, UnionType
from typing import Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

from layersearch.errors import WordsError
from layersearch.names import unknown

P = ParamSpec("P")
T = TypeVar("T")

_NUMBERS = {int: Integral, float: Real}  # numpy's are numbers too
_NAMES = {int: "a whole number", float: "a number", bool: "True or False", str: "a text", Path: "a Path"}


def checked(call: Callable[P, T]) -> Callable[P, T]:
    """The call, which raises WordsError for a word whose value is not of its type before it does anything."""

    @wraps(call)
    def with_checks(*args: P.args, **words: P.kwargs) -> T:
        bound, kinds = signature(call).bind(*args, **words), _kinds(call)
        bound.arguments.update(listed(bound.arguments, kinds))
        for name, kind in kinds.items():
            if name in bound.arguments and not fits(bound.arguments[name], kind):
                raise WordsError(_refused(name, bound.arguments[name], kind))
        return call(*bound.args, **bound.kwargs)

    return with_checks


def _kinds(call: Callable[..., Any]) -> dict[str, Any]:
    """The types of a call's words; not of what it gives back, whose library need not be loaded for that."""
    plain = (one for one in signature(call).parameters.values() if one.kind != Parameter.VAR_KEYWORD)
    annotated = SimpleNamespace(__annotations__={one.name: one.annotation for one in plain})
    return get_type_hints(annotated, globalns=call.__globals__)


def listed(words: Mapping[str, Any], kinds: Mapping[str, Any]) -> dict[str, Any]:
    """The words, with a single text as a list of one where a list of texts is allowed and a text is not."""

    def alone(name: str, value: object) -> bool:
        kind = kinds.get(name)
        return isinstance(value, str) and kind is not None and not fits(value, kind) and fits([value], kind)

    return {name: [value] if alone(name, value) else value for name, value in words.items()}


def with_texts(words: Mapping[str, Any], kinds: Mapping[str, Any]) -> dict[str, Any]:
    """The words as `listed`, for the command line to read as if they were typed; what is no text would look like one.

    Raises WordsError for such a value in place of a text.
    """
    found = listed(words, kinds)
    for name, value in found.items():
        kind = kinds.get(name)
        if kind is not None and (fits("", kind) or fits([""], kind)) and not fits(value, kind):
            raise WordsError(_refused(name, value, kind))
    return found


def fits(value: object, kind: Any) -> bool:
    """Whether `value` is of the type `kind`, as it stands behind a parameter's name."""
    if get_origin(kind) in (Union, UnionType):
        return any(fits(value, one) for one in get_args(kind))
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if get_origin(kind) is Sequence:
        listed = isinstance(value, Sequence) and not isinstance(value, str)
        return listed and all(fits(one, get_args(kind)[0]) for one in value)  # type: ignore[attr-defined]
    if kind in _NUMBERS:
        return isinstance(value, _NUMBERS[kind]) and not isinstance(value, bool)
    return isinstance(value, kind)


def _refused(name: str, value: object, kind: Any) -> str:
    choices = [choice for one in (kind, *get_args(kind)) if get_origin(one) is Literal for choice in get_args(one)]
    if choices and isinstance(value, str):
        return unknown(name, value, choices)
    return f"{name}={value!r} is not possible; allowed: {_named(kind)}"


def _named(kind: Any) -> str:
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(_named(one) for one in get_args(kind))
    if get_origin(kind) is Literal:
        return ", ".join(map(repr, get_args(kind)))
    if get_origin(kind) is Sequence:
        return f"a list, each of it {_named(get_args(kind)[0])}"
    return "None" if kind is NoneType else _NAMES[kind]
