"""What a candidate can be measured on: the list of tasks by name.

Knows: the names and who makes each task. Does not know: data, models. Loads nothing heavier than numpy.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from layersearch.errors import WordsError
from layersearch.names import unknown
from layersearch.tasks.conll import conll_task
from layersearch.tasks.demo import demo_task
from layersearch.tasks.glue import GLUE, glue_task
from layersearch.tasks.images import images_task
from layersearch.tasks.own import NAME as OWN
from layersearch.tasks.own import Columns, own_task
from layersearch.tasks.perplexity import perplexity_task
from layersearch.tasks.squad import SQUAD, squad_task
from layersearch.tasks.task import Task

TASKS: dict[str, Callable[[Path | None], Task]] = {
    **{name: partial(glue_task, name) for name in GLUE},
    "demo": demo_task,
    "images": images_task,
    "perplexity": perplexity_task,
    **{name: partial(squad_task, name) for name in SQUAD},
    "conll": conll_task,
}


def load_task(name: str, data: Path | None = None, columns: Columns | None = None) -> Task:
    """The task called `name`, its data in `data` where that is given; nothing is read yet but the labels of `own`.

    Raises WordsError for an unknown name, offering the nearest, for a folder given to a task that takes none, and for
    `columns` given to a task that knows its own.
    """
    if name == OWN:
        return own_task(data, columns)
    if name not in TASKS:
        raise WordsError(unknown("task", name, (*TASKS, OWN)))
    if columns is not None:
        raise WordsError(f"task {name} knows its own columns; leave out their names, or use --task {OWN}")
    return TASKS[name](data)
