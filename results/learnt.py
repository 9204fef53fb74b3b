"""Which tasks are learnt here: what a model that learns nothing loses with a layer tells nothing.

Knows: what one answer to everything scores, the unchanged model's scores. Does not know: papers, other patterns.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import product
from typing import Any

from layersearch.tasks.constant import constant_score
from results.asked import PLAIN, Asked, Setting
from results.known import EQUAL, known
from results.passes import Room
from results.sheet import Lines, shown
from results.verdicts import HOLDS, Difference, by_seed, cell, difference, verdict

FEWEST = 3  # seeds, from which on it is judged
_SAID = {True: "yes", False: "no", None: "cannot be told yet"}


class Learnt:
    """Whether what is asked is worth its training: not where it is unsure that the unchanged model learns the task.

    It learns a task if the 95 % interval of what its seeds are better by than a constant answer lies above nothing;
    that is judged once all `seeds` are trained, and not of fewer than FEWEST. A training that failed learnt nothing.
    """

    def __init__(self, setting: Setting, seeds: Sequence[int]) -> None:
        self.setting = setting
        self.seeds = seeds
        self._room = cache(lambda task: Room(setting, task))
        self.constant = cache(lambda task: constant_of(self._room(task)))
        self._judged: dict[str, bool] = {}

    def _lines(self, task: str) -> Lines:
        """What is known of the unchanged model, a line for each of the seeds."""
        room = self._room(task)
        lines = known(self.setting, task, PLAIN, room.made_for["question"])
        return [line for (pattern, seed), line in lines.items() if pattern == room.unchanged and seed in self.seeds]

    def _gain(self, task: str, lines: Lines) -> Difference | None:
        """What it is better by than a constant answer."""
        constant = self.constant(task)
        scores = {int(line["seed"]): constant for line in lines} | by_seed(lines)
        return difference(scores, dict.fromkeys(self.seeds, constant))

    def is_unchanged(self, one: Asked) -> bool:
        """Whether it is one of the trainings that are judged."""
        return (
            one.way == PLAIN and one.task in self.setting.scale.tasks and one.pattern == self._room(one.task).unchanged
        )

    def in_order(self, asked: Sequence[Asked]) -> list[Asked]:
        """What is asked, behind the trainings that its tasks are judged by, asked for or not."""
        first = {(one.task, one.seed): one for one in asked if self.is_unchanged(one)}
        if len(self.seeds) >= FEWEST:
            tasks = [task for task in self.setting.scale.tasks if any(one.task == task for one in asked)]
            for task, seed in product(tasks, self.seeds):
                first.setdefault((task, seed), Asked(task, self._room(task).unchanged, seed))
        return [*first.values(), *(one for one in asked if not self.is_unchanged(one))]

    def __call__(self, one: Asked) -> bool:
        """Whether `one` is worth its training."""
        return one.task not in self.setting.scale.tasks or self.is_unchanged(one) or self.learns(one.task) is not False

    def learns(self, task: str) -> bool | None:
        """Whether the unchanged model does; None as long as it cannot be told."""
        if task not in self._judged and len(self.seeds) >= FEWEST:
            gain = self._gain(task, self._lines(task))
            if gain is not None and gain.pairs == len(self.seeds):
                self._judged[task] = verdict(gain, above=EQUAL) == HOLDS
        return self._judged.get(task)

    def told(self) -> list[str]:
        """A table, a line a task that was trained: text before it, and itself."""
        lines: Lines = []
        for task in self.setting.scale.tasks:
            trained = self._lines(task)
            if not trained:
                continue
            line: dict[str, Any] = {"task": task, "constant answer": f"{100 * self.constant(task):.1f}"}
            failed = len(trained) - len(by_seed(trained))
            line["unchanged"] = cell(by_seed(trained)) + f" {failed} failed" * bool(failed)
            line["better by"] = str(self._gain(task, trained))
            lines.append({**line, "learnt": _SAID[self.learns(task)]})
        head = "Whether the unchanged model learns a task; on one that it does not, nothing else is trained:"
        return [head, shown(lines)] if lines else []


def constant_of(room: Room) -> float:
    """What the best constant answer scores on the validation set."""
    return constant_score(room.prepared.task, room.encoded("validation")) or 0.0
