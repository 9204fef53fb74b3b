"""A whole run: base model, task and space to a study with a confirmed front.

Knows: how the parts fit together, with an inline executor (a for-loop) or with Ray. Does not know: words of the command
line, how anything is shown.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from layersearch.errors import LayersearchError, StoppedError, StudyError
from layersearch.pattern import PartCounts, Pattern
from layersearch.search.driver import Driver, Watcher, front_to_confirm
from layersearch.search.found import holder_of
from layersearch.search.one_shot import OneShot, patterns_to_share
from layersearch.search.purpose import Purpose
from layersearch.search.question import TRIALS, How, Prepared, Question, What, prepare, resolve_device
from layersearch.search.record import CONFIRMATION, SHARED
from layersearch.search.replay import Replay
from layersearch.search.storage import Lease, PatientStorage, open_storage, parse_url, take_lease
from layersearch.search.study import Study
from layersearch.tasks.task import Encoded
from layersearch.training.evaluator import Evaluator, Job, Outcome, Split
from layersearch.training.finetune import Heartbeat
from layersearch.training.recipe import BYTES_A_PARAMETER

Evaluate = Callable[[Job, Heartbeat], Outcome]
Executor = Callable[[Driver], None]  # works a driver off


def run(what: What, how: How, *, trials: int | None, confirm: int, watcher: Watcher, command: str = "") -> Study:
    """Search until the study holds `trials` complete trials, then confirm its front with `confirm` fresh seeds each.

    The same call continues a study that is already there. Raises StoppedError after a clean stop (Ctrl-C, SIGTERM);
    everything finished until then is in the study. `command` is written down as what made it. Without `trials` it is
    TRIALS for fine-tuning, and as many as the front of the shared scores for a one-shot search.
    """
    prepared = prepare(what)
    resolve_device(how.device)
    for warning in prepared.splits.warnings:
        watcher.say(f"warning: {warning}")
    _require_disk(how, prepared.counts, 2 if what.method == "fine-tune" else 4 + 2 * confirm)

    def make() -> Executor:
        evaluator = make_evaluator(prepared, how)
        if how.workers == 0:
            return partial(run_inline, evaluate=evaluator)
        from layersearch.search.cluster import run_with_ray

        return partial(run_with_ray, evaluator=evaluator, how=how)

    if trials is None and what.method == "fine-tune":
        trials = TRIALS
    one_shot = partial(_one_shot, prepared) if what.method == "one-shot" else None
    return _search(prepared, how, make, one_shot, trials=trials, confirm=confirm, watcher=watcher, command=command)


def run_replay(replay: Replay, how: How, *, trials: int, watcher: Watcher, command: str = "") -> Study:
    """Search like `run`, with the scores of a table: no model, no data, no workers, and nothing to confirm."""

    def make() -> Executor:
        return partial(run_inline, evaluate=replay.evaluate)

    return _search(replay, how, make, None, trials=trials, confirm=0, watcher=watcher, command=command)


def _search(
    question: Question,
    how: How,
    make: Callable[[], Executor],
    one_shot: Callable[[Studies], OneShot] | None,
    *,
    trials: int | None,
    confirm: int,
    watcher: Watcher,
    command: str,
) -> Study:
    """Open the study and work it off with what `make` makes, unless nothing is left to do."""
    with opened(question, how, watcher, proposes=one_shot is None) as studies:
        studies.search.note(**({"command": command} if command else {}))
        method = one_shot(studies) if one_shot else None
        driver = Driver(
            study=studies.search,
            trials=trials,
            watcher=watcher,
            open_confirmation=(lambda: studies.confirmation(confirm, method)) if confirm else None,
            one_shot=method,
        )
        if driver.done or (driver.searched and studies.confirmed(confirm)):
            return studies.search
        execute = make()
        with stopped_by_signals(driver):
            execute(driver)
        if driver.stopping:
            raise StoppedError("stopped; every finished trial is in the study. The same command goes on from here")
        if method is not None:
            method.drop_networks_of_confirmation()
        return studies.search


def run_inline(driver: Driver, evaluate: Evaluate) -> None:
    """The search as a for-loop in this process: what Ray's workers do, one after another."""

    def heartbeat(number: int, share: float) -> None:
        if driver.stopping:
            raise StoppedError("stopped")
        driver.watcher.progressed(number, share)

    while not driver.done:
        job = driver.next_job()
        if job is None:
            continue
        try:
            driver.finish(evaluate(job, partial(heartbeat, job.number)))
        except StoppedError:
            driver.abandon("stopped before it was finished")


@dataclass(frozen=True)
class Studies:
    """The search's study, and the way to open its confirmation."""

    question: Question
    how: How
    storage: PatientStorage
    lease: Lease
    search: Study

    def confirmation(self, seeds: int, one_shot: OneShot | None = None) -> Study:
        """The study NAME.confirm with the front and the unchanged model queued, `seeds` fresh seeds each.

        With `one_shot` it plans the front, and only the unchanged models are queued.
        """
        study = self.sibling(CONFIRMATION, "validation")
        study.heal()
        pairs = self._to_confirm(seeds)
        if one_shot is not None:
            one_shot.planned = pairs
            pairs = [pair for pair in pairs if pair[0] == one_shot.unchanged]
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
        )

    def _to_confirm(self, seeds: int) -> list[tuple[str, int]]:
        first = self.question.seed + 1
        unchanged = str(Pattern.full(self.question.num_layers))
        front = front_to_confirm(self.search.front(), unchanged)
        return [(pattern, seed) for seed in range(first, first + seeds) for pattern in front]


def _one_shot(prepared: Prepared, studies: Studies) -> OneShot:
    """The one-shot search of a study, with what is known of its networks. Raises StudyError beside other drivers."""
    if not studies.lease.alone:
        raise StudyError("a one-shot search is driven by one process alone: give --storage an SQLite file")
    from layersearch.models.checkpoint import is_complete

    shared = studies.sibling(SHARED, "shared")
    counts, folder = prepared.counts, studies.how.folder / "networks"

    def keep(outcome: Outcome) -> None:
        for text, score in outcome.shared.items():
            shared.add(text, outcome.seed, score, Pattern.parse(text).parameters(counts))
        shared.note(work=outcome.work, seconds=outcome.seconds)

    known = {row.pattern: row.score for row in shared.rows() if row.score is not None}
    made = {int(made.name.removeprefix("super-")) for made in folder.glob("super-*") if is_complete(made)}
    studies.search.note(networks=str(folder))
    patterns = patterns_to_share(prepared.space, counts.num_layers, prepared.seed)
    whole = "work" in shared.facts  # noted after the last score
    return OneShot(
        patterns=patterns,
        counts=counts,
        direction=prepared.purpose.direction,
        folder=folder,
        seed=prepared.seed,
        known=known if whole else {},
        keep=keep,
        made=made if whole else made - {prepared.seed},
    )


@contextmanager
def opened(question: Question, how: How, watcher: Watcher, *, proposes: bool = True) -> Iterator[Studies]:
    """Open (or make) the study under a lease and heal it; gives the lease back at the end.

    A study that does not propose patterns by itself starts with the unchanged model.
    """
    url = parse_url(how.storage)
    storage = open_storage(url, watcher.say, create=True)
    lease = take_lease(storage, url, how.name, holder_of(storage, how.name))
    try:
        study = Study(
            storage,
            how.name,
            question.purpose,
            lease,
            how.folder,
            num_layers=question.num_layers,
            space=question.space if proposes else None,
            sampler=question.sampler,
            seed=question.seed,
            parameters=question.parameters,
        )
        study.note(driver=f"{socket.gethostname()} pid {os.getpid()}", **question.facts)
        healed = study.heal()
        if healed:
            watcher.say(f"{healed} trial{'s' * (healed > 1)} left running by a driver that died: queued again")
        if not proposes:
            study.enqueue(str(Pattern.full(question.num_layers)), question.seed)
        yield Studies(question, how, storage, lease, study)
    finally:
        lease.release()
        storage.engine.dispose()


def make_evaluator(prepared: Prepared, how: How) -> Evaluator:
    """Load the base model and tokenise the splits."""
    from transformers import AutoTokenizer

    from layersearch.models.base import load_base

    task, recipe = prepared.task, prepared.what.recipe
    tokenizer = AutoTokenizer.from_pretrained(prepared.folder, local_files_only=True, trust_remote_code=False)
    base = load_base(prepared.folder, num_labels=task.num_labels, kind=task.kind)
    parts = {"train": prepared.splits.train, "search": prepared.splits.search, "validation": prepared.splits.validation}
    data: Mapping[str, Encoded] = {
        name: task.encode(examples, tokenizer, recipe.max_length) for name, examples in parts.items()
    }
    return Evaluator(base=base, task=task, recipe=recipe, data=data, device=resolve_device(how.device))


def _require_disk(how: How, counts: PartCounts, checkpoints: int) -> None:
    """Refuse to start where not even so many checkpoints of the unchanged model (fp32) fit."""
    needed = checkpoints * BYTES_A_PARAMETER * counts.total
    free = shutil.disk_usage(next(place for place in how.folder.parents if place.exists())).free
    if free < needed:
        raise LayersearchError(
            f"{free / 1e6:.0f} MB are free at {how.files} and {checkpoints} checkpoints need {needed / 1e6:.0f} MB; "
            "free some space, or name another place with --files"
        )


@contextmanager
def stopped_by_signals(driver: Driver) -> Iterator[None]:
    """The first Ctrl-C or SIGTERM stops the driver cleanly; a second Ctrl-C is Python's own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_number: int, _frame: object) -> None:
        driver.stopping = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
        driver.watcher.say("stopping: what runs is queued again, what is finished is kept")

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
