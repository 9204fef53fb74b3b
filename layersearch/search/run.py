"""A whole run: base model, task and space to a study with a confirmed front.

Knows: how the parts fit together, with an inline executor (a for-loop) or with Ray. Does not know: words of the command
line, how anything is shown.
"""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial

from layersearch.errors import LayersearchError, StoppedError
from layersearch.pattern import PartCounts, Pattern
from layersearch.search.distill import Distill
from layersearch.search.driver import Driver, Watcher
from layersearch.search.found import holder_of
from layersearch.search.halving import Rungs
from layersearch.search.lease import Lease, take_lease
from layersearch.search.measured_costs import with_measured
from layersearch.search.one_shot import OneShot
from layersearch.search.preparing import prepare
from layersearch.search.purpose import Purpose
from layersearch.search.question import (
    How,
    Prepared,
    Question,
    What,
    is_screened,
    remarks,
    resolve_device,
    trials_of,
)
from layersearch.search.record import CONFIRMATION, SHARED
from layersearch.search.replay import Replay
from layersearch.search.signals import stopped_by_signals
from layersearch.search.spelling import knowing, spelled, stored_of
from layersearch.search.starts import front_of_another
from layersearch.search.storage import PatientStorage, open_storage, parse_url
from layersearch.search.study import Study
from layersearch.search.timing import time_front
from layersearch.search.trials import front_to_confirm
from layersearch.tasks.task import Encoded
from layersearch.training.evaluator import Evaluator
from layersearch.training.finetune import Heartbeat
from layersearch.training.job import Job, Outcome, Split
from layersearch.training.recipe import BYTES_A_PARAMETER, Halving, OneShotRecipe

WAIT_SECONDS = 0.5  # between two questions for a job where other drivers' scores come first

Course = Callable[[Job, Heartbeat], Generator[Outcome, None, None]]  # a job's outcomes, one a rung
Executor = Callable[[Driver], None]  # works a driver off


def run(what: What, how: How, *, trials: int | None, confirm: int, watcher: Watcher, command: str = "") -> Study:
    """Search until the study holds `trials` complete trials, then confirm its front with `confirm` fresh seeds each.

    The same call continues a study that is already there. Raises StoppedError after a clean stop (Ctrl-C, SIGTERM);
    everything finished until then is in the study. `command` is written down as what made it. Without `trials` it is
    TRIALS, and for a one-shot search as many as the front of the shared scores; with `how.until_plateau` it is the size
    of the space, or UNTIL_PLATEAU. The end says why it came.
    """
    prepared = with_measured(spelled(prepare(what), how, watcher.say), how, watcher.say)
    for warning in prepared.splits.warnings:
        watcher.say(f"warning: {warning}")
    for line in remarks(prepared):
        watcher.say(line)
    _require_disk(how, prepared.counts, {"fine-tune": 2, "halving": 5}.get(what.method, 4 + 2 * confirm))

    def make() -> Executor:
        evaluator = make_evaluator(prepared, how)
        if how.workers == 0:
            return partial(run_inline, course=evaluator.course)
        from layersearch.search.cluster import run_with_ray

        return partial(run_with_ray, evaluator=evaluator, how=how)

    warm = None if what.method in ("fine-tune", "halving") else partial(_warm, prepared)
    after = partial(time_front, prepared, how, watcher.say)
    return _search(prepared, how, make, warm, after, trials=trials, confirm=confirm, watcher=watcher, command=command)


def run_replay(replay: Replay, how: How, *, trials: int | None, watcher: Watcher, command: str = "") -> Study:
    """Search like `run`, with the scores of a table: no model, no data, no workers, and nothing to confirm."""
    if not replay.table.sized:
        watcher.say(f"{replay.table.name} has no column `parameters`: they are counted in thirds of a layer")
    unchanged = str(Pattern.full(replay.num_layers))
    if unchanged not in replay.table.known:
        watcher.say(f"{replay.table.name} has no row for the unchanged model {unchanged}: there is no baseline")

    def make() -> Executor:
        return partial(run_inline, course=replay.course)

    known = knowing(replay, stored_of(replay, how.device, watcher.say))
    return _search(known, how, make, None, None, trials=trials, confirm=0, watcher=watcher, command=command)


def _search(
    question: Question,
    how: How,
    make: Callable[[], Executor],
    warm: Callable[[Studies], Distill | OneShot] | None,
    after: Callable[[Study], None] | None,
    *,
    trials: int | None,
    confirm: int,
    watcher: Watcher,
    command: str,
) -> Study:
    """Open the study and work it off with what `make` makes, unless nothing is left to do; `after` that."""
    halving = question.halving
    with opened(question, how, watcher, alone=warm is not None or halving is not None) as studies:
        question = studies.question
        studies.search.note(**({"command": command} if command else {}))
        method = warm(studies) if warm else None
        driver = Driver(
            study=studies.search,
            trials=trials_of(question, how, trials),
            watcher=watcher,
            open_confirmation=(lambda: studies.confirmation(confirm, method)) if confirm else None,
            warm=method,
            halving=None if halving is None else _rungs(question, halving),
            seconds=how.seconds,
            until_plateau=how.until_plateau,
        )
        if not (driver.done or (driver.searched and studies.confirmed(confirm))):
            execute = make()
            with stopped_by_signals(driver):
                execute(driver)
        if driver.stopping:
            raise StoppedError("stopped; every finished trial is in the study. The same command goes on from here")
        if method is not None:
            method.clean_up()
        if after is not None:
            after(studies.search)
        watcher.say(f"the search ended: {driver.ended}")
        return studies.search


def run_inline(driver: Driver, course: Course) -> None:
    """The search as a for-loop in this process: what Ray's workers do, one after another."""

    def heartbeat(number: int, share: float) -> None:
        if driver.stopping:
            raise StoppedError("stopped")
        driver.watcher.progressed(number, share)

    while not driver.done:
        job = driver.next_job()
        if job is None:
            time.sleep(0.0 if driver.done else WAIT_SECONDS)
            continue
        try:
            with closing(course(job, partial(heartbeat, job.number))) as outcomes:
                _work_off(driver, outcomes)
        except StoppedError:
            driver.abandon("stopped before it was finished")


def _work_off(driver: Driver, outcomes: Iterator[Outcome]) -> None:
    """Tell the driver one outcome after another, until the last or until the candidate does not go on."""
    for outcome in outcomes:
        if outcome.rung is None:
            driver.finish(outcome)
        elif not driver.reached(outcome):
            return


def _rungs(question: Question, halving: Halving) -> Rungs:
    return Rungs(halving, question.purpose.direction, str(Pattern.full(question.num_layers)))


@dataclass(frozen=True)
class Studies:
    """The search's study, and the way to open its confirmation."""

    question: Question
    how: How
    storage: PatientStorage
    lease: Lease
    search: Study

    def confirmation(self, seeds: int, warm: Distill | OneShot | None = None) -> Study:
        """The study NAME.confirm with the front and the unchanged model queued, `seeds` fresh seeds each.

        With `warm` it plans the front, and only the unchanged models are queued.
        """
        study = self.sibling(CONFIRMATION, "validation")
        study.heal()
        pairs = self._to_confirm(seeds)
        if warm is not None:
            warm.plan(pairs, self.search.front())
            pairs = [pair for pair in pairs if pair[0] == warm.unchanged]
        for pattern, seed in pairs:
            study.enqueue(pattern, seed)
        return study

    def confirmed(self, seeds: int) -> bool:
        """Whether nothing of the confirmation is left to do."""
        rows = self.sibling(CONFIRMATION, "validation").rows()
        done = {(row.pattern, row.seed) for row in rows if row.done or (row.state == "FAIL" and not row.lost)}
        return done >= set(self._to_confirm(seeds))

    def sibling(self, ending: str, scored_on: Split) -> Study:
        """The study beside the search's whose name has `ending`; it proposes nothing by itself."""
        purpose = self.question.purpose
        return Study(
            self.storage,
            self.how.name + ending,
            Purpose(purpose.values, purpose.metric, purpose.direction, scored_on),
            self.lease,
            self.how.folder / ending.removeprefix("."),
            num_layers=self.question.num_layers,
            space=None,
            sampler="RandomSampler",
            costs=self.question.costs and replace(self.question.costs, limits=()),
        )

    def _to_confirm(self, seeds: int) -> list[tuple[str, int]]:
        first = self.question.seed + 1
        unchanged = str(Pattern.full(self.question.num_layers))
        front = front_to_confirm(self.search.front(), unchanged)
        return [(pattern, seed) for seed in range(first, first + seeds) for pattern in front]


def _warm(prepared: Prepared, studies: Studies) -> Distill | OneShot:
    """What asks in place of the search's study, with what is known of its networks."""
    from layersearch.models.checkpoint import is_complete

    counts, folder = prepared.counts, studies.how.folder / f"networks-{prepared.purpose.mark}"
    studies.search.note(networks=str(folder))
    alone = Distill(counts.num_layers, folder, prepared.seed)
    studies.search.enqueue(alone.unchanged, prepared.seed)
    if prepared.what.method != "one-shot":
        return alone
    shared = studies.sibling(SHARED, "shared")

    def keep(outcome: Outcome) -> None:
        for text, score in outcome.shared.items():
            shared.add(text, outcome.seed, score, Pattern.parse(text).parameters(counts))
        shared.note(work=shared.facts.get("work", 0.0) + outcome.work)

    known = {row.pattern: row.score for row in shared.rows() if row.score is not None}
    made = {int(made.name.removeprefix("super-")) for made in folder.glob("super-*") if is_complete(made)}
    whole = "work" in shared.facts  # noted after the last score
    return OneShot(
        space=studies.question.space,
        starts=tuple(map(Pattern.parse, studies.search.facts.get("start_from", ()))),
        costs=prepared.costs,
        direction=prepared.purpose.direction,
        alone=alone,
        known=known if whole else {},
        fallen_back=bool(studies.search.facts.get("fallen_back")),
        keep=keep,
        made=made if whole else made - {prepared.seed},
    )


@contextmanager
def opened(question: Question, how: How, watcher: Watcher, *, alone: bool = False) -> Iterator[Studies]:
    """Open (or make) the study under a lease and heal it; gives the lease back at the end.

    One process drives it `alone`, on any database, or on PostgreSQL beside others. The fronts of `how.start_from` come
    first, after the unchanged model.
    """
    layers = question.num_layers
    sizes = question.parameters_of if question.costs is None else question.costs.values
    url = parse_url(how.storage)
    with ExitStack() as closed:
        storage = open_storage(url, watcher.say, create=True)
        closed.callback(storage.engine.dispose)
        space, say = question.space, watcher.say
        fronts = [front_of_another(source, how.storage, space, layers, say) for source in how.start_from]
        lease = take_lease(storage, url, how.name, holder_of(storage, how.name), alone=alone)
        closed.callback(lease.release)
        study = Study(
            storage,
            how.name,
            question.purpose,
            lease,
            how.folder,
            num_layers=layers,
            space=space,
            sampler=question.sampler,
            seed=question.seed,
            parameters=sizes if is_screened(question) else None,
            costs=question.costs,
        )
        known = {name: [*map(str, patterns)] for name, patterns in space.known.items()}
        found = {"spelled": known} if known else {}
        study.note(driver=f"{socket.gethostname()} pid {os.getpid()}", **question.facts, **found)
        healed = study.heal()
        if healed:
            say(f"{healed} trial{'s' * (healed > 1)} left running by a driver that died: queued again")
        study.start_with([pattern for front in fronts for pattern in front])
        yield Studies(question, how, storage, lease, study)


def make_evaluator(prepared: Prepared, how: How) -> Evaluator:
    """Load the base model and tokenise the splits."""
    from layersearch.models.base import load_base, load_reader

    task, recipe = prepared.task, prepared.what.recipe
    reader = load_reader(prepared.folder, task.kind)
    base = load_base(prepared.folder, num_labels=task.num_labels, kind=task.kind)
    parts = {"train": prepared.splits.train, "search": prepared.splits.search, "validation": prepared.splits.validation}
    data: Mapping[str, Encoded] = {
        name: task.encode(examples, reader, recipe.max_length) for name, examples in parts.items()
    }
    one_shot = OneShotRecipe(taught=0.0) if prepared.what.method == "tune-drop-tune" else OneShotRecipe()
    device = resolve_device(how.device)
    return Evaluator(base=base, task=task, recipe=recipe, data=data, device=device, one_shot=one_shot)


def _require_disk(how: How, counts: PartCounts, checkpoints: int) -> None:
    """Refuse to start where not even so many checkpoints of the unchanged model (fp32) fit."""
    needed = checkpoints * BYTES_A_PARAMETER * counts.total
    free = shutil.disk_usage(next(place for place in how.folder.parents if place.exists())).free
    if free < needed:
        raise LayersearchError(
            f"{free / 1e6:.0f} MB are free at {how.files} and {checkpoints} checkpoints need {needed / 1e6:.0f} MB; "
            "free some space, or name another place with --files"
        )
