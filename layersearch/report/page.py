"""A page of HTML that needs nothing else, and its parts: sections, tables, lists of facts.

Knows: the page's frame, style and script (`assets/`), how to write any text safely into it, and it into a file. Does
not know: studies, charts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from layersearch.durable import whole_file
from layersearch.errors import LayersearchError

_LEFT_ALIGNED = ("trial", "layers", "pattern", "reason")


def page(title: str, body: str, trials: Sequence[dict[str, Any]]) -> str:
    """The whole page. `trials` are what its script shows of each trial: number, facts (pairs of words) and command."""
    folder = files("layersearch.report") / "assets"
    return Template((folder / "page.html").read_text()).substitute(
        title=escape(title),
        style=(folder / "page.css").read_text(),
        script=(folder / "page.js").read_text(),
        body=body,
        trials=json.dumps(trials, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c"),
    )


def write(text: str, file: Path, what: str) -> None:
    """Write the page `text` to `file`, whole or not at all. Raises LayersearchError, of `what`, if that cannot be."""
    try:
        with whole_file(file) as stream:
            stream.write(text.encode())
        file.chmod(0o644)  # to be passed on
    except OSError as error:
        raise LayersearchError(
            f"{what} cannot be written to {file}: {error.strerror or error}; name another place"
        ) from error


def section(title: str, *parts: str) -> str:
    """A part of the page under a title; `parts` are HTML."""
    return f"<section>\n<h2>{escape(title)}</h2>\n{''.join(parts)}</section>\n"


def paragraph(text: str) -> str:
    """A paragraph."""
    return f"<p>{escape(text)}</p>\n"


def table(rows: Sequence[dict[str, str]]) -> str:
    """A table; the first row's keys are the titles of its columns, and those that say nothing are left out."""
    titles = [title for title in rows[0] if any(row[title] for row in rows)]
    head = "".join(f'<th class="{_kind(title)}">{escape(title)}</th>' for title in titles)
    lines = ("".join(_cell(title, row[title]) for title in titles) for row in rows)
    body = "\n".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>\n'


def _cell(title: str, words: str) -> str:
    """A cell; a pattern breaks only between its parts."""
    inside = " ".join(f"<span>{escape(p)}</span>" for p in words.split()) if title == "pattern" else escape(words)
    return f'<td class="{_kind(title)} {title}">{inside}</td>'


def _kind(title: str) -> str:
    return "words" if title in _LEFT_ALIGNED else "number"


def described(pairs: Iterable[tuple[str, object]]) -> str:
    """Names with their values, those without a value left out."""
    lines = (f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>\n" for name, value in pairs if value)
    return f"<dl>{''.join(lines)}</dl>\n"
