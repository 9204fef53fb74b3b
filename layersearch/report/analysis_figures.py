"""The pictures of an analysis: maps of CKA and of blocks, curves of probes and of the read-out.

Knows: matplotlib, the results of analyses. Does not know: how they came about, terminals, pages.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from layersearch.analysis.analyze import Analysis
from layersearch.analysis.similarity import Similarity
from layersearch.analysis.subject import EMBEDDINGS
from layersearch.report.analysis import layers_passed, without_best
from layersearch.report.canvas import legend_below, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = ("#1f5fa8", "#c2571a")
_NUMBERED = 14  # places across, up to which cells have their numbers in them


def draw_analysis(found: Analysis, folder: Path) -> list[Path]:
    """Draw whatever was found as PNGs into `folder`, which is made; the files that were drawn.

    Raises LayersearchError where one cannot be written.
    """
    drawn = []
    if found.cka:
        drawn.append(_draw_cka(found, folder / "cka.png"))
    if found.similarity:
        drawn.append(_draw_blocks(found, folder / "blocks.png"))
        drawn.append(_draw_changes(found, folder / "changes.png"))
    if found.probes:
        drawn.append(_draw_probes(found, folder / "probes.png"))
    if found.readout:
        drawn.append(_draw_readout(found, folder / "readout.png"))
    return drawn


def _new(down: int, across: int, width: float, height: float, *, sharey: bool = False) -> tuple[Figure, NDArray[Any]]:
    """A figure of so many axes, each of so many inches, their scales upwards shared or not; pyplot would keep it."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * across, height * down), dpi=150, layout="constrained")
    return figure, figure.subplots(down, across, squeeze=False, sharey=sharey)


def blocks_of(similar: Similarity) -> NDArray[np.float64]:
    """Angular distances [length - 1, first layer] of all blocks, NaN beyond the last layer."""
    layers = similar.num_layers
    blocks = np.full((layers, layers), np.nan)
    for length in range(1, layers + 1):
        for start in range(layers - length + 1):
            blocks[length - 1, start] = similar.block(start, length)
    return blocks


def _draw_cka(found: Analysis, file: Path) -> Path:
    figure, axes = _new(1, len(found.cka), 6.2, 5.4)
    for one, axis in zip(found.cka, axes[0], strict=True):
        image = _heat(axis, one.values, _short(one.down), _short(one.across), low=0.0, high=1.0)
        what = "layer outputs" if one.of == "layers" else "attention outputs"
        axis.set_title(f"CKA of {what}", fontsize=10)
        if len(found.names) == 2:
            axis.set_ylabel(found.names[0], parse_math=False)
            axis.set_xlabel(found.names[1], parse_math=False)
        axis.invert_yaxis()
    if len(found.names) == 1:
        figure.suptitle(found.names[0], fontsize=10, parse_math=False)
    figure.colorbar(image, ax=axes, shrink=0.8)
    save(figure, file)
    return file


def _short(places: Sequence[str]) -> list[str]:
    return ["emb" if place == EMBEDDINGS else place for place in places]


def _heat(
    axis: Axes, values: NDArray[np.float64], down: Sequence[str], across: Sequence[str], low: float, high: float
) -> Any:
    image = axis.imshow(values, vmin=low, vmax=high, cmap="viridis", aspect="auto")
    axis.set_xticks(range(len(across)), across, fontsize=8)
    axis.set_yticks(range(len(down)), down, fontsize=8)
    if len(across) <= _NUMBERED:
        middle = (low + high) / 2
        for (row, column), value in np.ndenumerate(values):
            if np.isfinite(value):
                colour = "black" if value > middle else "white"
                axis.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=7, color=colour)
    return image


def _draw_blocks(found: Analysis, file: Path) -> Path:
    """Angular distance by first layer and length, of all models in one scale; the least of each length in a frame."""
    figure, axes = _new(1, len(found.similarity), 6.2, 5)
    maps = [blocks_of(similar) for similar in found.similarity]
    most = max(float(np.nanmax(blocks)) for blocks in maps)
    for number, (similar, blocks, axis) in enumerate(zip(found.similarity, maps, axes[0], strict=True)):
        names = found.places[number][1:]
        lengths = [str(length + 1) for length in range(similar.num_layers)]
        image = _heat(axis, blocks, lengths, names, low=0.0, high=most)
        for length, row in enumerate(blocks):
            axis.plot(int(np.nanargmin(row)), length, marker="s", ms=20, mfc="none", mec=_COLOURS[1], mew=1.5)
        axis.set_xlabel("first layer of the block")
        axis.set_ylabel("layers in the block")
        axis.set_title(f"angular distance, half turns\n{found.names[number]}", fontsize=10, parse_math=False)
        axis.invert_yaxis()
    figure.colorbar(image, ax=axes, shrink=0.8)
    save(figure, file)
    return file


def _draw_changes(found: Analysis, file: Path) -> Path:
    """1 - cosine of attention and FFN halves as bars, layer by layer, of all models in one scale."""
    figure, axes = _new(1, len(found.similarity), 6.2, 3.6, sharey=True)
    for number, (similar, axis) in enumerate(zip(found.similarity, axes[0], strict=True)):
        layers = np.arange(similar.num_layers)
        for half, (name, colour) in enumerate(zip(("attention", "FFN"), ("#1f5fa8", "#8fb4dd"), strict=True)):
            axis.bar(layers + 0.4 * (half - 0.5), similar.all_halves[half::2], 0.38, color=colour, label=name)
        axis.plot(layers, [1 - cosine for cosine in similar.all_tokens], "o-", color=_COLOURS[1], label="whole layer")
        axis.plot(
            layers, [1 - cosine for cosine in similar.first_token], "x:", color="0.3", label="whole layer, first token"
        )
        axis.set_xticks(layers, found.places[number][1:], fontsize=8)
        axis.set_xlabel("layer")
        axis.set_ylabel("influence: 1 - cosine")
        axis.set_title(found.names[number], fontsize=10, parse_math=False)
    legend_below(figure, axes.flat[0], columns=4)
    save(figure, file)
    return file


def _draw_probes(found: Analysis, file: Path) -> Path:
    figure, axes = _new(-(-len(found.probes) // 3), min(3, len(found.probes)), 5.4, 3.8)
    for probed, axis in zip(found.probes, axes.flat, strict=False):
        for number, one in enumerate(probed):
            _curve(axis, one.scores, one.intervals, found, number)
            if one.best is not None:
                at = one.best, one.scores[one.best]
                axis.plot(*at, "*", color=_COLOURS[number], mec="black", mew=0.6, markersize=13, zorder=3)
        axis.axhline(probed[0].majority, color="0.35", linestyle="--", linewidth=1, label="constant answer")
        none = without_best(probed, found)
        title = "\n".join((f"probes of {probed[0].task}", *none))
        axis.set_title(title, fontsize=8 if none else 10, parse_math=False, wrap=True)
        axis.set_ylabel(probed[0].metric)
        _name_places(axis, found)
    for axis in axes.flat[len(found.probes) :]:
        axis.set_visible(False)
    legend_below(figure, axes.flat[0])
    save(figure, file)
    return file


def _draw_readout(found: Analysis, file: Path) -> Path:
    figure, axes = _new(1, 2, 5.4, 3.8)
    for number, read in enumerate(found.readout):
        _curve(axes[0][0], read.reconstruction, read.reconstruction_intervals, found, number)
        _curve(axes[0][1], read.agreement, read.agreement_intervals, found, number)
    next_one = found.readout[0].foretells
    for axis, title in zip(
        axes[0],
        (f"says {'the next token' if next_one else 'the token itself'}", "agrees with the unmodified model"),
        strict=True,
    ):
        axis.set_title(title, fontsize=10)
        axis.set_ylabel("share of tokens")
        axis.set_ylim(0, 1.02)
        _name_places(axis, found)
    legend_below(figure, axes.flat[0])
    save(figure, file)
    return file


def _curve(
    axis: Axes, scores: Sequence[float], intervals: Sequence[tuple[float, float]], found: Analysis, number: int
) -> None:
    """Scores over the layers passed, with their intervals as a band."""
    depth = range(len(scores))
    lows, highs = zip(*intervals, strict=True)
    axis.plot(depth, scores, "os"[number] + "-", color=_COLOURS[number], markersize=4, label=found.names[number])
    axis.fill_between(depth, lows, highs, color=_COLOURS[number], alpha=0.15, linewidth=0)


def _name_places(axis: Axes, found: Analysis) -> None:
    """The places by their names, or, where two models do not have the same ones, how many layers were passed there."""
    if len(set(found.places)) == 1:
        axis.set_xticks(range(len(found.places[0])), _short(found.places[0]), fontsize=8)
        axis.set_xlabel(f"after layer{'' if len(found.names) == 1 else ' of the first model'}")
    else:
        passed = layers_passed(found)
        axis.set_xticks(passed, list(map(str, passed)), fontsize=8)
        axis.set_xlabel("layers passed")
    axis.grid(alpha=0.25)
