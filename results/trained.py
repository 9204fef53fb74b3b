"""What is said of trainings whatever the paper: how many there are, a table of strategies, a line a claim.

Knows: the lines of runs.csv, patterns by strategy. Does not know: how they came about, what a paper claims.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from typing import Any

from results.sheet import Lines
from results.verdicts import Difference, by_seed, cell

Named = Mapping[tuple[str, int], str]
"""Patterns by strategy and k."""


def tasks_in(runs: Lines, tasks: Sequence[str]) -> list[str]:
    """Those of which more is trained than one pattern, so that something can be compared."""
    return [task for task in tasks if len({row["pattern"] for row in runs if row["task"] == task}) > 1]


def counted(runs: Lines, asked: Sized) -> str:
    """How many of the trainings are there, and which failed and why."""
    failed = [f"{row['task']} {row['pattern']} seed {row['seed']}: {row['reason']}" for row in runs if not row["score"]]
    there = f"{len(runs)} of {len(asked)} trainings are in the table; {len(failed)} failed. {'; '.join(failed)}"
    return there.strip()


def strategy_table(runs: Lines, named: Named, tasks: Sequence[str]) -> Lines:
    """A line a strategy and k: pattern, parameters, a column a task (points, mean and deviation over seeds)."""
    lines: Lines = []
    for (name, k), pattern in named.items():
        rows = [row for row in runs if row["pattern"] == pattern]
        if rows:
            line: dict[str, Any] = {"strategy": name, "k": k, "pattern": pattern, "layers": rows[0]["layers"]}
            line["parameters"] = next((row["parameters"] for row in rows if row["parameters"]), "")
            lines.append(line | {task: cell(by_seed(runs, task=task, pattern=pattern, way="plain")) for task in tasks})
    return lines


def claim_lines(tasks: Sequence[str], of_task: Callable[[str], Iterable[tuple[str, Difference | None, str]]]) -> Lines:
    """A line a claim and task that was run, with the difference it turns on and what is to be said of it."""
    return [
        {"claim": claim, "task": task, "in points": str(apart), "verdict": said}
        for task in tasks
        for claim, apart, said in of_task(task)
        if apart is not None
    ]
