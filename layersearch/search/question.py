"""What is asked and how it is to be done, as frozen values, and the parts that the question names.

Knows: names of models, tasks, spaces, recipes, tables, and how to look them up. Does not know: studies, workers,
training, what a table says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

from layersearch.errors import LayersearchError, SpaceError
from layersearch.models.families import FAMILIES, has_halves, no_halves
from layersearch.names import unknown
from layersearch.pattern import PartCounts, Pattern
from layersearch.search.objectives import DEFAULT, Costs, Limit, check_limits, stored
from layersearch.training.recipe import Halving, OneShotRecipe, Recipe, frozen

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

    from layersearch.search.purpose import Purpose
    from layersearch.search.trials import Direction
    from layersearch.search_space import SearchSpace
    from layersearch.tasks.own import Columns
    from layersearch.tasks.task import Splits, Task

HOLDOUT = 0.15
TRIALS = 40  # fine-tuned candidates, unless the user says how many
UNTIL_PLATEAU = 1000  # and where a standstill ends the search, in a space that is larger

EXAMPLES = 256  # on which a model is measured
Part = Literal["train", "search", "validation"]

Method = Literal["one-shot", "distill", "tune-drop-tune", "fine-tune", "halving"]
"""Where a candidate starts: from a super-network, from the fine-tuned unchanged model (taught by it, or not), or from
the pre-trained one; with halving from there too, and trained as far as it is among the best."""


@dataclass(frozen=True)
class What:
    """Everything that decides a result; stored in the study as its purpose.

    `objectives` are the metric and one or two costs by name, `limits` what a candidate must keep to. Strategies that
    are measured on a model are measured on the pre-trained one, or on a fine-tuned one in the folder `measured_on`.
    """

    model: str
    task: str
    data: Path | None = None
    space: str = "layers"
    recipe: Recipe = field(default_factory=Recipe)
    sampler: str = "PatternSampler"
    holdout: float = HOLDOUT
    revision: str | None = None
    method: Method = "one-shot"
    objectives: tuple[str, ...] = DEFAULT
    limits: tuple[Limit, ...] = ()
    measured_on: Path | None = None
    columns: Columns | None = None

    @property
    def default_name(self) -> str:
        """The name of the study unless the user gives one."""
        above, _, model = self.model.rstrip("/").rpartition("/")
        if model == "model" and above:  # says nothing; what it lies in does
            model = above.removeprefix("package:").rpartition("/")[2]
        method = "" if self.method == What.method else f"-{self.method}"
        task = self.data.stem if self.columns is not None and self.data is not None else self.task
        return _plain(f"{model}-{task}-{Path(self.space).stem}{method}")


@dataclass(frozen=True)
class Lookup:
    """A question that a table of known scores answers in place of training, and how that is searched.

    `score` is the column of the scores; only rows count that have each value of `where` in its column.
    """

    table: Path
    score: str = "score"
    where: tuple[tuple[str, str], ...] = ()
    direction: Direction = "maximize"
    space: str = What.space
    sampler: str = What.sampler
    seed: int = Recipe.seed

    @property
    def default_name(self) -> str:
        """The name of the study unless the user gives one."""
        return _plain(f"{self.table.stem}-{Path(self.space).stem}")


def _plain(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in name)


@dataclass(frozen=True)
class How:
    """Everything that decides only speed, place, order and end.

    `workers` 0 runs in this process, without a watchdog (`stall_seconds`), which would end the process; None is one a
    core or GPU of the machine, or of the cluster at `ray_address`, whose machines must all see `files`. After
    `seconds`, or with `until_plateau` where the front stands still, the search begins no new candidate. The fronts of
    the studies `start_from` (STUDY or STUDY@STORAGE) come first.
    """

    name: str
    storage: str = "layersearch.db"
    files: Path = Path("layersearch-files")
    workers: int | None = None
    device: str = "auto"
    ray_address: str = "local"
    stall_seconds: float = 600.0
    seconds: float | None = None
    until_plateau: bool = False
    start_from: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """The study's own folder for checkpoints, the outbox and traces."""
        return (self.files / self.name).absolute()


class Question(Protocol):
    """What a study needs to know of a question: `Prepared` is one, and so is `replay.Replay`."""

    @property
    def purpose(self) -> Purpose: ...
    @property
    def space(self) -> SearchSpace: ...
    @property
    def num_layers(self) -> int:
        """Layers of the base model."""
        ...

    @property
    def sampler(self) -> str: ...
    @property
    def seed(self) -> int: ...
    @property
    def facts(self) -> Mapping[str, Any]:
        """What reports and exports need and the purpose does not hold, `num_layers` and `parameters` among them."""
        ...

    @property
    def halving(self) -> Halving | None:
        """How halving goes about it, where it is asked for."""
        ...

    @property
    def costs(self) -> Costs | None:
        """What patterns cost, by name; None where parameters are all that is known."""
        ...

    def parameters_of(self, pattern: Pattern) -> int:
        """Parameters of the candidate that `pattern` of the space yields."""
        ...


@dataclass(frozen=True)
class Prepared:
    """The question with its parts looked up: nothing is loaded yet but the texts and the model's configuration.

    `measured` are costs that `search/measured_costs.py` measured, as the study keeps them.
    """

    what: What
    task: Task
    splits: Splits
    space: SearchSpace
    costs: Costs
    folder: Path
    purpose: Purpose
    model_type: str
    measured: Mapping[str, Any] | None = None

    @property
    def counts(self) -> PartCounts:
        """Parameters by part."""
        return self.costs.parts["parameters"]

    @property
    def num_layers(self) -> int:
        """Layers of the base model."""
        return self.counts.num_layers

    @property
    def sampler(self) -> str:
        """The sampler's name."""
        return self.what.sampler

    @property
    def seed(self) -> int:
        """The seed of the split, the sampler and the search's fine-tuning."""
        return self.what.recipe.seed

    @property
    def halving(self) -> Halving | None:
        """How halving goes about it, where it is asked for."""
        return Halving() if self.what.method == "halving" else None

    @property
    def facts(self) -> dict[str, Any]:
        """Where the parts lie now and what they count."""
        return {
            "model_folder": str(self.folder.absolute()),
            "model_type": self.model_type,
            "data_folder": None if self.what.data is None else str(self.what.data.absolute()),
            "num_layers": self.num_layers,
            "parameters": self.counts.total,
            "space_name": self.what.space,
            **({"measured": self.measured} if self.measured else {}),
            **self._columns,
        }

    @property
    def _columns(self) -> dict[str, Any]:
        columns = self.what.columns
        if columns is None:
            return {}
        place = None if columns.validation is None else str(columns.validation.absolute())
        return {"columns": {**vars(columns), "validation": place}}

    def parameters_of(self, pattern: Pattern) -> int:
        """Parameters of the candidate, counted and not built."""
        return pattern.parameters(self.counts)


def prepare(what: What, space: SearchSpace | None = None, *, weights: bool = True) -> Prepared:
    """Look everything up that `what` names, cheapest first; raises the error that belongs to what is wrong.

    `space` stands in for the one that `what` names, for those who have it already. Without `weights` the model's folder
    need hold no more than config.json. Costs that are measured are not known yet (`search/measured_costs.py`).
    """
    if what.method not in get_args(Method):
        raise LayersearchError(unknown("method", what.method, get_args(Method)))
    if what.method == "halving" and (what.objectives != DEFAULT or what.limits):
        raise LayersearchError(
            "--method halving ranks by score and parameters alone; leave out --objectives and the limits, or choose "
            "one-shot, distill or fine-tune"
        )
    if not 0 < what.holdout < 1:
        raise LayersearchError(f"--holdout {what.holdout} is not a share between 0 and 1; 0.15 is usual")
    from layersearch import hub
    from layersearch.search_space import load as load_space
    from layersearch.tasks import load_task

    space = space or load_space(what.space)
    task = load_task(what.task, what.data, what.columns)
    folder, revision = hub.local_model(what.model, what.revision, weights=weights)
    # what is wrong so far is said before the seconds that the libraries behind these take
    from layersearch.models.base import load_config
    from layersearch.models.costs import count_all
    from layersearch.search.orders import ORDERS, check_order
    from layersearch.search.purpose import Purpose
    from layersearch.search.samplers import check_sampler
    from layersearch.stacked_space import StackedSpace

    check_sampler(what.sampler)
    if what.sampler in ORDERS and what.method in ("one-shot", "halving"):
        raise LayersearchError(
            f"--sampler {what.sampler} needs the full score of every candidate it asks for, and --method {what.method} "
            "does not give it; add --method fine-tune, distill or tune-drop-tune"
        )
    config = load_config(folder, num_labels=task.num_labels, kind=task.kind)
    _check_length(what.recipe.max_length, config)
    counted = count_all(config, what.recipe.max_length, task.kind)
    depths = counted["parameters"].depths
    space = StackedSpace.of(space, depths) if depths else space
    costs = Costs(counted, what.objectives[1:], what.limits)
    _check_recipe(what, costs.num_layers)
    space.check(costs.num_layers)
    if not has_halves(config.model_type) and space.has_halves(costs.num_layers):
        raise SpaceError(f"the search space {what.space!r} has half layers; {no_halves(config.model_type)}")
    check_limits(costs, space, task.metric, task.direction)
    check_order(what.sampler, space, costs.num_layers)
    splits = task.splits(what.holdout, what.recipe.seed)
    if what.measured_on is not None and not space.unmeasured:
        raise LayersearchError(f"--measure-on {what.measured_on}: the space {what.space} names no measured strategy")
    values: dict[str, Any] = {
        "model": Path(what.model).name if Path(what.model).exists() else what.model,
        "revision": revision,
        "task": task.name,
        "data": splits.fingerprint,
        **_of_the_columns(what.columns),
        "holdout": what.holdout,
        "space": space.canonical(),
        "method": what.method,
        **_of_the_method(what),
        **stored(what.objectives, what.limits),
        **({} if what.measured_on is None else {"measured_on": hub.local_model(str(what.measured_on), None)[1]}),
        **{f"recipe.{name}": value for name, value in what.recipe.as_dict().items()},
    }
    purpose = Purpose(values, task.metric, task.direction)
    return Prepared(what, task, splits, space, costs, folder, purpose, config.model_type)


def _of_the_columns(columns: Columns | None) -> dict[str, Any]:
    """What a task over the user's own table is made of; where its tables lie is no part of it."""
    if columns is None:
        return {}
    values = {**vars(columns), "label": ", ".join(columns.label)}
    return {f"own.{name}": value for name, value in values.items() if name != "validation"}


def _of_the_method(what: What) -> dict[str, Any]:
    """What decides which candidates there are, how they are taught and who goes on."""
    if what.method == "halving":
        return {"sampler": what.sampler, **{f"halving.{name}": value for name, value in vars(Halving()).items()}}
    settings = vars(OneShotRecipe())
    used = {"one-shot": tuple(settings), "distill": ("taught",), "tune-drop-tune": (), "fine-tune": ()}[what.method]
    return {"sampler": what.sampler, **{f"one_shot.{name}": settings[name] for name in used}}


def _check_recipe(what: What, num_layers: int) -> None:
    """Raise LayersearchError for frozen layers that are not there, and for layers dropped on the way elsewhere."""
    highest = max(frozen(what.recipe.freeze)[1], default=0)
    if highest >= num_layers:
        raise LayersearchError(
            f"--freeze {what.recipe.freeze!r} names layer {highest}, but the model has layers 0-{num_layers - 1}"
        )
    if what.recipe.drop_every and what.method != "fine-tune":
        raise LayersearchError(
            f"--drop-every {what.recipe.drop_every:g} drops layers while a candidate is trained from the pre-trained "
            f"model, which --method {what.method} does not do; add --method fine-tune"
        )


def _check_length(asked: int, config: PreTrainedConfig) -> None:
    positions = getattr(config, "max_position_embeddings", None) or -1  # T5 has none, XLNet -1: they are relative
    family = FAMILIES.get(config.model_type)
    positions = int(positions) - (family.positions_off if family is not None else 0)
    if 0 < positions < asked:
        raise LayersearchError(f"--max-length {asked} is more than this model's {positions} positions; give fewer")


def resolve_device(name: str) -> str:
    """The GPU for "auto" if there is one, else the processor. Raises LayersearchError for an absent device."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name not in ("cpu", "cuda"):
        raise LayersearchError(unknown("device", name, ("auto", "cpu", "cuda")))
    if name == "cuda" and not torch.cuda.is_available():
        raise LayersearchError(
            "--device cuda, but torch sees no CUDA device; use --device cpu or install torch for CUDA"
        )
    return name


def trials_of(question: Question, how: How, trials: int | None) -> int | None:
    """How many finished trials a search shall hold: what was asked for, or the default (None: the method says it)."""
    from layersearch.search.orders import trials_in

    if trials is not None or question.purpose.values.get("method") == "one-shot":
        return trials
    if (all_of_them := trials_in(question.sampler, question.space, question.num_layers)) is not None:
        return all_of_them
    return min(question.space.size(question.num_layers), UNTIL_PLATEAU) if how.until_plateau else TRIALS


def is_screened(question: Question) -> bool:
    """Whether proposals that are not worth a training are skipped: not where shared scores or an order choose."""
    from layersearch.search.orders import ORDERS

    return question.purpose.values.get("method") != "one-shot" and question.sampler not in ORDERS


def remarks(question: Prepared) -> list[str]:
    """What the user should know before candidates are trained, a line each."""
    idle, layers = question.space.idle(question.num_layers), question.num_layers
    family = FAMILIES.get(question.model_type)
    found = []
    if idle:
        found.append(f"strategies of the space that give none of its patterns for {layers} layers: {', '.join(idle)}")
    if family is not None and family.shared:
        found.append(
            f"{question.model_type} has one layer that it applies {layers} times: a pattern says how often, parameters "
            "do not change, and patterns of one depth are the same model"
        )
    return found
