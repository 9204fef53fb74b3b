"""The pictures of Sajjad's experiment.

Knows: matplotlib, the lines of its tables. Does not know: how they came about.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import nan
from pathlib import Path
from statistics import fmean
from typing import Any

from layersearch.report.canvas import save
from results.panels import panels
from results.sheet import Lines
from results.trained import Named
from results.verdicts import by_seed

COLOURS = {
    "top": "#1f5fa8",
    "bottom": "#c2571a",
    "alternate-even": "#2f8f5b",
    "alternate-odd": "#8a4fb0",
    "symmetric": "#b08a1f",
    "contribution": "#777777",
}


def draw_strategies(runs: Lines, named: Named, tasks: Sequence[str], published: Lines, file: Path) -> None:
    """Score over the share of layers dropped: a panel a task, and one for each published model, apart.

    A line begins at the unchanged model and breaks where a number of layers has no score.
    """
    models = list(dict.fromkeys(line["model"] for line in published))
    figure, axes = panels(len(tasks) + len(models), 3.6, 4.2, across=max(len(tasks), len(models)))
    layers = max(k for name, k in named if name == "top") + 1
    for one, task in zip(axes, tasks, strict=False):
        points = {key: by_seed(runs, task=task, pattern=p, way="plain") for key, p in named.items()}
        _draw_lines(one, {key: [100 * s for s in scores.values()] for key, scores in points.items()}, layers, "-")
        one.set_title(f"here: {task}")
    for one, model in zip(axes[len(tasks) :], models, strict=True):
        mine = [line for line in published if line["model"] == model]
        found = {(line["strategy"], int(line["k"])): [float(line["average"])] for line in mine}
        ks = {k for _, k in found if k}
        missing: dict[tuple[str, int], list[float]] = {(name, k): [] for name in COLOURS for k in ks}
        _draw_lines(one, missing | found, int(mine[0]["layers"]), "--")
        one.set_title(f"published: {model}, mean of 7")
        one.set_facecolor("#f4f1ea")
    for one in axes:
        one.set_xlabel("share of layers dropped")
        one.set_xlim(left=-0.03)
        if one.get_subplotspec().is_first_col():
            one.set_ylabel("score, in points")
    lines, names = axes[0].get_legend_handles_labels()
    figure.legend(lines, names, fontsize=8, loc="outside lower center", ncols=len(names))
    save(figure, file)


def _draw_lines(one: Any, scores: Mapping[tuple[str, int], Sequence[float]], layers: int, style: str) -> None:
    """A line a strategy through the means of `scores` (by strategy and k), with a dot each."""
    whole = scores["unchanged", 0]
    for name, colour in COLOURS.items():
        points = {0: whole} | {k: scores[its, k] for its, k in sorted(scores) if its == name}
        means = [fmean(values) if values else nan for values in points.values()]
        one.plot([k / layers for k in points], means, style, color=colour, label=name, linewidth=1.4)
        for k, values in points.items():
            one.plot([k / layers] * len(values), values, ".", color=colour, markersize=5, alpha=0.6)
    one.plot([0.0] * len(whole), whole, "o", color="black", markersize=4, label="unchanged model", zorder=3)


def draw_depths(probed: Lines, alike: Lines, file: Path) -> None:
    """What a probe reads off each layer, and how like the pre-trained model's each layer still is; a line a seed."""
    figure, (left, right) = panels(2)
    for lines, one, value in ((probed, left, "score"), (alike, right, "cosine")):
        for seed in dict.fromkeys(line["seed"] for line in lines):
            mine = [line for line in lines if line["seed"] == seed]
            depths = [int(line["depth"]) for line in mine]
            one.plot(depths, [float(line[value]) for line in mine], ".-", label=f"seed {seed}")
        one.set_xlabel("after so many layers")
    left.set_ylabel(f"probe's score, {probed[0]['task']}")
    right.set_ylabel("cosine to the pre-trained model's first token")
    left.legend(fontsize=8)
    save(figure, file)
