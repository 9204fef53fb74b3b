"""Commands as they are typed: options in place of the values that they make, and a line about words that do not fit.

Knows: signatures, which options go together, Typer's errors. Does not know: any option's help or default, what commands
do.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Any, TypeVar, cast

import typer

from layersearch.errors import WordsError
from layersearch.names import nearest, unknown
from layersearch.options import Asked, asked, placed
from layersearch.recipe_options import recipe_of
from layersearch.search.question import How
from layersearch.training.recipe import Recipe

T = TypeVar("T")

_MAKERS: Mapping[Any, Callable[..., Any]] = {Asked: asked, How: placed, Recipe: recipe_of}

OF_A_TABLE = {"score", "where", "minimize"}  # words that say something only beside --replay
OF_TRAINING = {*signature(asked).parameters, *signature(recipe_of).parameters}
OF_TRAINING -= {"space", "sampler", "seed", "replay", *OF_A_TABLE}
OF_TRAINING |= {"workers", "device", "ray_address", "stall_seconds", "confirm", "replicates"}  # and those that do not
OF_TRAINING |= {"keep_checkpoints", "disk"}


def _check_together(options: Mapping[str, Parameter], given: Mapping[str, Any]) -> None:
    """Raise WordsError for options that say nothing beside the others."""
    changed = [name for name, option in options.items() if given[name] != option.default]
    replayed = given.get("replay") is not None
    idle = [_word(options[name]) for name in changed if name in (OF_TRAINING if replayed else OF_A_TABLE)]
    if idle and replayed:
        raise WordsError(f"--replay takes scores from a table and trains nothing; leave out {_listed(idle)}")
    if idle:
        needs = "needs" if len(idle) == 1 else "need"
        raise WordsError(f"{_listed(idle)} {needs} a table of known scores; name it with --replay FILE")


def _word(option: Parameter) -> str:
    """The word of an option on the command line."""
    named = option.annotation.__metadata__[0].param_decls
    return str(named[0]) if named else f"--{option.name.replace('_', '-')}"


def _listed(words: Iterable[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last


def spelled_out(command: Callable[..., T]) -> Callable[..., T]:
    """The command as Typer shall see it: with the options that make a What or How in place of such a parameter."""

    options = _options(command)

    @wraps(command)
    def with_options(**given: Any) -> T:
        _check_together(options, given)
        return cast(T, _filled(command, given))

    spelled = [option.replace(kind=Parameter.KEYWORD_ONLY) for option in options.values()]
    with_options.__signature__ = Signature(spelled)  # type: ignore[attr-defined]
    return with_options


def taken(command: Callable[..., Any], words: Mapping[str, Any]) -> dict[str, Any]:
    """The words of a Python call as the command line would read them, with the defaults of those left out.

    `command` is one that `spelled_out` gave. Raises WordsError for words that it does not know or take.
    """
    app = typer.Typer(add_completion=False)
    app.command()(command)
    read = {param.name: param for param in typer.main.get_command(app).params}
    context = typer.Context(typer.main.get_command(app), info_name="layersearch run")
    for name in words:
        if name not in read:
            raise WordsError(unknown("option", name, sorted(map(str, read))))
    given = {name: option.default for name, option in signature(command).parameters.items()}
    try:
        return given | {name: read[name].process_value(context, value) for name, value in words.items()}
    except typer.TyperException as error:
        raise WordsError(refused(error)) from None


def _options(function: Callable[..., Any]) -> dict[str, Parameter]:
    found: dict[str, Parameter] = {}
    for name, parameter in signature(function, eval_str=True).parameters.items():
        maker = _MAKERS.get(parameter.annotation)
        found |= _options(maker) if maker else {name: parameter}
    return found


def _filled(function: Callable[..., Any], given: Mapping[str, Any]) -> Any:
    """The answer of `function` to the options it takes among those given."""
    makers = {name: _MAKERS.get(p.annotation) for name, p in signature(function, eval_str=True).parameters.items()}
    return function(**{name: _filled(maker, given) if maker else given[name] for name, maker in makers.items()})


def refused(error: typer.TyperException) -> str:
    """One line about words that Typer does not take: what was given, and what is allowed or where to look for it."""
    from pydantic import ValidationError

    about, cause = vars(error), error.__cause__
    if isinstance(error, typer.BadParameter) and error.param is not None and isinstance(cause, ValidationError):
        found = cause.errors()[0]
        if found["type"] == "value_error":
            text = found["msg"].removeprefix("Value error, ")
            if choices := re.fullmatch(r".+ is not one of ((?:'[^']+'(?:, )?)+)\.?", text):
                return unknown(error.param.opts[0], str(found["input"]), re.findall("'([^']+)'", choices[1]))
            return _one_line(f"{error.param.opts[0]}: {text}")
        allowed = found["msg"].removeprefix("Input should be ").partition(", unable to")[0]
        return _one_line(f"{error.param.opts[0]} {found['input']} is not possible; allowed: {allowed}")
    text = error.format_message().rstrip(".")
    if "possibilities" in about:
        option = about["option_name"]
        text = f"unknown option {option!r}{nearest(option, about['possibilities'] or ())}"
    context = about.get("ctx")
    look = f"{'' if text.endswith('?') else '.'} See `{context.command_path} --help`" if context is not None else ""
    return _one_line(text[0].lower() + text[1:] + look)


def _one_line(text: str) -> str:
    return " ".join(text.split())
