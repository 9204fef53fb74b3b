"""What a notebook shows: tables and pictures as HTML; and, on a terminal too, a view that is drawn anew.

Knows: rich's tables, HTML and live display, IPython's displays. Does not know: what is shown, SQL.
"""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable
from html import escape
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Protocol

from rich.console import Console, RenderableType
from rich.live import Live
from rich.table import Table

from layersearch.report.table import WIDE

if TYPE_CHECKING:
    from layersearch.search.record import Record

REFRESH_SECONDS = 0.5
_PRE = '<pre style="line-height: 1.25; overflow-x: auto">{code}</pre>'


def shown_text(print_on: Callable[[Console], None]) -> str:
    """What a printer prints, without colours."""
    console = Console(file=StringIO(), width=WIDE, highlight=False, force_jupyter=False, color_system=None)
    print_on(console)
    return console.file.getvalue().rstrip("\n")  # type: ignore[attr-defined,no-any-return]


def shown_html(print_on: Callable[[Console], None]) -> str:
    """What a printer prints, as HTML with the colours of a terminal."""
    console = Console(file=StringIO(), width=WIDE, highlight=False, force_jupyter=False, record=True)
    print_on(console)
    return console.export_html(inline_styles=True, code_format=_PRE)


def table_html(table: Table) -> str:
    """A table whose cells are text, as an HTML table."""
    heads = [escape(str(column.header)) for column in table.columns]
    fonts = ["; font-family: monospace" * (head == "layers") for head in heads]
    looks = [f"text-align: {column.justify}; white-space: nowrap" for column in table.columns]
    sides = [f' style="{look}{font}"' for look, font in zip(looks, fonts, strict=True)]
    rows = zip(*([escape(str(cell)) for cell in column.cells] for column in table.columns), strict=True)
    head = "".join(f"<th{side}>{text}</th>" for side, text in zip(sides, heads, strict=True))
    body = ("".join(f"<td{side}>{text}</td>" for side, text in zip(sides, row, strict=True)) for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(f'<tr>{row}</tr>' for row in body)}</tbody></table>"


def picture_html(record: Record) -> str:
    """The picture of a study's front, as PNG inside the HTML."""
    from layersearch.report.figures import draw_front

    with TemporaryDirectory(prefix="layersearch-") as folder:
        draw_front(record, Path(folder) / "front.png")
        picture = base64.b64encode((Path(folder) / "front.png").read_bytes()).decode()
    return f'<img alt="front of {escape(record.name)}" style="max-width: 48em" src="data:image/png;base64,{picture}">'


class View(Protocol):
    """Something that is drawn anew between `start` and `stop`."""

    def start(self) -> None:
        """Show it."""
        ...

    def stop(self) -> None:
        """Draw it for the last time."""
        ...


def live(view: Callable[[], RenderableType], console: Console) -> View | None:
    """`view` drawn anew where somebody looks: on a terminal or in a notebook; None elsewhere."""
    if console.is_jupyter:
        return NotebookView(view)
    if console.is_terminal:
        return Live(get_renderable=view, console=console, refresh_per_second=1 / REFRESH_SECONDS)
    return None


class NotebookView:
    """A view below a cell, drawn anew every `REFRESH_SECONDS` by a thread of its own; needs no widgets."""

    def __init__(self, view: Callable[[], RenderableType]) -> None:
        self._view = view
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._refresh, daemon=True)
        self._handle: Any = None

    def start(self) -> None:
        """Show it."""
        from IPython.display import display

        self._handle = display({"text/html": self._drawn()}, raw=True, display_id=True)  # type: ignore[no-untyped-call]
        self._thread.start()

    def stop(self) -> None:
        """Draw it for the last time."""
        self._ended.set()
        self._thread.join()

    def _refresh(self) -> None:
        last = False
        while not last:
            last = self._ended.wait(REFRESH_SECONDS)
            self._handle.update({"text/html": self._drawn()}, raw=True)

    def _drawn(self) -> str:
        return shown_html(lambda console: console.print(self._view()))
