"""What is asked and how it is to be done, as two frozen values, and the parts that the question names.

Knows: names of models, tasks, spaces, recipes, and how to look them up. Does not know: studies, workers, training.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

from layersearch.errors import LayersearchError
from layersearch.models.families import family_of
from layersearch.names import unknown
from layersearch.pattern import PartCounts, Pattern
from layersearch.training.recipe import OneShot, Recipe

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

    from layersearch.search.purpose import Purpose
    from layersearch.search_space import SearchSpace
    from layersearch.tasks.task import Splits, Task

HOLDOUT = 0.15
TRIALS = 40  # fine-tuned candidates, unless the user says how many

Method = Literal["fine-tune", "one-shot"]
"""How candidates get their scores: each fine-tuned from the pre-trained weights, or from a super-network's."""


@dataclass(frozen=True)
class What:
    """Everything that decides a result; stored in the study as its purpose."""

    model: str
    task: str
    data: Path | None = None
    space: str = "layers"
    recipe: Recipe = field(default_factory=Recipe)
    sampler: str = "PatternSampler"
    holdout: float = HOLDOUT
    revision: str | None = None
    method: Method = "fine-tune"

    @property
    def default_name(self) -> str:
        """The name of the study unless the user gives one."""
        model = self.model.rstrip("/").rsplit("/", 1)[-1]
        space = Path(self.space).stem
        method = "" if self.method == "fine-tune" else f"-{self.method}"
        return "".join(c if c.isalnum() or c in "._-" else "-" for c in f"{model}-{self.task}-{space}{method}")


@dataclass(frozen=True)
class How:
    """Everything that decides only speed and place.

    `workers` 0 runs in this process, without a watchdog (`stall_seconds`), which would end the process; None is one a
    core or GPU of the machine, or of the cluster at `ray_address`, whose machines must all see `files`.
    """

    name: str
    storage: str = "layersearch.db"
    files: Path = Path("layersearch-files")
    workers: int | None = None
    device: str = "auto"
    ray_address: str = "local"
    stall_seconds: float = 600.0

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
    def parameters(self, pattern: Pattern) -> int:
        """Parameters of a pattern of the space."""
        ...

    @property
    def facts(self) -> Mapping[str, Any]:
        """What reports and exports need and the purpose does not hold, `num_layers` and `parameters` among them."""
        ...


@dataclass(frozen=True)
class Prepared:
    """The question with its parts looked up: nothing is loaded yet but the texts and the model's configuration."""

    what: What
    task: Task
    splits: Splits
    space: SearchSpace
    counts: PartCounts
    folder: Path
    purpose: Purpose

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

    def parameters(self, pattern: Pattern) -> int:
        """Parameters of a pattern, counted and not built."""
        return pattern.parameters(self.counts)

    @property
    def facts(self) -> dict[str, Any]:
        """Where the parts lie now and what they count."""
        return {
            "model_folder": str(self.folder.absolute()),
            "data_folder": None if self.what.data is None else str(self.what.data.absolute()),
            "num_layers": self.num_layers,
            "parameters": self.counts.total,
            "space_name": self.what.space,
        }


def prepare(what: What, space: SearchSpace | None = None) -> Prepared:
    """Look everything up that `what` names, cheapest first; raises the error that belongs to what is wrong.

    `space` stands in for the one that `what` names, for those who have it already.
    """
    if what.method not in get_args(Method):
        raise LayersearchError(unknown("method", what.method, get_args(Method)))
    if not 0 < what.holdout < 1:
        raise LayersearchError(f"--holdout {what.holdout} is not a share between 0 and 1; 0.15 is usual")
    from layersearch import hub
    from layersearch.search_space import load as load_space
    from layersearch.tasks import load_task

    space = space or load_space(what.space)
    task = load_task(what.task, what.data)
    folder, revision = hub.local_model(what.model, what.revision)
    # what is wrong so far is said before the seconds that the libraries behind these take
    from layersearch.models.base import load_config
    from layersearch.models.costs import count_parts
    from layersearch.search.purpose import Purpose
    from layersearch.search.samplers import check_sampler

    check_sampler(what.sampler)
    config = load_config(folder, num_labels=task.num_labels, kind=task.kind)
    _check_length(what.recipe.max_length, config)
    counts = count_parts(config)
    space.check(counts.num_layers)
    splits = task.splits(what.holdout, what.recipe.seed)
    values: dict[str, Any] = {
        "model": Path(what.model).name if Path(what.model).exists() else what.model,
        "revision": revision,
        "task": task.name,
        "data": splits.fingerprint,
        "holdout": what.holdout,
        "space": space.canonical(),
        "method": what.method,
        **_of_the_method(what),
        **{f"recipe.{name}": value for name, value in what.recipe.as_dict().items()},
    }
    purpose = Purpose(values, task.metric, task.direction)
    return Prepared(what, task, splits, space, counts, folder, purpose)


def _of_the_method(what: What) -> dict[str, Any]:
    """What decides which candidates there are: the sampler, or how super-networks are trained."""
    if what.method == "fine-tune":
        return {"sampler": what.sampler}
    return {f"one_shot.{name}": value for name, value in vars(OneShot()).items()}


def _check_length(asked: int, config: PreTrainedConfig) -> None:
    positions = int(config.max_position_embeddings) - family_of(config).positions_off
    if asked > positions:
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
