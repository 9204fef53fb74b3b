"""Does the importance fitted from a table's scores say what the table itself says elsewhere?

Knows: the tables of known scores under shared/data, baselines without a fit, made-up worlds with known effects. Does
not know: studies on a disk, training. Run from the repository: `python -m results.importance.run --data FOLDER`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from scipy.stats import spearmanr, t

from layersearch.analysis.effects import Effects, effects_of
from layersearch.analysis.importance import importance_of
from layersearch.analysis.ridge import Floats
from layersearch.pattern import Pattern
from layersearch.report.canvas import new_axes, save
from layersearch.report.importance_map import draw_importance
from layersearch.search.purpose import Purpose
from layersearch.search.record import Record
from layersearch.search.scores import Table, read_table
from layersearch.search.trials import Row
from results.machine import as_table, environment, write_csv

HERE = Path(__file__).parent
MARK = "<!-- from here written by run.py -->"
TASKS = ("cola", "mnli", "mrpc", "qnli", "rte", "sst2", "stsb", "wnli")
SPLITS = 50
WORLDS = 100
LAYERS = 12


def rank(one: Floats, other: Floats) -> float:
    """Spearman's rank correlation, 0 where one side is constant."""
    return float(spearmanr(one, other).statistic) if np.ptp(one) and np.ptp(other) else 0.0


def error(values: Floats, told: Floats) -> float:
    """Mean absolute error."""
    return float(np.abs(values - told).mean())


def off_level(values: Floats) -> Floats:
    return values - values.mean()


def without(*layers: int) -> Pattern:
    """BERT without these layers."""
    return Pattern.of_layers([layer for layer in range(LAYERS) if layer not in layers])


def singles_from_pairs(table: Table, task: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Fit the 66 removals of two layers, and tell the 12 removals of one."""
    known = {Pattern.parse(text): found.score for text, found in table.known.items()}
    pairs = {pattern: score for pattern, score in known.items() if pattern.depth == LAYERS - 2}
    real = np.array([known[without(layer)] for layer in range(LAYERS)])
    effects = effects_of(list(pairs), list(pairs.values()), LAYERS)
    told = effects.predict([without(layer) for layer in range(LAYERS)])[0]
    shares = [
        np.mean([score for pattern, score in pairs.items() if layer in pattern.dropped(LAYERS)])
        for layer in range(LAYERS)
    ]
    additive = off_level(np.array(shares)) * (LAYERS - 1) / (LAYERS - 2)  # least squares of score = sum of two layers
    rho, chance = spearmanr(told, real, alternative="greater")
    found = importance_of(record_of(task, pairs, "maximize"))
    line = {
        "task": task,
        "rank correlation": f"{rho:.2f}",
        "p (one-sided)": f"{chance:.3f}",
        "additive": f"{rank(additive, real):.2f}",
        "error": f"{error(off_level(real), off_level(told)):.4f}",
        "additive's": f"{error(off_level(real), additive):.4f}",
        "mean's": f"{error(real, np.full(LAYERS, real.mean())):.4f}",
        "level off by": f"{told.mean() - real.mean():+.4f}",
        "pairs left out: rho, R2": f"{found.quality.rho:.2f}, {found.quality.r2:.2f}",
        "`importance` speaks": "yes" if found.quality.is_enough else "silent",
        "recovered": "yes" if chance < 0.05 else "no",
    }
    layers = [
        {
            "task": task,
            "dropped": layer,
            "score": real[layer],
            "told": round(told[layer], 5),
            "additive": round(additive[layer], 5),
        }
        for layer in range(LAYERS)
    ]
    return line, layers


def quantile(effects: Effects) -> float:
    """Standard deviations on either side in a 95 % interval."""
    return float(t.ppf(0.975, len(effects.scores) - 1))


def record_of(name: str, known: dict[Pattern, float], direction: Any) -> Record:
    """A study of these scores."""
    rows = [Row(n, "COMPLETE", str(pattern), 0, score=score) for n, (pattern, score) in enumerate(known.items())]
    layers = 1 + max(block.layer for pattern in known for block in pattern.blocks)
    return Record(name, Purpose({}, "score", direction), {"num_layers": layers, "parameters": 1}, tuple(rows), {})


def halves_of(known: dict[Pattern, float], seed: int) -> dict[str, Any]:
    """Fit a random half of the patterns, and tell the others; beside least squares of layers, of size, and the mean."""
    order = np.random.default_rng(seed).permutation(len(known))
    here, there = order[: (len(known) + 1) // 2], order[(len(known) + 1) // 2 :]
    patterns, scores = list(known), np.array(list(known.values()))
    layers = 1 + max(block.layer for pattern in patterns for block in pattern.blocks)
    effects = effects_of([patterns[n] for n in here], scores[here], layers)
    told, deviation = effects.predict([patterns[n] for n in there])
    real = scores[there]
    dropped = np.array(
        [[layer in pattern.dropped(layers) for layer in range(layers)] for pattern in patterns], dtype=float
    )
    size = dropped.sum(axis=1, keepdims=True)
    ways = {
        "importance": told,
        "additive": least_squares(dropped, scores, here, there),
        "size and its square": least_squares(np.hstack([size, size**2]), scores, here, there),
        "mean": np.full(len(there), scores[here].mean()),
    }
    spread = np.square(real - scores[here].mean()).sum()
    line: dict[str, Any] = {
        "split": seed,
        "covered": float((np.abs(told - real) < quantile(effects) * deviation).mean()),
    }
    for name, way in ways.items():
        line |= {f"{name} rho": rank(way, real), f"{name} R2": float(1 - np.square(way - real).sum() / spread)}
        line[f"{name} error"] = error(way, real)
    return line


def least_squares(columns: Floats, scores: Floats, here: Any, there: Any) -> Floats:
    """Ordinary regression with an intercept, fitted `here` and told `there`."""
    whole = np.hstack([np.ones((len(columns), 1)), columns])
    return np.asarray(whole[there] @ np.linalg.lstsq(whole[here], scores[here], rcond=None)[0])


World = Callable[[Floats], Floats]


def world(kind: str, rng: np.random.Generator) -> World:
    """A true score of what is dropped [n, layers]: layers by themselves, with pairs, or as a cliff of these."""
    costs, pairs = rng.normal(0.02, 0.015, LAYERS), np.zeros((LAYERS, LAYERS))
    if kind == "pairs":
        pairs = np.triu(rng.normal(0, 0.008, (LAYERS, LAYERS)), 1)
    if kind == "all alike":
        costs = np.full(LAYERS, 0.02)

    def straight(dropped: Floats) -> Floats:
        return np.asarray(0.9 - dropped @ costs - ((dropped @ pairs) * dropped).sum(axis=1))

    if kind == "cliff":
        return lambda dropped: 0.2 + 0.65 / (1 + np.exp(-(straight(dropped) - 0.72) / 0.03))
    return straight


def coverage(kind: str, number: int, noise: float) -> dict[str, Any]:
    """How often intervals hold the true average effect, over WORLDS made-up studies."""
    held = asked = silent = 0
    for seed in range(WORLDS):
        rng = np.random.default_rng(seed)
        true = world(kind, rng)
        drawn = rng.random((number, LAYERS)) < 0.7 * rng.random((number, 1))
        dropped = np.unique(np.vstack([np.zeros(LAYERS, dtype=bool), drawn[~drawn.all(axis=1)]]), axis=0).astype(float)
        patterns = [without(*np.flatnonzero(row)) for row in dropped]
        scores = true(dropped) + rng.normal(0, noise, len(dropped))
        found = importance_of(record_of("made up", dict(zip(patterns, scores.tolist(), strict=True)), "maximize"))
        silent += not found.quality.is_enough
        for part, estimate in found.costs.items():
            with_it, without_it = dropped.copy(), dropped.copy()
            with_it[:, part.layer], without_it[:, part.layer] = 0, 1
            held += estimate.low <= (true(with_it) - true(without_it)).mean() <= estimate.high
            asked += 1
    share = f"{held / asked:.3f}" if asked else ""
    return {
        "world": kind,
        "patterns": number,
        "noise": noise,
        "95 % intervals hold": share,
        "silent": f"{silent} of {WORLDS}",
    }


def draw_singles(layers: list[dict[str, Any]], file: Path) -> None:
    """Told over real scores, each task's level taken off."""
    figure, axes = new_axes(height=4.6)
    for task in TASKS[:-1]:
        mine = [line for line in layers if line["task"] == task]
        real, told = (off_level(np.array([line[key] for line in mine])) for key in ("score", "told"))
        axes.plot(real, told, "o", markersize=4, label=task)
    axes.axline((0, 0), slope=1, color="0.35", linestyle="--", linewidth=1)
    axes.set_xlabel("score without one layer, less the task's mean")
    axes.set_ylabel("told from the removals of two")
    axes.legend(fontsize=8)
    save(figure, file)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True, help="folder that holds published/ and measured/")
    data = parser.parse_args().data
    lines, layers, map_of = [], [], []
    for task in TASKS:
        where = {"task": task, "search": "exhaustive"}
        table = read_table(data / "published" / "layer_subsets_bert.csv", "score", where)
        line, mine = singles_from_pairs(table, task)
        lines.append(line)
        layers += mine
        every = {Pattern.parse(text): found.score for text, found in table.known.items()}
        map_of.append((f"BERT {task}", importance_of(record_of(task, every, "maximize"))))
    table = read_table(data / "measured" / "minilm_l6_stsb_subsets.csv", "spearman_epoch2")
    measured = {Pattern.parse(text): found.score for text, found in table.known.items()}
    map_of.append(("MiniLM stsb", importance_of(record_of("stsb", measured, "maximize"))))
    splits = [halves_of(measured, seed) for seed in range(SPLITS)]
    covered = [
        coverage(kind, *size)
        for kind in ("layers", "all alike", "pairs", "cliff")
        for size in ((20, 0.01), (40, 0.01), (200, 0.01), (40, 0.03))
    ]
    for name, records in (("tasks", lines), ("singles", layers), ("splits", splits), ("coverage", covered)):
        write_csv(HERE / f"{name}.csv", records)
    draw_singles(layers, HERE / "singles.png")
    draw_importance(map_of, HERE / "map.png")
    parts = [
        "## Single removals told from pairs", as_table(lines),
        "## MiniLM-L6 on STS-B: half of the 63 subsets tells the other half", as_table(of_splits(splits)),
        "## Do 95 % intervals hold?", as_table(covered), environment("numpy", "scipy", "scikit-learn"),
    ]  # fmt: skip
    readme = HERE / "README.md"
    readme.write_text(readme.read_text().partition(MARK)[0] + MARK + "\n\n" + "\n\n".join(parts) + "\n")


def of_splits(splits: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Medians and quartiles over the splits."""
    found = []
    for way in ("importance", "additive", "size and its square", "mean"):
        line = {"told by": way}
        for what in ("rho", "R2", "error"):
            values = [split[f"{way} {what}"] for split in splits]
            low, high = np.quantile(values, [0.25, 0.75])
            line[what] = f"{median(values):.3f} ({low:.3f} to {high:.3f})"
        covered = np.mean([split["covered"] for split in splits])
        found.append({**line, "in 95 % interval": f"{covered:.0%}" if way == "importance" else ""})
    return found


if __name__ == "__main__":
    main()
