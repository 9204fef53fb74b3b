"""Search spaces by name or by file: TOML in, a `SearchSpace` out, or one clear line.

Knows: where the shipped spaces lie, and how to say what is wrong with a file. Does not know: what a space means.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from layersearch.choices import Choice
from layersearch.errors import SpaceError, WordsError
from layersearch.names import unknown
from layersearch.pattern import Readout
from layersearch.search_space import SearchSpace

_SHIPPED = Path(__file__).parent / "search_spaces"


def load(name_or_path: str) -> SearchSpace:
    """A shipped space by its name, or the space in a TOML file by its path. Raises WordsError, SpaceError."""
    try:
        return SearchSpace.model_validate(tomllib.loads(_find(name_or_path).read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise SpaceError(f"search space {name_or_path} cannot be read as TOML: {error}") from error
    except ValidationError as error:
        raise SpaceError(f"search space {name_or_path}: {_explain(error.errors()[0])}") from error


def shipped() -> tuple[str, ...]:
    """The names of the spaces that come with the program."""
    return tuple(sorted(file.stem for file in _SHIPPED.glob("*.toml")))


def _find(name_or_path: str) -> Path:
    if name_or_path in shipped():
        return _SHIPPED / f"{name_or_path}.toml"
    path = Path(name_or_path)
    if path.is_file():
        return path
    if path.suffix == ".toml" or len(path.parts) > 1:
        raise SpaceError(f"there is no search space file {name_or_path}; shipped spaces: {', '.join(shipped())}")
    raise WordsError(f"{unknown('search space', name_or_path, shipped())}, or the path of a TOML file")


def _explain(error: ErrorDetails) -> str:
    """One line for pydantic's finding, with the key it is about."""
    key = str(error["loc"][0]) if error["loc"] else ""
    given = str(error["input"])
    if error["type"] == "extra_forbidden":
        return unknown("key", key, SearchSpace.model_fields)
    if error["type"] == "literal_error":
        allowed = get_args(Readout) if key == "readout" else get_args(Choice)
        return f"`{key}`: {unknown('choice', given, allowed)}"
    if error["type"] == "value_error":
        return f"{f'`{key}`: ' if key else ''}{error['msg'].removeprefix('Value error, ')}"
    return f"`{key}`: {error['msg'].replace('valid tuple', 'list').removeprefix('Input ')}, got {given}"
