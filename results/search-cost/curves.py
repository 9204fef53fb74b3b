"""The figures: hypervolume over training work and over time, and what samplers leave out after so many candidates.

Knows: curves of methods, quartiles of samplers. Does not know: where they come from.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from statistics import quantiles
from typing import Any

import numpy as np

from .courses import Method
from .volumes import at_costs

COLOURS = ("#1f5fa8", "#2e8b57", "0.45", "#7b4ea3", "black", "#8a6d3b", "#c2571a", "#d4a017", "#b03060", "#008b8b")
AXES = (
    ("works", 1.0, "training work, in fine-tunings of the unchanged model"),
    ("seconds", 60.0, "minutes of one processor, at the measured rates"),
)


def draw(methods: Sequence[Method], file: Path) -> None:
    """A row a task: medians, and quartiles as bands of the methods that were run; replayed ones are dashed."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    tasks = list(dict.fromkeys(method.task for method in methods))
    names = list(dict.fromkeys(method.name for method in methods))
    figure, panels = pyplot.subplots(
        len(tasks), 2, figsize=(12, 4.8 * len(tasks)), dpi=150, layout="constrained", squeeze=False
    )
    for row, task in zip(panels, tasks, strict=True):
        for axes, (axis, unit, label) in zip(row, AXES, strict=True):
            for method in (m for m in methods if m.task == task):
                _draw_one(axes, method, axis, unit, COLOURS[names.index(method.name) % len(COLOURS)])
            axes.axhline(1.0, color="0.8", linewidth=0.8, zorder=0)
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axes.set_xlabel(label)
            axes.set_ylim(bottom=0)
            axes.grid(alpha=0.25)
            axes.spines[["top", "right"]].set_visible(False)
        row[0].set_ylabel("hypervolume over the exhaustive front's")
        row[0].set_title(f"MiniLM, {task}", fontsize=10, loc="left")
        row[1].legend(frameon=False, fontsize=8)
    figure.savefig(file)


def _draw_one(axes: Any, method: Method, axis: str, unit: float, colour: str) -> None:
    """One method in one panel, from where the first run starts to where the last one ends."""
    ends = [getattr(curve, axis) for curve in method.curves]
    costs = np.geomspace(max(min(costs[0] for costs in ends), 1e-3), max(costs[-1] for costs in ends), 300)
    found = np.array([at_costs(getattr(curve, axis), curve.volumes, costs * (1 + 1e-9)) for curve in method.curves])
    style = "--" if method.replayed else "-"
    axes.plot(
        costs / unit,
        np.median(found, axis=0),
        style,
        color=colour,
        label=method.name,
        linewidth=1.2 if method.replayed else 2.4,
    )
    if not method.replayed and len(found) > 1:
        low, _, high = zip(*(quantiles(column, n=4, method="inclusive") for column in found.T), strict=True)
        axes.fill_between(costs / unit, low, high, color=colour, alpha=0.2, linewidth=0)


DRAWN = (
    ("PatternSampler", "mixed", "PatternSampler", "#c2571a", "-"),
    ("GP", "mixed", "Optuna's GP", "#7b4ea3", "-"),
    ("TPE, multivariate", "mixed", "TPE", "#1f5fa8", "-"),
    ("NSGA-II, population 10", "mixed", "NSGA-II", "#2e8b57", "-"),
    ("random", "mixed", "random", "0.45", "-"),
    ("best fixed strategy", "", "best fixed strategy", "black", ":"),
    ("greedy", "", "greedy (GLP)", "black", "--"),
)


def draw_samplers(records: Sequence[Mapping[str, Any]], models: Collection[str], file: Path) -> None:
    """Regret over evaluations, a panel a model; bands are quartiles of the first and of the random sampler."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(models), figsize=(11, 4.6), dpi=150, layout="constrained", sharey=True)
    for axes, model in zip(panels, models, strict=True):
        for sampler, named, label, colour, style in DRAWN:
            line = [r for r in records if (r["model"], r["sampler"], r["named"]) == (model, sampler, named)]
            line = [r for r in line if r["reference"] == "worst"]
            at = [r["evaluations"] for r in line]
            axes.plot(at, [r["median"] for r in line], style, color=colour, label=label, linewidth=1.8)
            if label in ("PatternSampler", "random"):
                edges = ([r["quarter"] for r in line], [r["three_quarters"] for r in line])
                axes.fill_between(at, *edges, color=colour, alpha=0.15, linewidth=0)
        axes.set_title(model, fontsize=10)
        axes.set_xlabel("candidates evaluated")
        axes.set_xticks([record["evaluations"] for record in records[:5]])
        axes.set_ylim(0, 0.85)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("part of the exhaustive front's hypervolume not found")
    panels[0].legend(frameon=False, fontsize=9)
    figure.savefig(file)
