"""The parts that a question names, looked up: of the model no more is read than its configuration.

Knows: where models, tasks and spaces come from, what goes together, what the study's purpose holds. Does not know:
studies, workers, training.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from layersearch.errors import WordsError
from layersearch.models.families import FAMILIES
from layersearch.names import unknown
from layersearch.search.objectives import DEFAULT, SCORE, Costs, stored
from layersearch.search.question import Method, Prepared, What, check_space
from layersearch.training.recipe import START_WEIGHTS, TEACH, Halving, OneShotRecipe, frozen

if TYPE_CHECKING:
    from layersearch.search.purpose import Purpose
    from layersearch.search_space import SearchSpace
    from layersearch.tasks.own import Columns
    from layersearch.tasks.task import Task


def prepare(what: What, space: SearchSpace | None = None, *, weights: bool = True) -> Prepared:
    """Look everything up that `what` names, cheapest first; raises the error that belongs to what is wrong.

    `space` stands in for the one that `what` names, for those who have it already. Without `weights` the model's folder
    need hold no more than config.json, unless the space names strategies that are measured on it. What these spell and
    costs that are measured are not known yet (`search/spelling.py`, `search/measured_costs.py`).
    """
    _check_words(what)
    from layersearch import hub
    from layersearch.space_files import load as load_space
    from layersearch.tasks import load_task

    space = space or load_space(what.space)
    task = load_task(what.task, what.data, what.columns)
    folder, revision = hub.local_model(what.model, what.revision, weights=weights or bool(space.unmeasured))
    _check_sampler(what)
    splits = task.splits(what.holdout, what.recipe.seed)
    # what is wrong so far is said before the seconds that the libraries behind these take
    from layersearch.models.counted import counted
    from layersearch.stacked_space import StackedSpace

    _check_mix(what, space)
    about = (task.num_labels, task.kind, what.recipe.max_length, what.recipe.mixing)
    model = counted(folder, *about, mixes=space.mixes)
    check_length(what.recipe.max_length, model.positions)
    depths = model.parts["parameters"].depths
    space = StackedSpace.of(space, depths) if depths else space
    costs = Costs(model.parts, what.objectives[1:], what.limits)
    _check_recipe(what, costs.num_layers)
    _check_led(what, model.skips)
    _check_one_layer(what, space, costs.num_layers, model.model_type)
    space.check(costs.num_layers)
    if not space.unmeasured:  # else what it holds is known later (`spelled`)
        check_space(what, space, costs, task, model.model_type)
    if what.measured_on is not None and not space.unmeasured:
        raise WordsError(f"--measure-on {what.measured_on}: the space {what.space} names no measured strategy")
    purpose = _purpose(what, task, revision, splits.fingerprint, space)
    return Prepared(what, task, splits, space, costs, folder, purpose, model.model_type, model.matrices)


def _purpose(what: What, task: Task, revision: str, data: str, space: SearchSpace) -> Purpose:
    """What the study is for, when `data` is the fingerprint of the texts and labels."""
    from layersearch import hub
    from layersearch.search.purpose import Purpose

    values: dict[str, Any] = {
        "model": Path(what.model).name if Path(what.model).exists() else what.model,
        "revision": revision,
        "task": task.name,
        "data": data,
        **_of_the_columns(what.columns),
        "holdout": what.holdout,
        "space": space.canonical(),
        "method": what.method,
        **_of_the_method(what),
        **stored(what.objectives, what.limits),
        **({} if what.measured_on is None else {"measured_on": hub.local_model(str(what.measured_on), None)[1]}),
        **{f"recipe.{name}": value for name, value in what.recipe.as_dict().items()},
    }
    return Purpose(values, task.metric, task.direction)


def _check_words(what: What) -> None:
    """Raise WordsError for words that are wrong whatever the model."""
    if what.method not in get_args(Method):
        raise WordsError(unknown("method", what.method, get_args(Method)))
    if what.method == "halving" and (what.objectives != DEFAULT or what.limits):
        raise WordsError(
            "--method halving ranks by score and parameters alone; leave out --objectives and the limits, or choose "
            "one-shot, distill or fine-tune"
        )
    if not 0 < what.holdout < 1:
        raise WordsError(f"--holdout {what.holdout} is not a share between 0 and 1; 0.15 is usual")


def _check_sampler(what: What) -> None:
    from layersearch.search.orders import ORDERS
    from layersearch.search.samplers import GREEDY, check_sampler

    check_sampler(what.sampler)
    if what.sampler in ORDERS and what.method in ("one-shot", "halving"):
        raise WordsError(
            f"--sampler {what.sampler} needs the full score of every candidate it asks for, and --method {what.method} "
            "does not give it; add --method fine-tune, distill or tune-drop-tune"
        )
    costly = [limit.option for limit in what.limits if limit.of != SCORE]
    if what.sampler == GREEDY and costly:
        raise WordsError(
            f"--sampler {GREEDY} comes from the unchanged model, one layer after another, through what is over "
            f"{' and '.join(costly)}: leave that out and ask `layersearch best`, or choose another sampler"
        )


def _of_the_columns(columns: Columns | None) -> dict[str, Any]:
    """What a task over the user's own table is made of; where its tables lie is no part of it.

    Whether all rows of a large one are taken, its data's fingerprint tells.
    """
    if columns is None:
        return {}
    values = {**vars(columns), "label": ", ".join(columns.label), "examples": columns.examples or None}
    return {f"own.{name}": value for name, value in values.items() if name != "validation"}


def _of_the_method(what: What) -> dict[str, Any]:
    """What decides which candidates there are, how they are taught and who goes on."""
    if what.method == "halving":
        return {"sampler": what.sampler, **{f"halving.{name}": value for name, value in vars(Halving()).items()}}
    settings = vars(OneShotRecipe())
    used = {"one-shot": tuple(settings), "distill": ("taught",), "tune-drop-tune": (), "fine-tune": ()}[what.method]
    return {"sampler": what.sampler, **{f"one_shot.{name}": settings[name] for name in used}}


def _check_recipe(what: What, num_layers: int) -> None:
    """Raise WordsError for frozen layers that are not there, and for what the method does not do."""
    highest = max(frozen(what.recipe.freeze)[1], default=0)
    if highest >= num_layers:
        raise WordsError(
            f"--freeze {what.recipe.freeze!r} names layer {highest}, but the model has layers 0-{num_layers - 1}"
        )
    for option, word, usual, methods in (
        ("--teach", what.recipe.teach, TEACH[0], ("distill", "one-shot")),
        ("--start-weights", what.recipe.start_weights, START_WEIGHTS[0], ("distill",)),
    ):
        if word != usual and what.method not in methods:
            raise WordsError(
                f"{option} {word} is about candidates that learn from the fine-tuned unchanged model, and with "
                f"--method {what.method} they do not; add --method {' or '.join(methods)}"
            )
    if what.recipe.drop_every and what.method != "fine-tune":
        raise WordsError(
            f"--drop-every {what.recipe.drop_every:g} drops layers while a candidate is trained from the pre-trained "
            f"model, which --method {what.method} does not do; add --method fine-tune"
        )


def _check_led(what: What, skips: str | None) -> None:
    """Raise WordsError for hidden states that lead where training leaves layers out, as its setting `skips`."""
    if skips and "hidden" in what.recipe.teach:
        raise WordsError(
            f"--teach {what.recipe.teach} leads every layer, and training skips layers of this model (config.json says "
            f"{skips}); set it to 0, or leave --teach out"
        )


def _check_one_layer(what: What, space: SearchSpace, num_layers: int, model_type: str) -> None:
    """Raise WordsError for what tells layers apart that are one, applied again and again."""
    family = FAMILIES.get(model_type)
    if family is None or family.shared is None:
        return
    if frozen(what.recipe.freeze)[1]:
        raise WordsError(
            f"--freeze {what.recipe.freeze!r} names a layer, and all layers of {model_type} share one set of weights; "
            "freeze `embeddings` or nothing"
        )
    if space.has_ties(num_layers) and not space.has_halves(num_layers):  # halves are told of in words of their own
        raise WordsError(
            f"the search space {what.space!r} has tied copies, and all layers of {model_type} share one set of "
            "weights; search `duplication`, which repeats them plainly"
        )


def _check_mix(what: What, space: SearchSpace) -> None:
    """Raise WordsError for words about a mix that no candidate has."""
    for option, value in (("--mix", what.recipe.mix), ("--mix-lr", what.recipe.mix_lr)):
        if value and not space.mixes:
            raise WordsError(
                f"{option} {value!r} says how layers are mixed, and the search space {what.space!r} mixes none: search "
                f'`mix`, give a space of your own `readout = ["last", "mix"]`, or leave {option} out'
            )


def check_length(asked: int, positions: int) -> None:
    """Raise WordsError for more tokens an example than a model has `positions` for; 0 stands for no limit."""
    if 0 < positions < asked:
        raise WordsError(f"--max-length {asked} is more than this model's {positions} positions; give fewer")
