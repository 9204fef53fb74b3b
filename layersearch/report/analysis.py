"""What `layersearch analyze` shows: tables with what is to be read off them, and the same as plain values.

Knows: rich, the results of analyses. Does not know: how they came about, pictures. Results go to standard output.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from layersearch.analysis.analyze import Analysis, Map
from layersearch.analysis.probes import Probed
from layersearch.analysis.readout import ReadOut
from layersearch.analysis.similarity import Similarity
from layersearch.analysis.subject import EMBEDDINGS
from layersearch.counts import count
from layersearch.report.table import output, print_legend

NUMBERS = 25  # that an axis of layers has room for
_CELL = 6  # letters of a column of a map

ABOUT = {
    "cka": "1: the same up to rotation and scale, 0: nothing in common; debiased, so it may fall a little below 0. "
    "High values next to each other: these layers do alike, and one of them may be spared. Empty: no variance at all.",
    "similarity": "cosine: of the first token before and after the layer, what `contribution` goes by; the highest may "
    "go first. influence: 1 - cosine over all tokens, of the layer (what `block-influence` goes by) and of each half, "
    "and of the halves over the first token alone; the lowest may go first.",
    "blocks": "The run of layers of each length that turns the last token least, in half turns (0: not at all), and so "
    "may go first of its length; `angular` goes by it.",
    "probes": "Score of a linear model on the frozen states, with its 95 % interval; *: the best place of those whose "
    "interval lies above the constant answer. What a probe reads off is there; where the score stands still, further "
    "layers add nothing that it can read.",
    "readout": "Share of tokens that each place says right through the model's own head, and at which it says what the "
    "unmodified model says at its end; 95 % intervals over texts.",
}


class Shown:
    """The progress of an analysis: a bar where somebody looks, a line a step elsewhere; on standard error."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:3.0f} %"))
        self._bars = Progress(*columns, TimeElapsedColumn(), console=self._console, transient=True)
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Shown:
        if self._console.is_terminal:
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._bars.stop()

    def __call__(self, step: str, share: float) -> None:
        if step not in self._tasks:
            self._tasks[step] = self._bars.add_task(step, total=1.0)
            if not self._console.is_terminal:
                self._console.print(step)
        self._bars.update(self._tasks[step], completed=share, visible=share < 1)

    def between(self, found: Analysis) -> None:
        """Print what is known so far; whoever stops the rest keeps that."""
        self.__exit__()
        print_analysis(found)
        self.__enter__()


def print_analysis(found: Analysis) -> None:
    """Whatever was found, one table after the other."""
    console = output()
    for one in found.cka:
        _head(console, map_title(one, found))
        console.print(_map(one, console.width))
    if found.cka:
        print_legend(console, ABOUT["cka"])
    for number, similar in enumerate(found.similarity):
        _head(console, f"What layers change: {found.names[number]}")
        console.print(_changes(similar, found.places[number][1:]))
        print_legend(console, ABOUT["similarity"])
        _head(console, "Blocks that turn least, by their length")
        console.print(_blocks(similar, found.places[number][1:]))
        print_legend(console, ABOUT["blocks"])
    for probed in found.probes:
        _head(console, _about_probes(probed[0]))
        for table in _probes(probed, found):
            console.print(table)
        for words in without_best(probed, found):
            console.print(words, soft_wrap=True, markup=False)
        print_legend(console, ABOUT["probes"])
    for number, read in enumerate(found.readout):
        _head(console, f"Read-out: {found.names[number]}, {count(read.tokens, 'token')} of {count(read.texts, 'text')}")
        console.print(_read(read, found.places[number]))
        print_legend(console, ABOUT["readout"])


def _head(console: Console, title: str) -> None:
    console.print(title, style="bold", soft_wrap=True)


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=True, justify="right")
    return table


def map_title(one: Map, found: Analysis) -> str:
    """Which CKA this is."""
    attention = "attention outputs" if found.wanted.attention == "whole" else "what attention halves change"
    what = {"layers": "layer outputs", "attention": attention}[one.of]
    beside = "" if len(found.names) == 1 else f" (down) and {found.names[1]} (across)"
    return f"CKA of {what}: {found.names[0]}{beside}, {count(found.examples, 'example')}, rows: {found.wanted.rows}"


def _map(one: Map, width: int) -> Table:
    """The map; where it is wider than the terminal, each place against the next and the last."""
    if _CELL * (len(one.across) + 2) > width:
        table = _table("", "with the next", "with the last")
        for row, (name, values) in enumerate(zip(one.down, one.values, strict=True)):
            beside = values[min(row + 1, len(values) - 1)]
            table.add_row(name, _number(beside), _number(values[-1]))
        return table
    table = _table("", *(_short(name) for name in one.across))
    for name, values in zip(one.down, one.values, strict=True):
        table.add_row(_short(name), *map(_number, values))
    return table


def _short(place: str) -> str:
    return "emb" if place == EMBEDDINGS else place


def layers_passed(found: Analysis) -> range:
    """What an axis of layers passed says: 0, before the first layer, up to the most of any model.

    Of a model with very many layers it leaves out numbers that would lie over each other.
    """
    most = max(map(len, found.places))
    return range(0, most, -(-most // NUMBERS))


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.2f}"


def _changes(similar: Similarity, layers: Sequence[str]) -> Table:
    table = _table("layer", "cosine", "influence", "of attention", "of FFN", "first token: of attention", "of FFN")
    for layer, name in enumerate(layers):
        halves = slice(2 * layer, 2 * layer + 2)
        values = (
            similar.first_token[layer],
            1 - similar.all_tokens[layer],
            *similar.all_halves[halves],
            *similar.first_halves[halves],
        )
        table.add_row(name, *(f"{value:.4f}" for value in values))
    return table


def _blocks(similar: Similarity, layers: Sequence[str]) -> Table:
    table = _table("layers", "block", "turn")
    for length in range(1, similar.num_layers + 1):
        turns = [similar.block(start, length) for start in range(similar.num_layers - length + 1)]
        start = turns.index(min(turns))
        block = layers[start] if length == 1 else f"{layers[start]} to {layers[start + length - 1]}"
        table.add_row(str(length), block, f"{turns[start]:.4f}")
    return table


def _about_probes(first: Probed) -> str:
    fit, dev, test = first.examples
    return (
        f"Probes of {first.task}, {first.metric}: fitted on {count(fit, 'example')}, strength chosen on {dev:,}, "
        f"scored on {test:,}; the constant answer scores {first.majority:.4f}"
    )


def without_best(probed: Sequence[Probed], found: Analysis) -> list[str]:
    """A line for each model of which no probe is better than one answer to everything."""
    return [
        f"{'' if len(probed) == 1 else f'{name}: '}none reads more than the constant answer ({one.majority:.4f})"
        for name, one in zip(found.names, probed, strict=True)
        if one.best is None
    ]


def _probes(probed: Sequence[Probed], found: Analysis) -> Iterator[Table]:
    """The models side by side where their places are the same, else one below the other."""
    alike = all(places == found.places[0] for places in found.places)
    models = list(zip(found.names, found.places, probed, strict=True))
    for group in [models] if alike else [[model] for model in models]:
        table = _table("", *(part for name, _, _ in group for part in (name, "95 % interval")))
        for row, place in enumerate(group[0][1]):
            table.add_row(_short(place), *(cell for _, _, one in group for cell in _probe_cells(one, row)))
        yield table


def _probe_cells(one: Probed, row: int) -> list[str]:
    low, high = one.intervals[row]
    return [f"{one.scores[row]:.4f}{'*' if row == one.best else ' '}", f"{low:.4f} to {high:.4f}"]


def _read(read: ReadOut, places: Sequence[str]) -> Table:
    what = "the next token" if read.foretells else "the token itself"
    table = _table("", f"says {what}", "95 % interval", "agrees with the unmodified model", "95 % interval")
    rows = (read.reconstruction, read.reconstruction_intervals, read.agreement, read.agreement_intervals)
    for place, right, one, same, other in zip(places, *rows, strict=True):
        cells = (f"{right:.4f}", "{:.4f} to {:.4f}".format(*one), f"{same:.4f}", "{:.4f} to {:.4f}".format(*other))
        table.add_row(_short(place), *cells)
    return table


def as_plain(found: Analysis) -> dict[str, Any]:
    """The whole analysis as values that JSON has; null where CKA is not defined."""
    wanted = found.wanted
    return {
        "models": [
            {"name": name, "places": list(places)} for name, places in zip(found.names, found.places, strict=True)
        ],
        "examples": found.examples,
        "part": wanted.part,
        "rows": wanted.rows,
        "attention": wanted.attention,
        "max_length": wanted.max_length,
        "seed": wanted.seed,
        "cka": [
            {"of": one.of, "down": one.down, "across": one.across, "values": _with_null(one.values.tolist())}
            for one in found.cka
        ],
        "similarity": [vars(one) for one in found.similarity],
        "probes": [[vars(one) for one in probed] for probed in found.probes],
        "readout": [vars(one) for one in found.readout],
    }


def _with_null(rows: list[list[float]]) -> list[list[float | None]]:
    return [[None if math.isnan(value) else value for value in row] for row in rows]
