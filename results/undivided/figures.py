"""The pictures of the experiment with FFN halves.

Knows: matplotlib, the lines of its tables. Does not know: how they came about.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from layersearch.report.canvas import save
from results.panels import panels
from results.sheet import Lines
from results.verdicts import by_seed

KINDS = {"FFN halves": ("ffn-only", "#1f5fa8", "o"), "whole layers": ("", "#c2571a", "s")}


def draw_equal(runs: Lines, named: Mapping[tuple[str, int], str], tasks: Sequence[str], file: Path) -> None:
    """Score over parameters: what loses FFN halves beside what loses whole layers; a bar from worst to best seed."""
    figure, axes = panels(max(1, len(tasks)), 4.6)
    for one, task in zip(axes, tasks, strict=False):
        whole = by_seed(runs, task=task, pattern=named["unchanged", 0])
        if whole:
            one.axhline(fmean(whole.values()), color="0.4", linestyle="--", linewidth=1, label="unchanged")
        for kind, (start, colour, mark) in KINDS.items():
            first = True
            for (name, k), pattern in named.items():
                mine = name.startswith("ffn-only") if start else not name.startswith(("ffn-only", "unchanged"))
                scores = by_seed(runs, task=task, pattern=pattern)
                if not mine or not scores:
                    continue
                parameters = next(int(row["parameters"]) for row in runs if row["pattern"] == pattern) / 1e6
                low, mean, high = min(scores.values()), fmean(scores.values()), max(scores.values())
                spread = [[mean - low], [high - mean]]
                one.errorbar(
                    [parameters], [mean], yerr=spread, fmt=mark, color=colour, label=kind if first else None, capsize=2
                )
                one.annotate(f"{name} {k}", (parameters, mean), fontsize=5, xytext=(4, 2), textcoords="offset points")
                first = False
        one.set_title(task)
        one.set_xlabel("million parameters")
    axes[0].set_ylabel("score on the validation set")
    axes[0].legend(fontsize=7)
    save(figure, file)


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
