"""The pictures of Sajjad's experiment.

Knows: matplotlib, the lines of its tables. Does not know: how they came about.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from layersearch.report.canvas import save
from results.panels import panels
from results.sheet import Lines
from results.verdicts import by_seed

COLOURS = {
    "top": "#1f5fa8",
    "bottom": "#c2571a",
    "alternate-even": "#2f8f5b",
    "alternate-odd": "#8a4fb0",
    "symmetric": "#b08a1f",
    "contribution": "#777777",
}


def draw_strategies(
    runs: Lines, named: Mapping[tuple[str, int], str], tasks: Sequence[str], published: Lines, file: Path
) -> None:
    """Score over the share of layers dropped: a panel a task, and one for each published model, apart."""
    models = list(dict.fromkeys(line["model"] for line in published))
    figure, axes = panels(len(tasks) + len(models), 3.6)
    layers = max(k for name, k in named if name == "top") + 1
    for one, task in zip(axes, tasks, strict=False):
        _draw_task(one, runs, named, task, layers)
        one.set_title(f"here: {task}")
    for one, model in zip(axes[len(tasks) :], models, strict=True):
        mine = [line for line in published if line["model"] == model]
        whole = next(float(line["average"]) for line in mine if line["strategy"] == "unchanged")
        for name, colour in COLOURS.items():
            points = [line for line in mine if line["strategy"] == name]
            shares = [0.0, *(int(line["k"]) / int(line["layers"]) for line in points)]
            one.plot(shares, [whole, *(float(line["average"]) for line in points)], ".--", color=colour)
        one.set_title(f"published: {model}, mean of 7")
        one.set_facecolor("#f4f1ea")
    for one in axes:
        one.set_xlabel("share of layers dropped")
    axes[0].set_ylabel("score, in points")
    axes[0].legend(fontsize=7)
    save(figure, file)


def _draw_task(one: Any, runs: Lines, named: Mapping[tuple[str, int], str], task: str, layers: int) -> None:
    whole = by_seed(runs, task=task, pattern=named["unchanged", 0], way="plain")
    for name, colour in COLOURS.items():
        shares, means = [0.0] * bool(whole), [100 * fmean(whole.values())] if whole else []
        for (_, k), pattern in ((key, pattern) for key, pattern in named.items() if key[0] == name):
            scores = by_seed(runs, task=task, pattern=pattern, way="plain")
            points = [100 * score for score in scores.values()]
            if points:
                shares.append(k / layers)
                means.append(fmean(points))
                one.plot([k / layers] * len(points), points, ".", color=colour, markersize=4, alpha=0.6)
        one.plot(shares, means, "-", color=colour, label=name, linewidth=1.4)


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
