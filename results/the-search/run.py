"""The front that a search finds against every fixed strategy and the exhaustive front: out of tables that are there.

    python -m results.the-search.run --measured FOLDER

Nothing is trained: `--measured` holds MiniLM's exhaustive table of STS-B (CoLA's is in results/search-cost/measured),
results/search-cost/one_shot.csv has the rows of five searches a task. Writes front.csv, verdicts.csv, front.png and the
README's part below its mark.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from importlib import import_module
from math import isnan
from pathlib import Path
from statistics import median
from typing import Any

from layersearch.pattern import Pattern
from layersearch.report.canvas import save
from layersearch.search.quality import hypervolume
from layersearch.strategies import STRATEGIES, possible, spell
from results.machine import as_table, environment, write_csv
from results.panels import panels
from results.sheet import Lines, write_readme
from results.verdicts import interval_of, verdict

compare = import_module("results.search-cost.compare")
courses = import_module("results.search-cost.courses")

HERE = Path(__file__).parent
COST = HERE.parent / "search-cost"
SHAPES = ("top", "bottom", "alternate-even", "alternate-odd", "symmetric", "every-other", "random")
LAYERS = courses.LAYERS
Points = Mapping[str, tuple[float, float]]
"""Error and share of layer parameters, by pattern."""


def of_strategy(name: str, points: Points) -> dict[str, tuple[float, float]]:
    """What a fixed strategy has at all k, and the unchanged model."""
    patterns = [str(spell(name, LAYERS, k)) for k in possible(name, LAYERS)]
    return {pattern: points[pattern] for pattern in [str(Pattern.full(LAYERS)), *patterns]}


def searched(task: str, measured: Sequence[Path]) -> tuple[Points, list[list[Any]]] | None:
    """The exhaustive points of a task and, a search each, what it returns; None where there is no table or search."""
    problem, runs = compare.table_of(task, measured), courses.read_runs(COST).get((task, "one-shot"))
    if problem is None or not runs:
        return None
    returned = [courses.returned(courses.steps_of(run, 0.0)) for run in runs]
    return problem.points, [[step for step in one if not isnan(step.unseen)] for one in returned]


def volume(points: Sequence[tuple[float, float]], constant: float) -> float:
    """Hypervolume below the error of a constant answer."""
    return float(hypervolume(points, (constant, 1.0)))


def sizes(task: str, points: Points, found: Sequence[Sequence[Any]]) -> Lines:
    """A line a number of layers: the best pattern of all, the search's (median over runs), each strategy's."""
    lines: Lines = []
    for depth in range(LAYERS, 0, -1):
        alike = {p: 100 * (1 - error) for p, (error, _) in points.items() if Pattern.parse(p).depth == depth}
        best = max(alike, key=lambda pattern: alike[pattern])
        scores = [
            max((100 * (1 - s.unseen) for s in one if Pattern.parse(s.pattern).depth == depth), default=None)
            for one in found
        ]
        there = [score for score in scores if score is not None]
        line: dict[str, Any] = {"task": task, "layers": depth, "exhaustive": f"{alike[best]:.1f} ({best})"}
        line["search"] = f"{median(there):.1f} ({len(there)} of {len(found)} runs)" if there else ""
        for name in SHAPES:
            mine = {pattern: alike[pattern] for pattern in of_strategy(name, points) if pattern in alike}
            line[name] = f"{max(mine.values()):.1f}" if mine else ""
        lines.append(line)
    return lines


def verdicts(task: str, points: Points, found: Sequence[Sequence[Any]]) -> Lines:
    """A line a rival: hypervolume over the exhaustive front's, and whether the search's is larger.

    Once as the search trained its candidates, once with what the table says of the patterns that it picked.
    """
    constant = compare.CONSTANT[task]
    whole = volume(list(points.values()), constant)
    own = [volume([(step.unseen, courses.share_of(step)) for step in one], constant) / whole for one in found]
    picked = [volume([points[step.pattern] for step in one], constant) / whole for one in found]
    lines: Lines = []
    rivals = {name: of_strategy(name, points) for name in SHAPES} | {"exhaustive, each fine-tuned": points}
    for what, ends in (("the search's front", own), ("its patterns, fine-tuned like all others", picked)):
        for name, mine in rivals.items():
            theirs = volume(list(mine.values()), constant) / whole
            apart = interval_of([end - theirs for end in ends])
            line: dict[str, Any] = {"task": task, "claim": f"{what}: better than {name}"}
            line |= {"search": f"{median(ends):.2f} ({min(ends):.2f} to {max(ends):.2f})", "rival": f"{theirs:.2f}"}
            lines.append(line | {"verdict": verdict(apart)})
    return lines


def draw(known: Mapping[str, tuple[Points, list[list[Any]]]], file: Path) -> None:
    """Score over layers: every pattern, every strategy, what each search returned; a panel a task."""
    figure, axes = panels(len(known), 5.4, 4.4)
    for one, (task, (points, found)) in zip(axes, known.items(), strict=True):
        depths = [Pattern.parse(p).depth for p in points]
        one.plot(depths, [1 - error for error, _ in points.values()], ".", color="0.75", label="every pattern")
        for name in SHAPES[:-1]:
            mine = of_strategy(name, points)
            one.plot(
                [Pattern.parse(p).depth for p in mine], [1 - e for e, _ in mine.values()], "--", label=name, linewidth=1
            )
        steps = [step for one_run in found for step in one_run]
        places = [Pattern.parse(step.pattern).depth + 0.08 for step in steps]
        one.plot(
            places, [1 - step.unseen for step in steps], "o", color="#c2571a", markersize=4, label="one-shot search"
        )
        one.set_xlabel("layers kept")
        one.set_title(f"MiniLM, {task}")
    axes[0].set_ylabel("score on the validation set")
    axes[0].legend(fontsize=7)
    save(figure, file)


def main() -> None:
    """Compare; write."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--measured", type=Path, nargs="+", default=[], help="folders with exhaustive tables")
    words.add_argument("--to", type=Path, default=HERE)
    given = words.parse_args()
    assert set(SHAPES) <= set(STRATEGIES)
    asked = {task: searched(task, [*given.measured, COST / "measured"]) for task in ("stsb", "cola")}
    known = {task: one for task, one in asked.items() if one is not None}
    front = [line for task, one in known.items() for line in sizes(task, *one)]
    judged = [line for task, one in known.items() for line in verdicts(task, *one)]
    given.to.mkdir(parents=True, exist_ok=True)
    write_csv(given.to / "front.csv", front)
    write_csv(given.to / "verdicts.csv", judged)
    draw(known, given.to / "front.png")
    parts = ["## Verdicts", as_table(judged), "## Best score of each size, in points", as_table(front)]
    parts += ["![score by layers kept](front.png)", environment("numpy")]
    write_readme(given.to, parts)
    print("\n\n".join(parts))


if __name__ == "__main__":
    main()
