"""Which tasks are learnt here: what a model that learns nothing loses with a layer tells nothing.

Knows: what one answer to everything scores, the unchanged model's scores. Does not know: papers, other patterns.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from layersearch.tasks.constant import constant_score
from results.asked import PLAIN, Asked, Setting
from results.known import known
from results.passes import Room
from results.sheet import Lines, shown
from results.verdicts import HOLDS, Difference, by_seed, cell, difference, verdict

FEWEST = 3  # seeds, from which on it is judged


class Learnt:
    """Whether what is asked is worth its training: not on a task that the unchanged model learns with no confidence.

    It learns a task if the 95 % interval of what its seeds are better by than a constant answer lies above nothing;
    that is judged once all `seeds` are trained, and not of fewer than FEWEST.
    """

    def __init__(self, setting: Setting, seeds: Sequence[int]) -> None:
        self.setting = setting
        self.seeds = seeds
        self._room = cache(lambda task: Room(setting, task))
        self.constant = cache(lambda task: constant_of(self._room(task)))
        self._idle: dict[str, bool] = {}

    def scores(self, task: str) -> dict[int, float]:
        """The unchanged model's, by seed."""
        room = self._room(task)
        lines = known(self.setting, task, PLAIN, room.made_for["question"])
        return by_seed((line for (pattern, _), line in lines.items() if pattern == room.unchanged))

    def gain(self, task: str) -> Difference | None:
        """What it is better by than a constant answer."""
        scores = {seed: score for seed, score in self.scores(task).items() if seed in self.seeds}
        return difference(scores, dict.fromkeys(scores, self.constant(task)))

    def is_unchanged(self, one: Asked) -> bool:
        """Whether it is one of the trainings that are judged."""
        return (
            one.way == PLAIN and one.task in self.setting.scale.tasks and one.pattern == self._room(one.task).unchanged
        )

    def in_order(self, asked: Iterable[Asked]) -> list[Asked]:
        """What is asked, the trainings that are judged first."""
        return sorted(asked, key=lambda one: not self.is_unchanged(one))

    def __call__(self, one: Asked) -> bool:
        """Whether `one` is worth its training."""
        return one.task not in self.setting.scale.tasks or self.is_unchanged(one) or not self._is_idle(one.task)

    def _is_idle(self, task: str) -> bool:
        if task not in self._idle:
            gain = self.gain(task)
            if len(self.seeds) < FEWEST or gain is None or gain.pairs < len(self.seeds):
                return False  # it may be yet
            self._idle[task] = verdict(gain) != HOLDS
        return self._idle[task]

    def told(self) -> list[str]:
        """A table, a line a task that was trained: text before it, and itself."""
        lines: Lines = []
        for task in self.setting.scale.tasks:
            line: dict[str, Any] = {"task": task, "constant answer": f"{100 * self.constant(task):.1f}"}
            line |= {"unchanged": cell(self.scores(task)), "better by": str(self.gain(task) or "")}
            if line["unchanged"]:
                lines.append({**line, "learnt": "no" if self._is_idle(task) else "yes"})
        head = "Whether the unchanged model learns a task; on one that it does not, nothing else is trained:"
        return [head, shown(lines)] if lines else []


def constant_of(room: Room) -> float:
    """What the best constant answer scores on the validation set."""
    return constant_score(room.prepared.task, room.encoded("validation")) or 0.0
