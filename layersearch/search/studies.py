"""A study and those beside it, opened and healed by the one who drives them: its confirmation, its shared scores.

Knows: the lease, names and endings, what a confirmation asks for, what candidates start from. Does not know: who works
a study off, Ray, training.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from layersearch.counts import count
from layersearch.pattern import Pattern
from layersearch.search.distill import Distill
from layersearch.search.found import holder_of
from layersearch.search.lease import Lease, take_lease
from layersearch.search.one_shot import OneShot
from layersearch.search.question import How, Prepared, Question, is_screened
from layersearch.search.record import AGAIN, CONFIRMATION, SHARED
from layersearch.search.replicates import averaged, round_of
from layersearch.search.starts import front_of_another
from layersearch.search.storage import PatientStorage, open_storage, parse_url
from layersearch.search.study import Study
from layersearch.search.trials import Row, front_of, front_to_confirm
from layersearch.search.watcher import Watcher
from layersearch.training.job import Outcome, Split


@dataclass(frozen=True)
class Studies:
    """The search's study, and the way to those beside it; `settled` if its files lie where `how` says from now on."""

    question: Question
    how: How
    storage: PatientStorage
    lease: Lease
    search: Study
    settled: bool = True

    def confirmation(
        self, seeds: int, warm: Distill | OneShot | None = None, chosen: Sequence[Row] | None = None
    ) -> Study:
        """The study NAME.confirm with the front, or `chosen`, and the unchanged model queued, `seeds` fresh seeds each.

        With `warm` it plans them, and only the unchanged models are queued.
        """
        study = self.sibling(CONFIRMATION, "validation")
        study.heal()
        pairs = self._to_confirm(seeds, chosen)
        if warm is not None:
            warm.plan(pairs, self.front() if chosen is None else chosen)
            pairs = [pair for pair in pairs if pair[0] == warm.unchanged]
        for pattern, seed in pairs:
            study.enqueue(pattern, seed)
        return study

    def front(self) -> list[Row]:
        """The front of what all seeds say together."""
        return front_of(averaged(self.search.rows(), self.further()), self.question.purpose.direction)

    def further(self) -> list[Row]:
        """The rows of the further seeds that patterns of the search have so far."""
        return self.sibling(AGAIN, "search").rows() if self._has_replicates else []

    @property
    def _has_replicates(self) -> bool:
        return any(found.study_name == self.how.name + AGAIN for found in self.storage.get_all_studies())

    def replicates(self, number: int, warm: Distill | OneShot | None = None) -> Study:
        """The study NAME.again with round `number` of further seeds for patterns near the front queued.

        The unchanged model is among them wherever there are any.
        """
        study = self.sibling(AGAIN, "search")
        study.heal()
        pairs = self._round(number, study.rows())
        if warm is not None:
            warm.plan(pairs, [row for row in self.search.rows() if row.done])
            pairs = [pair for pair in pairs if pair[0] == warm.unchanged]
        for pattern, seed in pairs:
            study.enqueue(pattern, seed)
        return study

    def replicated(self, rounds: int) -> bool:
        """Whether nothing of so many rounds of further seeds is left to do."""
        rows = self.sibling(AGAIN, "search").rows() if rounds and self._has_replicates else []
        done = _settled(rows)
        return all(done >= set(self._round(number, rows)) for number in range(1, rounds + 1))

    def _round(self, number: int, again: Sequence[Row]) -> list[tuple[str, int]]:
        purpose = self.question.purpose
        pairs = round_of(number, self.search.rows(), again, purpose.direction, self.question.seed)
        unchanged = str(Pattern.full(self.question.num_layers))
        return list(dict.fromkeys([*((unchanged, seed) for _, seed in pairs), *pairs]))

    def confirmed(self, seeds: int, chosen: Sequence[Row] | None = None) -> bool:
        """Whether nothing of the confirmation is left to do."""
        done = _settled(self.sibling(CONFIRMATION, "validation").rows())
        return done >= set(self._to_confirm(seeds, chosen))

    def sibling(self, ending: str, scored_on: Split) -> Study:
        """The study beside the search's whose name has `ending`; it proposes nothing by itself."""
        purpose = self.question.purpose
        return Study(
            self.storage,
            self.how.name + ending,
            replace(purpose, scored_on=scored_on),
            self.lease,
            self.how.folder / ending.removeprefix("."),
            num_layers=self.question.num_layers,
            space=None,
            sampler="RandomSampler",
            costs=self.question.costs and replace(self.question.costs, limits=()),
        )

    def _to_confirm(self, seeds: int, chosen: Sequence[Row] | None) -> list[tuple[str, int]]:
        first = self.question.seed + 1
        unchanged = str(Pattern.full(self.question.num_layers))
        front = front_to_confirm(self.front() if chosen is None else chosen, unchanged)
        return [(pattern, seed) for seed in range(first, first + seeds) for pattern in front]


def _settled(rows: Sequence[Row]) -> set[tuple[str, int]]:
    """Patterns and seeds that need no training any more: they have a score, or failed through their own fault."""
    return {(row.pattern, row.seed) for row in rows if row.done or (row.state == "FAIL" and not row.lost)}


def warm(prepared: Prepared, studies: Studies) -> Distill | OneShot:
    """What asks in place of the search's study, with what is known of its networks."""
    from layersearch.models.checkpoint import is_complete

    purpose, counts = prepared.purpose, prepared.counts
    folder = studies.how.folder / f"networks-{purpose.mark}-{purpose.training}"
    if studies.settled:
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
def opened(
    question: Question, how: How, watcher: Watcher, *, alone: bool = False, settled: bool = True
) -> Iterator[Studies]:
    """Open (or make) the study under a lease and heal it; gives the lease back at the end.

    One process drives it `alone`, on any database, or on PostgreSQL beside others. The fronts of `how.start_from` come
    first, after the unchanged model. Unless `settled`, the study's own files stay where they are, wherever `how` puts
    new ones.
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
        places = {"files": str(how.files.absolute()), "folder": str(how.folder), "disk": how.disk} if settled else {}
        study.note(driver=f"{socket.gethostname()} pid {os.getpid()}", **places, **question.facts, **found)
        healed = study.heal()
        if healed:
            say(f"{count(healed, 'trial')} left running by a driver that died: queued again")
        study.start_with([pattern for front in fronts for pattern in front])
        yield Studies(question, how, storage, lease, study, settled)
