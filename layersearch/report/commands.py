"""Commands as a reader can copy them.

Knows: the words of `export`, and which trials have something to export. Does not know: terminals, pages, how an export
is made.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from layersearch.names import file_name_of

if TYPE_CHECKING:
    from layersearch.search.record import Record
    from layersearch.search.trials import Row


def place_of(storage: str, default: str) -> str:
    """The words that name a storage, none where it is the default; a password is left out."""
    from layersearch.search.storage import parse_url, shown

    if storage == default:
        return ""
    return f" --storage {shlex.quote(shown(parse_url(storage)) if '://' in storage else storage)}"


def export_command(record: Record, row: Row, place: str) -> str | None:
    """The command that exports a complete trial, None where there are no weights.

    `place` is what `place_of` says.
    """
    if "replay" in record.facts or not row.done:
        return None
    name = shlex.quote(record.name)
    return f"layersearch export {name} --trial {row.number} --to {file_name_of(record.name)}-{row.number}{place}"
