"""The benchmark of search methods: what a run's rows are worth at each cost, with rows that are made up."""

from __future__ import annotations

import itertools
import math
from importlib import import_module
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layersearch.search.quality import Point, hypervolume

courses = import_module("results.search-cost.courses")
compare = import_module("results.search-cost.compare")
halving = import_module("results.search-cost.halving")
volumes = import_module("results.search-cost.volumes")
within = import_module("results.search-cost.within")

HEADER = "task,seed,trial,pattern,parameters,search,validation,shared,work,seconds\n"
ROWS = """stsb,0,0,0-5,100,0.80,0.81,,1.0,9
stsb,0,2,0-1,60,0.30,0.40,0.2,0.5,9
stsb,0,1,0-2,70,0.70,0.60,0.6,0.5,9
stsb,0,3,0 2,60,0.20,,0.1,0.5,9
stsb,0,,super-network,,,,,1.5,
stsb,1,0,0-5,100,0.80,0.82,,1.0,9
"""


def step(pattern: str, search: float, unseen: float, work: float = 1.0) -> object:
    return courses.Step(work, work, pattern, search, unseen)


def test_a_run_is_read_in_the_order_in_which_it_was_paid_for(tmp_path: Path) -> None:
    (tmp_path / "one_shot.csv").write_text(HEADER + ROWS)
    (tmp_path / "other.csv").write_text("task,seed\nstsb,0\n")  # no runs
    found = courses.read_runs(tmp_path)
    assert list(found) == [("stsb", "one-shot")]
    first, second = found["stsb", "one-shot"]
    steps = courses.steps_of(first, 60.0)
    assert [s.pattern for s in steps] == ["0-5", None, "0-2", "0-1", "0 2"]
    assert [s.work for s in steps] == [1.0, 1.5, 0.5, 0.5, 0.5]
    assert [s.seconds for s in steps] == [60.0, 90.0, 30.0, 30.0, 30.0]
    assert steps[2].search == pytest.approx(0.3)
    assert steps[2].unseen == pytest.approx(0.4)
    assert math.isnan(steps[4].unseen)
    assert len(courses.steps_of(second, 60.0)) == 1


def test_candidates_are_chosen_by_what_the_search_saw_and_judged_by_what_it_did_not() -> None:
    flattered, honest = step("0-1", 0.1, 0.9), step("0-2", 0.2, 0.2)
    assert courses.returned([honest, flattered]) == [flattered]
    curve = courses.curve_of([honest, flattered], 1.0, 1.0)
    assert curve.works == [1.0, 2.0]
    assert curve.volumes == [pytest.approx(0.8 * 0.5), pytest.approx(0.1 * 4 / 6)]  # error x share beaten


def test_what_is_paid_for_without_a_candidate_adds_nothing() -> None:
    curve = courses.curve_of([courses.Step(1.5, 2.0), step("0-2", 0.2, 0.2)], 1.0, 0.5)
    assert curve.volumes == [0.0, pytest.approx(0.8)]
    assert curve.seconds == [2.0, 3.0]


@given(st.lists(st.tuples(*[st.floats(0, 1.25, allow_subnormal=False)] * 2), min_size=1, max_size=12))
def test_growth_ends_at_the_whole_and_regret_falls_to_nothing(points: list[Point]) -> None:
    reference = (1.0, 1.0)
    found = volumes.growth(points, reference)
    assert all(later >= earlier - 1e-12 for earlier, later in itertools.pairwise(found))  # but for rounding
    assert found[-1] == hypervolume(points, reference)
    if found[-1] > 0:
        left = volumes.regret(found, found[-1])
        assert left[-1] == 0
        assert all(-1e-12 <= part <= 1 for part in left)


def test_what_is_not_paid_for_in_full_does_not_count() -> None:
    found = volumes.at_costs([1.0, 2.5, 2.5, 4.0], [0.1, 0.2, 0.3, 0.4], [0.0, 1.0, 2.4, 2.5, 9.0])
    assert found == [0, 0.1, 0.1, 0.3, 0.4]


def method(name: str, *points: tuple[float, float]) -> object:
    works, volumes = zip(*points, strict=True)
    return courses.Method("stsb", name, False, [courses.Curve(works, [10 * w for w in works], volumes)])


def test_methods_beside_each_other() -> None:
    late, early = method("late", (1.0, 0.0), (3.0, 1.2)), method("early", (0.5, 0.2), (2.0, 0.6), (9.0, 1.0))
    assert courses.above_from(late, early, "works") == 3.0
    assert courses.above_from(early, late, "works") is None
    assert courses.times_as_much(late, early, "seconds") == pytest.approx(90 / 30)
    assert courses.times_as_much(late, method("nothing", (1.0, 0.0)), "works") is None
    line = compare.against(late, [late, early])
    assert [record["beside"] for record in line] == ["early"]
    assert line[0]["hypervolume, times"] == "1.20"


def test_what_was_asked_for_is_said_to_be_reached_or_not() -> None:
    one_shot = method("one-shot", (1.0, 0.0), (4.0, 1.5))
    stock = method("stock: X", (0.5, 0.2), (8.0, 0.9), (32.0, 1.0))
    taught = method("distill", (1.0, 0.0), (40.0, 1.5))
    halving, full = method("halving", (3.0, 1.0)), method("layersearch, each fine-tuned", (4.0, 0.8), (8.0, 1.0))
    found = import_module("results.search-cost.claims").claims([one_shot, stock, taught, halving, full])
    assert [(line["measured"], line["reached"]) for line in found] == [
        ("1.50", "yes"),
        ("0 of 1; worst 1.50", "too few runs to say"),
        ("1.00 at 0.10", "yes"),
        ("from 4.0 fine-tunings (0.7 minutes) on", "no"),
        ("8.0 times", "yes"),
        ("0.38 of it", "yes"),
    ]


def test_tables_take_the_place_of_the_old_ones(tmp_path: Path) -> None:
    file = tmp_path / "README.md"
    file.write_text(f"before\n\n{compare.MARKS[0]}\nold\n{compare.MARKS[1]}\n\nafter\n")
    for text in ("first", "second"):
        compare.put(file, text)
    assert file.read_text() == f"before\n\n{compare.MARKS[0]}\n\nsecond\n\n{compare.MARKS[1]}\n\nafter\n"


def test_a_table_counts_when_it_has_every_pattern(tmp_path: Path) -> None:
    kept = [[layer for layer in range(6) if number >> layer & 1] for number in range(1, 64)]
    lines = [f"{' '.join(map(str, layers))},0.1,{len(layers) / 10}" for layers in kept]
    file = tmp_path / "minilm_l6_cola_subsets.csv"
    for header, score in (("search,validation", 0.6), ("matthews_epoch2,matthews_epoch1", 0.1)):
        file.write_text("\n".join([f"kept_layers,{header}", *lines]))
        found = compare.table_of("cola", [tmp_path / "none", tmp_path])
        assert found.points["0-5"] == (pytest.approx(1 - score), 1.0)
    file.write_text("\n".join(["kept_layers,search,validation", *lines[1:]]))
    assert compare.table_of("cola", [tmp_path]) is None


@pytest.mark.slow
def test_halving_pays_a_rung_at_a_time_and_returns_what_it_trained_to_the_end(tmp_path: Path) -> None:
    kept = [[layer for layer in range(6) if number >> layer & 1] for number in range(1, 64)]
    lines = [f"{' '.join(map(str, layers))},{len(layers) / 10}" for layers in kept]
    (tmp_path / "minilm_l6_cola_subsets.csv").write_text("\n".join(["kept_layers,matthews_epoch2", *lines]))
    problem = compare.table_of("cola", [tmp_path])
    rungs = [f"{text},{known.score / 3},{known.score / 2},0" for text, known in problem.table.known.items()]
    (tmp_path / "rungs.csv").write_text("\n".join(["pattern,first,second,work", *rungs]))
    steps = halving.halved(halving.with_rungs(problem, tmp_path / "rungs.csv"), 0, tmp_path, courses.Rate(0.0, 60.0))
    unchanged = next(number for number, found in enumerate(steps) if found.pattern == "0-5")
    assert sum(found.work for found in steps[: unchanged + 1] if found.work > 0) == pytest.approx(1.0)
    ended = [found for found in steps if found.pattern is not None]
    assert 5 <= len(ended) < 32
    assert {1, 6} <= {round(6 * courses.share_of(found)) for found in ended}  # small ones are not stopped for that
    assert sum(found.seconds for found in steps) == pytest.approx(360 * sum(found.work for found in steps))
    assert 63 / 9 * 3.5 / 6 < sum(found.work for found in steps) < 32 / 2


def test_seconds_are_a_line_over_layers(tmp_path: Path) -> None:
    file = tmp_path / "stock.csv"
    lines = ["way,layers,trained,scored,prepare_s,train_s,score_s"]
    trained, scored = compare.TRAINED // 2, compare.SCORED // 2  # half of what a candidate sees
    lines += [f"stock,{layers},{trained},{scored},8,{5 * layers},{2 * layers}" for layers in (6, 3)]
    lines += [f"layersearch,{layers},{trained},{scored},0,{layers},{1 + layers}" for layers in (6, 2, 4)]
    file.write_text("\n".join(lines) + "\n")
    rates = compare.rates_of(file)
    assert rates["stock"].of(4) == pytest.approx(8 + 14 * 4)
    assert rates["layersearch"].of(6) == pytest.approx(2 + 4 * 6)
    assert compare.rates_of(tmp_path / "none.csv")["stock"].of(2) == 2


def test_a_proposal_outside_the_table_becomes_the_nearest_that_is_in_it() -> None:
    import optuna

    from layersearch.pattern import Pattern
    from layersearch.space_files import load

    space = load("layers").within([Pattern.parse(text) for text in ("0-5", "0-2", "1-5")], 6)
    sampler = within.Within(optuna.samplers.RandomSampler(seed=0), space, 6)
    study = optuna.create_study(sampler=sampler, directions=["maximize", "minimize"])
    found = []
    for _ in range(3):
        trial = study.ask()
        pattern = space.suggest(trial, 6)
        assert pattern is not None
        trial.set_user_attr("pattern", str(pattern))
        found.append(str(pattern))
        study.tell(trial, (0.5, 1.0))
    assert sorted(found) == ["0-2", "0-5", "1-5"]
