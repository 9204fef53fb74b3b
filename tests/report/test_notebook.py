"""What a notebook shows: HTML of tables and prints, and a view that is drawn anew without widgets."""

from __future__ import annotations

import time
from io import StringIO
from typing import Any

import IPython.display
import pytest
from rich.console import Console
from rich.table import Table
from rich.text import Text

from layersearch.report import notebook
from layersearch.report.notebook import NotebookView, live, shown_html, shown_text, table_html


def test_nothing_in_a_table_is_markup() -> None:
    table = Table("layers", "pattern")
    table.add_row(Text("█·", style="green"), "<b>0-1</b>")
    page = table_html(table)
    assert page.count("<th ") == page.count("<td ") == 2
    assert "&lt;b&gt;0-1&lt;/b&gt;" in page
    assert 'font-family: monospace">█·</td>' in page


def test_a_print_is_plain_as_text_and_coloured_as_html(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # as kernels do
    text = Text("kept", style="green")
    assert shown_text(lambda console: console.print(text)) == "kept"
    assert "color:" in shown_html(lambda console: console.print(text))


def test_a_view_is_drawn_anew_until_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []

    class Handle:
        def update(self, page: dict[str, str], **_: Any) -> None:
            drawn.append(page["text/html"])

    def display(page: dict[str, str], **_: Any) -> Handle:
        drawn.append(page["text/html"])
        return Handle()

    monkeypatch.setattr(IPython.display, "display", display)
    monkeypatch.setattr(notebook, "REFRESH_SECONDS", 0.01)
    view = live(lambda: Text(f"{len(drawn)} drawn"), Console(file=StringIO(), force_jupyter=True))
    assert isinstance(view, NotebookView)
    view.start()
    while len(drawn) < 3:
        time.sleep(0.01)
    view.stop()
    assert "0 drawn" in drawn[0]
    assert f"{len(drawn) - 1} drawn" in drawn[-1]


def test_nobody_is_shown_a_view_in_a_pipe() -> None:
    assert live(lambda: "x", Console(file=StringIO(), force_jupyter=False)) is None
