"""The pictures of the experiment with mixed layers.

Knows: matplotlib, the lines of its table. Does not know: how they came about.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from layersearch.report.canvas import save
from results.panels import panels
from results.sheet import Lines

COLOURS = ("#1f5fa8", "#c2571a", "#4a7d3a")
KINDS = {"last layer": (False, COLOURS[0]), "mix": (True, COLOURS[1])}


def draw_probes(runs: Lines, tasks: Sequence[str], read: Mapping[str, tuple[str, bool]], file: Path) -> None:
    """Accuracy of the probes: a bar a mean, a dot a seed; `read` is the way, and whether with a mix, by name."""
    figure, (one,) = panels(1, 7.0, 4.0)
    width = 0.8 / len(read)
    for number, (name, (way, mix)) in enumerate(read.items()):
        for place, task in enumerate(tasks):
            rows = [row for row in runs if (row["task"], row["way"]) == (task, way) and row["score"]]
            scores = [float(row["score"]) for row in rows if row["pattern"].endswith(" mix") is mix]
            if scores:
                at = place + width * (number - (len(read) - 1) / 2)
                label = None if place else name
                one.bar([at], [fmean(scores)], width=0.94 * width, color=COLOURS[number], alpha=0.6, label=label)
                one.plot([at] * len(scores), scores, ".", color="black", markersize=4)
    one.set_xticks(range(len(tasks)), [task.removeprefix("probe ") for task in tasks])
    one.set_ylabel("accuracy of the probe")
    one.legend(fontsize=8)
    save(figure, file)


def draw_curves(runs: Lines, of: Sequence[tuple[str, str]], models: Mapping[str, str], file: Path) -> None:
    """Scores on the validation set over the share of the steps: a panel a task and way, a line a seed.

    `models` says of each way what is trained in it.
    """
    figure, axes = panels(len(of), 4.6)
    for one, (task, way) in zip(axes, of, strict=True):
        for name, (mix, colour) in KINDS.items():
            rows = [row for row in runs if (row["task"], row["way"]) == (task, way) and row["score"]]
            for number, row in enumerate(row for row in rows if row["pattern"].endswith(" mix") is mix):
                points = [tuple(map(float, part.split(":"))) for part in row["on the way"].split()]
                points.append((1.0, float(row["score"])))
                one.plot(*zip(*points, strict=True), ".-", color=colour, alpha=0.7, label=None if number else name)
        one.set_title(f"{task}, {models[way]}")
        one.set_xlabel("share of the steps")
    axes[0].set_ylabel("score on the validation set")
    axes[0].legend(fontsize=8)
    save(figure, file)
