"""The pictures of the experiment with FFN halves.

Knows: matplotlib, the lines of its tables. Does not know: how they came about.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import fmean

from layersearch.report.canvas import save
from results.panels import panels
from results.sheet import Lines
from results.verdicts import by_seed

KINDS = {"FFN halves": ("#1f5fa8", "o"), "whole layers": ("#c2571a", "s")}


def draw_equal(runs: Lines, named: Mapping[tuple[str, int], str], tasks: Sequence[str], file: Path) -> None:
    """Scores by pattern, largest on top: without FFN halves beside without whole layers; a bar spans the seeds."""
    whole = named["unchanged", 0]
    size = {row["pattern"]: int(row["parameters"]) for row in runs if row["parameters"]}
    names: dict[str, list[str]] = {}
    for (name, k), pattern in named.items():
        if pattern in size and pattern != whole:
            names.setdefault(pattern, []).append(f"{name} {k}")
    order = sorted(names, key=lambda pattern: (size[pattern], _kind(names[pattern]), names[pattern]))
    figure, axes = panels(max(1, len(tasks)), 4.2, 1.2 + 0.24 * len(order))
    for one, task in zip(axes, tasks, strict=False):
        full = by_seed(runs, task=task, pattern=whole)
        if full:
            one.axvline(fmean(full.values()), color="0.4", linestyle="--", linewidth=1, label="unchanged")
        for kind, (colour, mark) in KINDS.items():
            mine = [
                (row, by_seed(runs, task=task, pattern=p)) for row, p in enumerate(order) if _kind(names[p]) == kind
            ]
            rows = [row for row, scores in mine if scores]
            found = [list(scores.values()) for _, scores in mine if scores]
            means = [fmean(scores) for scores in found]
            ends = [[m - min(s), max(s) - m] for m, s in zip(means, found, strict=True)]
            spread = [list(end) for end in zip(*ends, strict=True)] or None
            one.errorbar(means, rows, xerr=spread, fmt=mark, color=colour, label=kind, capsize=2, markersize=5)
        for row, (below, above) in enumerate(pairwise(order)):
            if size[above] > 1.02 * size[below]:  # an FFN half more or less is another size, a rounding is not
                one.axhline(row + 0.5, color="0.8", linewidth=1)
        labels = [f"{', '.join(names[pattern])}: {size[pattern] / 1e6:.1f} M" for pattern in order]
        one.set_yticks(range(len(order)), labels if one.get_subplotspec().is_first_col() else [""] * len(order))
        one.tick_params(axis="y", labelsize=8)
        one.set_title(task)
        one.set_xlabel("score on the validation set")
    lines, words = axes[0].get_legend_handles_labels()
    figure.legend(lines, words, fontsize=8, loc="outside lower center", ncols=len(words))
    save(figure, file)


def _kind(names: Sequence[str]) -> str:
    return "FFN halves" if names[0].startswith("ffn-only") else "whole layers"


def draw_cka(likeness: Lines, file: Path) -> None:
    """CKA of attention outputs by layer: means over seeds, a line a pair."""
    figure, (one,) = panels(1, 7.0, 4.2)
    for pair in dict.fromkeys(line["pair"] for line in likeness):
        mine = [line for line in likeness if line["pair"] == pair]
        layers = sorted({int(line["layer"]) for line in mine})
        means = [fmean(float(line["score"]) for line in mine if int(line["layer"]) == layer) for layer in layers]
        plain = pair == "another seed"
        one.plot(
            layers, means, "k--" if plain else ".-", label=pair if plain else f"without FFN: {pair}", linewidth=1.4
        )
    one.set_xlabel("layer")
    one.xaxis.get_major_locator().set_params(integer=True)
    one.set_ylabel("CKA with the unchanged model's attention output", fontsize=9)
    one.legend(fontsize=7)
    save(figure, file)
