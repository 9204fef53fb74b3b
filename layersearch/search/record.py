"""A study as a reader sees it: rows, front, confirmation and facts, without driving it.

Knows: how to find a study and its confirmation in a database. Does not know: writing, models, looks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial

from layersearch.errors import StudyError, WordsError
from layersearch.models.families import Form, form_of
from layersearch.pattern import Pattern
from layersearch.search.agreement import Agreement, agreement_of
from layersearch.search.certainty import Certainty, certainties
from layersearch.search.cheap import CheapRanking, best_agreement
from layersearch.search.divergence import Divergence, divergences
from layersearch.search.files import is_whole
from layersearch.search.optimism import Optimism, optimism_of
from layersearch.search.purpose import Purpose
from layersearch.search.replicates import averaged
from layersearch.search.storage import Say, open_storage, parse_url, shown
from layersearch.search.times import Latency, Runtime, Setting, settings, times_of
from layersearch.search.trials import (
    IN_WORDS,
    Confirmed,
    Row,
    as_record,
    baseline_of,
    confirmed_of,
    front_of,
    in_words,
    kept_share,
    rows_of,
    tied,
    tied_with_next,
)
from layersearch.training.recipe import compressed_bytes

CONFIRMATION = ".confirm"  # the study NAME.confirm holds the confirmation of the study NAME
AGAIN = ".again"  # the study NAME.again holds further seeds of patterns near the front
SHARED = ".shared"  # the study NAME.shared holds the scores over its super-network


@dataclass(frozen=True)
class Record:
    """What a study holds. `facts` are its notes (where model and data lie, counts), `confirmed` is by pattern.

    The score of a row is the mean of all seeds that its pattern has on its split.
    A row names its checkpoint only while the folder is there. `spelled_none` are the states, by number, of the trials
    that have no pattern and so no row: most of them wait. `shared` are the scores over a super-network, by pattern;
    `shared_work` is what it took to train it, in fine-tunings of the unchanged model, and `network` has its scores as
    rows. `divergences` tells, by pattern, how many seeds of the confirmation came to nothing.
    """

    name: str
    purpose: Purpose
    facts: Mapping[str, Any]
    rows: tuple[Row, ...]
    confirmed: Mapping[str, Confirmed]
    spelled_none: Mapping[int, str] = field(default_factory=dict)
    shared: Mapping[str, float] = field(default_factory=dict)
    shared_work: float = 0.0
    divergences: Mapping[str, Divergence] = field(default_factory=dict)
    network: tuple[Row, ...] = ()

    @property
    def over_network(self) -> Record:
        """What the study NAME.shared holds, as a study of its own, without weights."""
        purpose = replace(self.purpose, scored_on="shared")
        facts = {name: value for name, value in self.facts.items() if name != "folder"}
        return Record(self.name + SHARED, purpose, facts, self.network, {})

    @property
    def unchanged(self) -> str:
        """The pattern of the unchanged model."""
        return str(Pattern.full(int(self.facts["num_layers"])))

    @property
    def parameters(self) -> int:
        """Parameters of the unchanged model."""
        return int(self.facts["parameters"])

    @cached_property
    def baseline(self) -> Row | None:
        """The unchanged model's row, if it is complete."""
        return baseline_of(self.rows, self.unchanged)

    @cached_property
    def front(self) -> list[Row]:
        """The front, largest candidate first."""
        return front_of(self.rows, self.purpose.direction)

    def form(self, row: Row) -> Form | None:
        """The form in which the row's candidate is exported, None where the study has no weights."""
        return None if "replay" in self.facts else form_of(Pattern.parse(row.pattern), self.facts.get("model_type", ""))

    def costs_of(self, row: Row) -> dict[str, float]:
        """The objectives of a complete row by name, as they are counted; without score and parameters."""
        named = zip(self.purpose.costs, row.sizes, strict=True)
        return {name: value for name, value in named if name != "parameters"}

    def zeros_of(self, row: Row) -> dict[str, float | None]:
        """What is left of a row's parameters where the recipe makes zeros: their number, bytes without zeros, share."""
        if "recipe.sparsity" not in self.purpose.values:
            return {}
        known = row.parameters is not None and row.non_zero is not None
        left = compressed_bytes(row.parameters or 0, row.non_zero or 0) if known else None
        return {"non_zero": row.non_zero, "sparsity": row.sparsity, "compressed_bytes": left}

    def times(self, row: Row) -> dict[Setting, Latency]:
        """By runtime and batch size what the built candidate took, where it was timed."""
        return times_of(self.facts, row.pattern)

    def latency(self, row: Row, runtime: Runtime = "PyTorch") -> float | None:
        """Milliseconds that the built candidate takes for a batch of one, where it was timed."""
        found = self.times(row).get((runtime, 1))
        return None if found is None else found.median

    @property
    def timed_settings(self) -> list[Setting]:
        """The runtimes and batch sizes at which anything was timed."""
        known = [times_of(self.facts, pattern) for pattern in self.facts.get("timed", {})]
        return [setting for setting in settings() if any(setting in times for times in known)]

    @property
    def stopped(self) -> dict[float, int]:
        """How many candidates halving stopped for good, by the share of the training at which it did."""
        return dict(sorted(Counter(max(row.rungs) for row in self.rows if row.stopped).items()))

    def shown(self, *, everything: bool = False) -> list[Row]:
        """What reports list: the front, after the unchanged model where that is beaten; or every complete trial."""
        if everything:
            return [row for row in self.rows if row.done]
        front, baseline = self.front, self.baseline
        return front if baseline is None or baseline in front else [baseline, *front]

    @property
    def agreement(self) -> Agreement | None:
        """How well shared scores rank the candidates that were fine-tuned, if that can be told."""
        return agreement_of(self.rows, self.shared, self.unchanged)

    @property
    def cheap(self) -> CheapRanking | None:
        """How well the best of the cheap scores ranks candidates of equal size, if they were measured."""
        return best_agreement(self.rows, self.purpose.direction)

    def skipped(self, reason: str) -> int:
        """How many proposals were skipped for a reason that begins so."""
        return sum(row.state == "PRUNED" and (row.reason or "").startswith(reason) for row in self.rows)

    def row(self, number: int) -> Row | None:
        """The row of trial `number`, None if it has no pattern; raises WordsError for a number that is not there."""
        row = next((r for r in self.rows if r.number == number), None)
        if row is None and number not in self.spelled_none:
            raise WordsError(
                f"study {self.name!r} has no trial {number}; `layersearch front --all` lists those with a score"
            )
        return row

    def trial(self, number: int) -> Row:
        """The row of trial `number`; raises WordsError for a number that is not there or not complete."""
        row = self.row(number)
        if row is not None and row.done:
            return row
        found = in_words(row) if row else IN_WORDS[self.spelled_none[number]]
        other = None if row is None else self.instead_of(row)
        instead = "another" if other is None else f"trial {other.number}, which has its pattern"
        raise WordsError(f"trial {number} of {self.name!r} {found}; take {instead}")

    def instead_of(self, row: Row) -> Row | None:
        """The complete trial of the same pattern and seed as `row`, which has no score of its own."""
        alike = (r for r in self.rows if not row.done and r.done and (r.pattern, r.seed) == (row.pattern, row.seed))
        return next(alike, None)

    def kept(self, row: Row) -> float | None:
        """The share of the unchanged model's score that a trial keeps in the search (`kept_share`)."""
        baseline = self.baseline
        return kept_share(row.score, None if baseline is None else baseline.score, self.purpose.direction)

    def kept_again(self, pattern: str) -> float | None:
        """The same on the validation set, where both are confirmed."""
        return self.certainty[pattern].kept if pattern in self.certainty else None

    @cached_property
    def certainty(self) -> Mapping[str, Certainty]:
        """How sure the figures of each confirmed pattern are."""
        return certainties(self.confirmed, self.unchanged, self.purpose.direction)

    @cached_property
    def optimism(self) -> Optimism | None:
        """How much better the front looked at selection than its confirmation bears out, where that can be told."""
        return optimism_of(self.front, self.baseline, self.confirmed, self.purpose.direction)

    def records(self, *, everything: bool = False) -> list[dict[str, Any]]:
        """What `shown` lists as plain values for CSV and JSON."""
        front, baseline = self.front, self.baseline
        ties = tied_with_next(front)

        def told(row: Row) -> dict[str, Any]:
            level = baseline is not None and row != baseline and tied(row, baseline)
            return {"tied_with_unchanged": level, "tied_with_next": row.number in ties, **self.columns(row)}

        return [
            as_record(
                row,
                baseline,
                self.confirmed.get(row.pattern),
                self.parameters,
                on_front=row in front,
                costs=told(row),
                direction=self.purpose.direction,
            )
            for row in self.shown(everything=everything)
        ]

    def columns(self, row: Row) -> dict[str, Any]:
        """What a row has in this study and not in every study: confirmation, other costs, limits, time, form."""
        found: dict[str, Any] = {**self.costs_of(row), **self.zeros_of(row)}
        found |= self._trust(row) if self.confirmed else {}
        found |= {"search_seeds": max(1, len(row.seeds))}
        found |= {"within_limits": row.allowed} if "limits" in self.purpose.values else {}
        found["form"] = self.form(row)
        times = self.times(row)
        medians, tails = {}, {}
        for runtime, size in self.timed_settings:
            time = times.get((runtime, size))
            ending = f"ms_batch_{size}"
            before = "" if runtime == "PyTorch" else "onnx_"
            medians[f"{before}median_{ending}"] = None if time is None else time.median
            tails[f"{before}p95_{ending}"] = None if time is None else time.p95
        return found | medians | tails

    def _trust(self, row: Row) -> dict[str, float | None]:
        """How sure the confirmed figures of a row are, how many seeds diverged, how much selection flattered it."""
        sure, optimism = self.certainty.get(row.pattern), self.optimism
        lost = self.divergences.get(row.pattern)
        rate: dict[str, float | None] = {"confirmed_diverged": None if lost is None else len(lost.diverged)}
        rate["divergence_rate"] = None if lost is None else lost.rate
        ends = {
            "confirmed": sure.interval if sure else None,
            "another_seed": sure.another if sure else None,
            "confirmed_kept": sure.kept_interval if sure else None,
        }
        low = {f"{name}_low": found[0] if found else None for name, found in ends.items()}
        high = {f"{name}_high": found[1] if found else None for name, found in ends.items()}
        flattered = None if optimism is None else optimism.patterns.get(row.pattern)
        return {"confirmed_kept": sure.kept if sure else None, **rate, **low, **high, "selection_optimism": flattered}


def names_of(storage_text: str) -> list[str]:
    """The studies of a database, confirmations and shared scores left out. Raises StudyError where there is none."""
    storage = open_storage(parse_url(storage_text), lambda _: None, create=False, reading=True)
    try:
        return _searches(s.study_name for s in storage.get_all_studies() if "purpose" in s.user_attrs)
    finally:
        storage.engine.dispose()


def _searches(names: Iterable[str]) -> list[str]:
    return sorted(name for name in names if not name.endswith((CONFIRMATION, AGAIN, SHARED)))


def read_study(storage_text: str, name: str | None, say: Say) -> Record:
    """Read the study called `name`, or the only one there is. Raises WordsError for another, StudyError for none."""
    url = parse_url(storage_text)
    storage = open_storage(url, say, create=False, reading=True)
    try:
        studies = {s.study_name: s for s in storage.get_all_studies() if "purpose" in s.user_attrs}
        name = _chosen(name, _searches(studies), shown(url))
        study = studies[name]
        confirmation, network = studies.get(name + CONFIRMATION), studies.get(name + SHARED)
        again = studies.get(name + AGAIN)
        further = rows_of(storage.get_all_trials(again._study_id)) if again else []
        scored = rows_of(storage.get_all_trials(network._study_id)) if network else []
        trials = storage.get_all_trials(study._study_id)
        purpose = Purpose.from_dict(study.user_attrs["purpose"])
        fresh = _rows(storage.get_all_trials(confirmation._study_id)) if confirmation else []
        return Record(
            name=name,
            purpose=purpose,
            facts=study.user_attrs,
            rows=tuple(averaged(_rows(trials), further)),
            confirmed=confirmed_of(fresh),
            divergences=divergences(fresh, purpose.direction),
            shared={row.pattern: row.score for row in scored if row.score is not None},
            network=tuple(scored),
            shared_work=float(network.user_attrs.get("work", 0.0)) if network else 0.0,
            spelled_none={t.number: t.state.name for t in trials if "pattern" not in t.user_attrs},
        )
    finally:
        storage.engine.dispose()


def read_front(storage_text: str, name: str | None, say: Say) -> Record:
    """`read_study`; of NAME.shared what the study NAME scored over its super-network. Raises WordsError."""
    if name is None or not name.endswith(SHARED):
        return read_study(storage_text, name, say)
    record = read_study(storage_text, name.removesuffix(SHARED), say)
    if not record.network:
        raise WordsError(f"study {record.name!r} has no scores over a super-network; --method one-shot makes them")
    return record.over_network


def _rows(trials: Iterable[FrozenTrial]) -> list[Row]:
    """The driver drops checkpoints that the front leaves behind, and a finished trial cannot be told so."""
    return [
        replace(row, checkpoint=None) if row.checkpoint and not is_whole(Path(row.checkpoint)) else row
        for row in rows_of(trials)
    ]


def _chosen(name: str | None, names: list[str], where: str) -> str:
    if name is None and len(names) == 1:
        return names[0]
    if not names:
        raise StudyError(f"{where} holds no study yet; `layersearch run` makes one")
    listed = ", ".join(names)
    if name is None:
        raise WordsError(f"name the study: {where} holds {listed}")
    if name not in names:
        raise WordsError(f"there is no study {name!r} in {where}; it holds {listed}")
    return name
