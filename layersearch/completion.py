"""What a shell offers for a word that is begun.

Knows: names that the program and a database have. Does not know: how shells ask, what the words are for.
"""

from __future__ import annotations

from collections.abc import Iterable

import typer

from layersearch.errors import LayersearchError
from layersearch.search.question import How
from layersearch.training.recipe import PRESETS


def recipes(incomplete: str) -> list[str]:
    """Recipes that begin so."""
    return _begun(PRESETS, incomplete)


def tasks(incomplete: str) -> list[str]:
    """Tasks that begin so."""
    from layersearch.tasks import TASKS

    return _begun(TASKS, incomplete)


def spaces(incomplete: str) -> list[str]:
    """Shipped search spaces that begin so; files the shell knows itself."""
    from layersearch.search_space import shipped

    return _begun(shipped(), incomplete)


def studies(ctx: typer.Context, incomplete: str) -> list[str]:
    """Studies that begin so, of the database that the command names or would take; none where it cannot be read."""
    from layersearch.search.record import names_of

    storage = ctx.params.get("storage") or How.storage
    try:
        return _begun(names_of(str(storage)), incomplete)
    except LayersearchError:
        return []


def _begun(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]
