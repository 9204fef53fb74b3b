"""What the strategies that are measured on a model spell: measured once before a search, and kept in its study.

Knows: how to load what is measured and on which examples, and how a study writes the patterns down. Does not know: what
is measured (`analysis/similarity.py`), the rules (`measured.py`), how a study is opened.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from layersearch.counts import count
from layersearch.errors import ModelError
from layersearch.measured import Measured, spell_measured
from layersearch.pattern import Pattern
from layersearch.search.question import EXAMPLES, How, Part, Prepared, Question, check_space, resolve_device

if TYPE_CHECKING:
    from layersearch.search.storage import Say

Stored = Mapping[str, Sequence[str]]


def measure(
    prepared: Prepared,
    device: str,
    *,
    part: Part = "train",
    number: int = EXAMPLES,
    on: Path | None = None,
    say: Say | None = None,
) -> Measured:
    """Measure the question's model, or the fine-tuned one in the folder `on`, over `number` examples of `part`.

    They are drawn with the recipe's seed, all where there are fewer; how many they are is told to `say`. Raises
    ModelError for a folder that holds a model of another depth.
    """
    import numpy as np

    from layersearch.analysis.similarity import similarity
    from layersearch.models.base import load_base, load_reader

    task, recipe = prepared.task, prepared.what.recipe
    folder = on or prepared.what.measured_on or prepared.folder
    base = load_base(folder, num_labels=task.num_labels, kind=task.kind)
    if base.num_layers != prepared.num_layers:
        raise ModelError(
            f"{folder} has {count(base.num_layers, 'layer')} and the model of the search {prepared.num_layers}; "
            "measure on the same model, fine-tuned"
        )
    examples = getattr(prepared.splits, part)
    chosen = np.sort(np.random.default_rng(recipe.seed).permutation(len(examples))[:number])
    if say is not None:
        say(f"measuring the model on {count(len(chosen), 'example')} of the part {part}")
    reader = load_reader(prepared.folder, task.kind)
    encoded = task.encode(examples.take(chosen), reader, recipe.max_length)
    base.model.to(resolve_device(device))  # type: ignore[arg-type]
    return similarity(base.model, encoded)


def stored_of(question: Question, device: str, say: Say, stored: Stored = MappingProxyType({})) -> Stored:
    """What the measured strategies of the question's space spell, as a study keeps it.

    Measured now, unless the study's `stored` holds it.
    """
    names = question.space.unmeasured
    if set(names) <= set(stored):
        return stored
    if not isinstance(question, Prepared):
        say(f"left out, because they are measured on a model and a table has none: {', '.join(names)}")
        return dict.fromkeys(names, ())
    say(f"measuring the model for {', '.join(names)}")
    found = spell_measured(measure(question, device))
    return {name: [str(pattern) for pattern in found[name]] for name in names}


def spelled(prepared: Prepared, how: How, say: Say, *, stored: bool = True) -> Prepared:
    """`prepared` with a space that knows what its measured strategies spell, and judged with it.

    What is `stored` with the study holds, if it is there. Raises SpaceError and LayersearchError like `check_space`.
    """
    if not prepared.space.unmeasured:
        return prepared
    from layersearch.search.found import noted

    known = noted(how.storage, how.name, say).get("spelled", {}) if stored else {}
    told = knowing(prepared, stored_of(prepared, how.device, say, known))
    found = replace(prepared, space=told.space)
    check_space(found.what, found.space, found.costs, found.task, found.model_type)
    return found


def knowing(question: Question, stored: Stored) -> Question:
    """The question with a space that knows what measured strategies spell. Raises SpaceError if that leaves nothing."""
    if not question.space.unmeasured:
        return question
    space = question.space.knowing({name: [*map(Pattern.parse, texts)] for name, texts in stored.items()})
    space.check(question.num_layers)
    known: Any = question  # one of two frozen dataclasses
    told: Question = replace(known, space=space)
    return told
