"""The pictures of the experiment with duplicated layers.

Knows: matplotlib, the lines of its tables. Does not know: how they came about.
"""

from __future__ import annotations

from pathlib import Path
from statistics import fmean

from layersearch.report.canvas import save
from results.panels import panels
from results.sheet import Lines

EDITS = {"removed": "#c2571a", "repeated 1": "#1f5fa8", "repeated 2": "#8a4fb0"}


def draw_agreement(agreed: Lines, last: Lines, file: Path) -> None:
    """By layer: how far answers of the fine-tuned, and last states of the pre-trained model stay what they were."""
    figure, (left, right) = panels(2, 4.6)
    for lines, one, value in ((agreed, left, "agreement"), (last, right, "cosine")):
        for edit, colour in EDITS.items():
            mine = [line for line in lines if line["edit"].startswith(edit)]
            layers = sorted({int(line["edit"].split()[-1]) for line in mine})
            of = {n: [float(line[value]) for line in mine if line["edit"] == f"{edit} {n}"] for n in layers}
            one.plot(layers, [fmean(values) for values in of.values()], "-", color=colour, label=edit)
            for layer, values in of.items():
                one.plot([layer] * len(values), values, ".", color=colour, markersize=4)
        one.axhline(0.9, color="0.5", linestyle=":", linewidth=1)
        one.set_xlabel("layer")
        one.xaxis.get_major_locator().set_params(integer=True)
    left.set_ylabel("agreement of answers, fine-tuned model")
    right.set_ylabel("cosine of last states, pre-trained model")
    right.legend(fontsize=8)
    save(figure, file)


def draw_deepened(gains: Lines, file: Path) -> None:
    """What each deepened model and control is better by than the unchanged one: a dot a seed, a bar at the mean."""
    tasks = list(dict.fromkeys(line["task"] for line in gains))
    figure, axes = panels(max(1, len(tasks)), 5.2, 4.8)
    for one, task in zip(axes, tasks, strict=False):
        mine = [line for line in gains if line["task"] == task]
        names = list(dict.fromkeys(line["model"] for line in mine))
        for place, name in enumerate(reversed(names)):
            values = [line["gain"] for line in mine if line["model"] == name]
            colour = "#1f5fa8" if name.startswith(("own", "tied")) else "#777777"
            one.plot(values, [place] * len(values), "o", color=colour, markersize=4, alpha=0.7)
            one.plot([fmean(values)] * 2, [place - 0.3, place + 0.3], "-", color=colour, linewidth=2)
        one.set_yticks(range(len(names)), list(reversed(names)), fontsize=7)
        one.axvline(0, color="0.4", linestyle="--", linewidth=1)
        one.set_xlabel("points over the unchanged model")
        one.set_title(task)
    save(figure, file)
