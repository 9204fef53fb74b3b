"""Find which layers of a pre-trained transformer a task can do without.

Knows: its version, and the names of the calls in `api.py`: `layersearch.search(...)`, `layersearch.front(...)` and the
others of the command line. Does not know anything else: importing it loads no heavy library, a call does.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from layersearch.api import (
        best,
        compare,
        confirm,
        dashboard,
        export,
        front,
        importance,
        load,
        patterns,
        plan,
        report,
        reproduce,
        search,
        show,
        time,
        verify,
    )

__version__ = "0.1.0"

__all__ = (
    "best",
    "compare",
    "confirm",
    "dashboard",
    "export",
    "front",
    "importance",
    "load",
    "patterns",
    "plan",
    "report",
    "reproduce",
    "search",
    "show",
    "time",
    "verify",
)


class CalledPackage(ModuleType):
    """A package that is called like the call of its name: `search` and `report` are both."""

    def __call__(self, *args: Any, **words: Any) -> Any:
        """Call what `api.py` has under the package's name."""
        return getattr(import_module("layersearch.api"), self.__name__.rpartition(".")[2])(*args, **words)


def __getattr__(name: str) -> Any:
    if name in ("report", "search"):
        return import_module(f"layersearch.{name}")
    if name in __all__:
        return getattr(import_module("layersearch.api"), name)
    raise AttributeError(f"module 'layersearch' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
