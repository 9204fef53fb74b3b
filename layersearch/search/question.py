"""What is asked and how it is to be done, as frozen values, and a question whose parts are looked up.

Knows: names of models, tasks, spaces, recipes, tables. Does not know: how they are looked up, studies, workers,
training, what a table says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from layersearch.counts import count
from layersearch.durable import unwritable
from layersearch.errors import LayersearchError, WordsError
from layersearch.models.families import FAMILIES, has_halves, no_halves
from layersearch.names import file_name_of, model_name, unknown
from layersearch.pattern import PartCounts, Pattern
from layersearch.search.objectives import DEFAULT, Costs, Limit, check_limits
from layersearch.training.recipe import Halving, Recipe

if TYPE_CHECKING:
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

DEVICES = ("auto", "cpu", "cuda")

Keep = Literal["front", "all", "none"]  # whose weights stay on the disk

Method = Literal["one-shot", "distill", "tune-drop-tune", "fine-tune", "halving"]
"""Where a candidate starts: from a super-network, from the fine-tuned unchanged model (taught by it, or not), or from
the pre-trained one; with halving from there too, and trained as far as it is among the best."""

NETWORKS = {"one-shot": 2, "distill": 1, "tune-drop-tune": 1}  # models of a seed that its candidates start from


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
        method = "" if self.method == What.method else f"-{self.method}"
        task = self.data.stem if self.columns is not None and self.data is not None else self.task
        return file_name_of(f"{model_name(self.model)}-{task}-{Path(self.space).stem}{method}")


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
        return file_name_of(f"{self.table.stem}-{Path(self.space).stem}")


@dataclass(frozen=True)
class How:
    """Everything that decides only speed, place, order and end.

    `workers` 0 runs in this process, without a watchdog (`stall_seconds`), which would end the process; None is one a
    core or GPU of the machine, or of the cluster at `ray_address`, whose machines must all see `files`. After
    `seconds`, or with `until_plateau` where the front stands still, the search begins no new candidate. The fronts of
    the studies `start_from` (STUDY or STUDY@STORAGE) come first. Checkpoints stay as `keep` says, as long as the
    study's folder takes no more than `disk` bytes.
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
    keep: Keep = "front"
    disk: int | None = None

    def __post_init__(self) -> None:
        check_device(self.device)
        if self.workers == 0 and self.ray_address != How.ray_address:
            raise WordsError(
                f"--ray-address {self.ray_address} is where workers run, and --workers 0 starts none; leave one out"
            )

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

    `matrices` are the weights by part of which the recipe may make some zero, `measured` costs that
    `search/measured_costs.py` measured, as the study keeps them.
    """

    what: What
    task: Task
    splits: Splits
    space: SearchSpace
    costs: Costs
    folder: Path
    purpose: Purpose
    model_type: str
    matrices: PartCounts
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
            **({"depths": list(self.counts.depths)} if self.counts.depths else {}),
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


def require_place(how: How) -> None:
    """Raise LayersearchError where the files of the study cannot be written."""
    if reason := unwritable(how.folder):
        raise LayersearchError(f"cannot write {how.files}: {reason}; name another place with --files")


def check_device(name: str) -> None:
    """Raise WordsError for a name that is no device's; whether there is such a one is not looked at."""
    if name not in DEVICES:
        raise WordsError(unknown("device", name, DEVICES))


def resolve_device(name: str) -> str:
    """The GPU for "auto" if there is one, else the processor. Raises LayersearchError for an absent device."""
    import torch

    check_device(name)
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
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


def check_space(what: What, space: SearchSpace, costs: Costs, task: Task, model_type: str) -> None:
    """Raise WordsError for a space that the model or the sampler cannot have, and for a limit in it.

    To be asked again as soon as more is known: what measured strategies spell, costs that are measured.
    """
    from layersearch.search.orders import check_order

    if not has_halves(model_type) and space.has_halves(costs.num_layers):
        raise WordsError(f"the search space {what.space!r} has half layers; {no_halves(model_type)}")
    check_limits(costs, space, task.metric, task.direction)
    check_order(what.sampler, space, costs.num_layers)


def remarks(question: Prepared) -> list[str]:
    """What the user should know before candidates are trained, a line each."""
    idle, layers = question.space.idle(question.num_layers), question.num_layers
    family = FAMILIES.get(question.model_type)
    found = []
    if idle:
        found.append(
            f"strategies of the space that give none of its patterns for {count(layers, 'layer')}: {', '.join(idle)}"
        )
    if family is not None and family.shared:
        found.append(
            f"{question.model_type} has one layer that it applies {layers} times: a pattern says how often, parameters "
            "do not change, and patterns of one depth are the same model"
        )
    return found
