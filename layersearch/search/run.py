"""A whole run: base model, task and space to a study with a confirmed front.

Knows: how the parts fit together, with an inline executor (a for-loop) or with Ray. Does not know: words of the command
line, how anything is shown.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial

from layersearch.errors import StoppedError, StudyError, WordsError
from layersearch.pattern import Pattern
from layersearch.search.distill import Distill, to_hold
from layersearch.search.driver import Driver
from layersearch.search.halving import Rungs
from layersearch.search.keeping import keeping_of, require_disk
from layersearch.search.measured_costs import with_measured
from layersearch.search.one_shot import OneShot
from layersearch.search.preparing import prepare
from layersearch.search.question import (
    NETWORKS,
    How,
    Prepared,
    Question,
    What,
    remarks,
    require_place,
    resolve_device,
    trials_of,
)
from layersearch.search.replay import Replay
from layersearch.search.signals import STOPPED, ended_by_signals, stopped_by_signals
from layersearch.search.spelling import knowing, spelled, stored_of
from layersearch.search.studies import Studies, opened, warm
from layersearch.search.study import Study
from layersearch.search.timing import time_front
from layersearch.search.trials import Row
from layersearch.search.watcher import Watcher
from layersearch.tasks.task import Encoded
from layersearch.training.evaluator import Evaluator
from layersearch.training.job import Job, Outcome
from layersearch.training.recipe import Halving, OneShotRecipe
from layersearch.training.steps import Heartbeat

WAIT_SECONDS = 0.5  # between two questions for a job where other drivers' scores come first

Course = Callable[[Job, Heartbeat], Generator[Outcome, None, None]]  # a job's outcomes, one a rung
Executor = Callable[[Driver], None]  # works a driver off


def run(
    what: What,
    how: How,
    *,
    trials: int | None,
    confirm: int,
    watcher: Watcher,
    command: str = "",
    replicates: int = 0,
) -> Study:
    """Search until the study holds `trials` complete trials, then confirm its front with `confirm` fresh seeds each.

    Between the two, patterns near the front get up to `replicates` further seeds on the search's split.
    The same call continues a study that is already there. Raises StoppedError after a clean stop (Ctrl-C, SIGTERM);
    everything finished until then is in the study. `command` is written down as what made it. Without `trials` it is
    TRIALS, and for a one-shot search as many as the front of the shared scores; with `how.until_plateau` it is the size
    of the space, or UNTIL_PLATEAU. The end says why it came.
    """
    asked = prepare(what)
    resolve_device(how.device)  # one that is absent is said before there is a study, and so is a place
    require_place(how)
    prepared = with_measured(spelled(asked, how, watcher.say), how, watcher.say)
    for warning in prepared.splits.warnings:
        watcher.say(f"warning: {warning}")
    for line in remarks(prepared):
        watcher.say(line)
    require_disk(prepared, how, replicates + confirm)
    make, warm = partial(_executor, prepared, how), _warming(prepared)
    after = partial(time_front, prepared, how, watcher.say)
    then = Then(replicates, confirm)
    return _search(prepared, how, make, warm, after, trials=trials, then=then, watcher=watcher, command=command)


def run_replay(replay: Replay, how: How, *, trials: int | None, watcher: Watcher, command: str = "") -> Study:
    """Search like `run`, with the scores of a table: no model, no data, no workers, and nothing to confirm."""
    require_place(how)
    if not replay.table.sized:
        watcher.say(f"{replay.table.name} has no column `parameters`: they are counted in thirds of a layer")
    unchanged = str(Pattern.full(replay.num_layers))
    if unchanged not in replay.table.known:
        watcher.say(f"{replay.table.name} has no row for the unchanged model {unchanged}: there is no baseline")

    def make() -> Executor:
        return partial(run_inline, course=replay.course)

    known = knowing(replay, stored_of(replay, how.device, watcher.say))
    return _search(known, how, make, None, None, trials=trials, then=Then(), watcher=watcher, command=command)


@dataclass(frozen=True)
class Then:
    """What follows a search: rounds of further seeds for patterns near its front, and the seeds that confirm it."""

    replicates: int = 0
    confirm: int = 0

    def opening(self, studies: Studies, method: Distill | OneShot | None) -> list[Callable[[], Study]]:
        """What opens the studies of it, one after another."""
        rounds = [partial(studies.replicates, number, method) for number in range(1, self.replicates + 1)]
        return [*rounds, *([partial(studies.confirmation, self.confirm, method)] if self.confirm else [])]

    def is_done(self, studies: Studies) -> bool:
        """Whether nothing of it is left to do."""
        return studies.replicated(self.replicates) and (not self.confirm or studies.confirmed(self.confirm))


def _search(
    question: Question,
    how: How,
    make: Callable[[], Executor],
    warm: Callable[[Studies], Distill | OneShot] | None,
    after: Callable[[Study, list[str]], None] | None,
    *,
    trials: int | None,
    then: Then,
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
            then=then.opening(studies, method),
            warm=method,
            halving=None if halving is None else _rungs(question, halving),
            seconds=how.seconds,
            until_plateau=how.until_plateau,
            keeping=keeping_of(question, how, then.confirm, studies.further(), then.replicates),
        )
        if not (driver.done or (driver.searched and then.is_done(studies))):
            _work_through(driver, make)
        if then.replicates:
            keeping_of(question, how, 0, studies.further()).tidy(studies.search)
        if method is not None:
            method.clean_up()
        if after is not None:
            after(studies.search, [row.pattern for row in studies.front()])
        watcher.say(f"the search ended: {driver.ended}")
        return studies.search


def confirm(prepared: Prepared, how: How, *, seeds: int, watcher: Watcher, trials: Sequence[int] = ()) -> None:
    """Train the front of a study and the unchanged model again, by the study's own method, with `seeds` fresh seeds.

    In place of the front the complete trials numbered `trials`. What has been confirmed is not trained again, so that
    more seeds only add the missing ones; the same call continues one that was stopped. Raises StoppedError after a
    clean stop, StudyError for a study or a trial without a score.
    """
    for warning in prepared.splits.warnings:
        watcher.say(f"warning: {warning}")
    alone = prepared.what.method not in ("fine-tune", "halving")
    require_place(how)
    require_disk(prepared, how, seeds, confirming=True)
    with opened(prepared, how, watcher, alone=alone or prepared.halving is not None, settled=False) as studies:
        rows = chosen(studies, trials)
        if studies.confirmed(seeds, rows):
            return
        warming = _warming(prepared)
        method = warming(studies) if warming else None
        keeping = keeping_of(prepared, how, seeds, studies.further())
        keeping.make_room(studies.search, keeping.to_confirm)
        study = studies.confirmation(seeds, method, rows)
        driver = Driver(
            study=study, trials=to_hold(study, method.planned if method else ()), watcher=watcher, warm=method
        )
        _work_through(driver, partial(_executor, prepared, how))
        if method is not None:
            method.clean_up()


def chosen(studies: Studies, numbers: Sequence[int]) -> list[Row]:
    """The complete trials with these numbers, or the front. Raises WordsError where one has no score."""
    search = studies.search
    done = {row.number: row for row in search.rows() if row.done}
    absent = [number for number in numbers if number not in done]
    if absent:
        raise WordsError(
            f"trial {absent[0]} of {search.name!r} has no score to confirm; `layersearch front --all` lists those that "
            "have one"
        )
    rows = [done[number] for number in numbers] or studies.front()
    if not rows:
        raise StudyError(f"study {search.name!r} has no finished trial to confirm; continue it with `layersearch run`")
    return rows


def _warming(prepared: Prepared) -> Callable[[Studies], Distill | OneShot] | None:
    """What makes that which asks in place of the study where candidates start from what was trained before."""
    return None if prepared.what.method in ("fine-tune", "halving") else partial(warm, prepared)


def _executor(prepared: Prepared, how: How) -> Executor:
    """What works a driver off: with everything loaded, in this process or with Ray."""
    evaluator = make_evaluator(prepared, how)
    if how.workers == 0:
        return partial(run_inline, course=evaluator.course)
    from layersearch.search.cluster import run_with_ray

    return partial(run_with_ray, evaluator=evaluator, how=how)


def _work_through(driver: Driver, make: Callable[[], Executor]) -> None:
    """Let what `make` makes do all that the driver has. Raises StoppedError if that was stopped."""
    with ended_by_signals():
        execute = make()
    with stopped_by_signals(driver):
        execute(driver)
    if driver.stopping:
        raise StoppedError(STOPPED)


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
    device, method = resolve_device(how.device), prepared.what.method
    return Evaluator(base, task, recipe, data, device, one_shot, warm=method in NETWORKS)
