"""The command line: the whole way on a tiny model, and every bad input as one clear line.

Knows: words, exits, what is printed. Does not know: how anything is done.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections import namedtuple
from importlib.metadata import version
from pathlib import Path

import pytest
from transformers import AutoModelForSequenceClassification, MBartConfig, MBartForSequenceClassification

from layersearch import __version__, answering
from layersearch.pattern import Pattern
from layersearch.search.record import Record, read_study
from layersearch.search.starts import scaled
from layersearch.search.trials import Row
from tests.conftest import Said, TinyRun, call

ROOT = Path(__file__).parents[1]
NUMBER = r"\d+\.\d+"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty working folder, no storage from the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LAYERSEARCH_STORAGE", raising=False)


@pytest.fixture
def own(tiny_run: TinyRun, tmp_path: Path) -> Path:
    """A copy of the finished study's database, for tests that change it."""
    return Path(shutil.copy(tiny_run.storage, tmp_path / "own.db"))


def record_of(storage: Path) -> Record:
    return read_study(str(storage), None, print)


def refused(said: Said, code: int = 1) -> str:
    """The one line of an error, behind nothing but what had been said before; no trace and no result."""
    lines = said.err.splitlines()
    assert said.code == code, said
    assert said.out == ""
    assert "Traceback" not in said.err
    assert lines[-1].startswith("error: "), said.err
    assert all(line.startswith(("warning: ", "searching: ")) for line in lines[:-1]), said.err
    return lines[-1]


# -- the way from a question to an exported folder ---------------------------------------------------------------------


def test_a_run_tells_each_trial_and_ends_with_the_front_and_the_next_commands(tiny_run: TinyRun) -> None:
    err = tiny_run.said.err
    assert "searching: study tiny, 0 of 5 trials finished" in err
    assert re.search(rf"trial 0: 0-3  accuracy {NUMBER}  11,714 parameters  \d+ s  \(1/5 done", err)
    assert "confirming on the validation set: study tiny.confirm, 0 of " in err
    out = tiny_run.said.out
    assert out.splitlines()[0].split()[:5] == ["trial", "layers", "pattern", "parameters", "share"]
    assert re.search(
        rf"^0 +████ +0-3 +11,714 +100\.0% +native +{NUMBER}( ~)? +{NUMBER}-{NUMBER} +100\.0% +\d+ ", out, re.MULTILINE
    )
    commands = [line.split()[:2] for line in out.partition("next:")[2].splitlines() if line]
    diverged = ["nothing", "to"]  # export: these tiny models learn nothing
    assert commands == [diverged, ["layersearch", "report"], ["layersearch", "dashboard"]]


def test_the_same_command_again_trains_nothing(tiny_run: TinyRun, own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("layersearch.training.evaluator.measure", lambda *_: pytest.fail("trained"))
    before = record_of(own)
    said = call("run", *tiny_run.what, "--study", "tiny", "--storage", own, "--workers", "0", "--trials", "5")
    assert said.code == 0, said.err
    after = record_of(own)
    assert (after.rows, after.confirmed) == (before.rows, before.confirmed)


def test_a_larger_number_of_trials_goes_on_and_trains_no_pattern_twice(tiny_run: TinyRun, own: Path) -> None:
    before = record_of(own)
    said = call("run", *tiny_run.what, "--study", "tiny", "--storage", own, "--workers", "0", "--trials", "7")
    assert said.code == 0, said.err
    assert "searching: study tiny, 5 of 7 trials finished" in said.err
    done = [row for row in record_of(own).rows if row.done]
    assert len(done) == len({row.pattern for row in done}) == 7
    assert [row for row in before.rows if row.done] == done[:5]


def test_the_front_is_printed_as_table_csv_and_json_and_drawn(tiny_run: TinyRun, tmp_path: Path) -> None:
    where = ("--storage", tiny_run.storage)
    front = record_of(tiny_run.storage).shown()
    table = call("front", "tiny", *where, "--png", "front.png")
    assert table.code == 0, table.err
    assert table.err == "drawn: front.png\n"
    assert (tmp_path / "front.png").stat().st_size > 10_000
    rows = json.loads(call("front", *where, "--json").out)
    assert [(r["trial"], r["pattern"], r["parameters"], r["score"]) for r in rows] == [
        (r.number, r.pattern, r.parameters, r.score) for r in front
    ]
    assert all(r["confirmed_seeds"] == 1 for r in rows)
    lines = list(csv.DictReader(io.StringIO(call("front", *where, "--csv").out)))
    assert [line["pattern"] for line in lines] == [r.pattern for r in front]
    assert [float(line["score"]) for line in lines] == [r.score for r in front]


def test_the_dashboard_is_served_as_it_is_asked_for(tiny_run: TinyRun, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, int, bool]] = []

    def serve(storage: str, port: int, *, writable: bool, say: object) -> None:
        assert say is answering.say
        asked.append((storage, port, writable))

    monkeypatch.setattr("layersearch.report.dashboard.serve", serve)
    for more in ((), ("--port", "0", "--writable")):
        said = call("dashboard", "--storage", tiny_run.storage, *more)
        assert said.code == 0, said.err
    assert asked == [(str(tiny_run.storage), 8080, False), (str(tiny_run.storage), 0, True)]


def test_all_adds_the_complete_trials_that_are_not_on_the_front(tiny_run: TinyRun) -> None:
    record = record_of(tiny_run.storage)
    done = {row.number for row in record.rows if row.done}
    assert {row.number for row in record.front} < done
    where = ("--storage", tiny_run.storage, "--all")
    table = re.findall(r"^(\d+) +[█·]{4} ", call("front", *where).out, re.MULTILINE)
    assert sorted(map(int, table)) == sorted(done)
    assert {row["trial"] for row in json.loads(call("front", *where, "--json").out)} == done


def test_an_exported_trial_opens_with_plain_from_pretrained(tiny_run: TinyRun, tmp_path: Path) -> None:
    """The export proves the folder in a fresh process, whose words are checked too."""
    row = record_of(tiny_run.storage).front[-1]
    said = call(
        "export", "tiny", "--storage", tiny_run.storage, "--trial", row.number, "--to", "small", "--device", "cpu"
    )
    assert said.code == 0, said.err
    assert re.search(
        r"small: proven in a fresh process in .* no missing or unexpected key, [\d,]+ parameters as counted", said.out
    )
    assert re.search(r"accuracy 0\.\d{4} before and after, on all 24 validation examples$", said.out, re.MULTILINE)
    assert """ or with layersearch.load('small'), which runs no code from it""" in said.out
    model, info = AutoModelForSequenceClassification.from_pretrained(tmp_path / "small", output_loading_info=True)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert sum(p.numel() for p in model.parameters()) == row.parameters
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md"} <= {
        f.name for f in Path("small").iterdir()
    }


def test_a_plan_lists_patterns_counts_and_costs_and_makes_nothing(tiny_run: TinyRun, tmp_path: Path) -> None:
    said = call("plan", *tiny_run.what, "--trials", "10", "--space", "halves", "--limit", "12", "--replicates", "2")
    assert said.code == 0, said.err
    assert re.search(r"^████ +0-3 +11,714 +100\.0% +[\d,]+ +[\d.,]+ +native +yes *$", said.out, re.MULTILINE)
    assert "with code" in said.out
    assert re.search(r"12 of [\d,]+ patterns listed", said.out)
    assert "seeds: 2 more at most for up to 8 patterns near the front and the unchanged model" in said.out
    assert re.search(
        r"work: 10 trials for about \d+ fine-tunings of .*, scoring left out; one fine-tuning is", said.out
    )
    lines = json.loads(call("plan", *tiny_run.what, "--limit", "0", "--json").out)
    assert len(lines) == 15
    first = {"pattern": "0-3", "parameters": 11714, "share": 1.0, "export": "native", "is_start": True}
    assert lines[0].items() >= first.items()
    assert lines[0]["macs"] > lines[-1]["macs"] > 0
    assert list(tmp_path.iterdir()) == []


def test_the_words_of_speed_and_place_change_nothing_in_a_plan(tiny_run: TinyRun) -> None:
    how = "--study s --storage s.db --files f --workers 3 --device cpu --ray-address local --stall-seconds 5"
    assert call("plan", *tiny_run.what, *how.split()) == call("plan", *tiny_run.what)
    assert list(Path().iterdir()) == []


# -- a table in place of training --------------------------------------------------------------------------------------

TABLE = """kept_layers,task,parameters,f1
0 1 2 3,rte,100,0.90
0 1 2,rte,80,0.88
0 1 3,rte,80,0.70
1 2 3,rte,80,0.60
0 1,rte,60,0.65
0,rte,40,0.55
0 1 2 3,cola,100,0.50
0 1 2,cola,80,0.40
"""


def replay(command: str, *more: str, table: str = TABLE) -> Said:
    """Ask `command` of the rows of RTE in a file that holds `table`."""
    Path("known.csv").write_text(table)
    return call(command, "--replay", "known.csv", "--score", "f1", "--where", "task=rte", *more)


def test_a_search_over_a_table_resumes_and_reads_like_any_other() -> None:
    said = replay("run", "--trials", "3")
    assert said.code == 0, said.err
    assert "searching: study known-layers, 0 of 3 trials finished" in said.err
    assert said.err.splitlines()[-1] == "the search ended: 3 trials are finished"
    again = replay("run")
    assert "searching: study known-layers, 3 trials asked for" not in again.err
    assert "searching: study known-layers, 3 of 40 trials finished" in again.err
    assert again.err.splitlines()[-1] == "the search ended: no pattern is left to try after 6 finished trials"
    assert [line.split()[2] for line in again.out.splitlines()[1:5]] == ["0-3", "0-2", "0-1", "0"]
    assert [line.split()[:2] for line in again.out.partition("next:")[2].splitlines() if line] == [
        ["layersearch", "report"],
        ["layersearch", "dashboard"],
    ]
    drawn = call("front", "--png", "front.png", "--all", "--csv")
    assert drawn.code == 0, drawn.err
    assert Path("front.png").stat().st_size > 10_000
    rows = {row["pattern"]: float(row["score"]) for row in csv.DictReader(io.StringIO(drawn.out))}
    assert rows == {"0-3": 0.9, "0-2": 0.88, "0-1 3": 0.7, "1-3": 0.6, "0-1": 0.65, "0": 0.55}
    assert "took its scores from known.csv and trained no model" in refused(
        call("export", "--trial", "0", "--to", "out")
    )


def test_the_table_that_front_writes_is_one_to_search(tiny_run: TinyRun) -> None:
    Path("again.csv").write_text(call("front", "--storage", tiny_run.storage, "--all", "--csv").out)
    said = call("run", "--replay", "again.csv")
    assert said.code == 0, said.err
    mine, theirs = (record_of(database).rows for database in (Path("layersearch.db"), tiny_run.storage))
    scores = [{row.pattern: row.score for row in rows if row.done} for rows in (mine, theirs)]
    assert scores[0] == scores[1]


def test_a_table_without_parameters_and_lower_scores_first() -> None:
    said = replay("run", "--minimize", "--time", "1h", table=TABLE.replace("parameters", "milliseconds"))
    assert said.code == 0, said.err
    assert said.err.startswith("known.csv has no column `parameters`: they are counted in thirds of a layer\n")
    baseline, best = (line.split() for line in said.out.splitlines()[1:3])
    assert (baseline[2], baseline[3]) == ("0-3", "12")
    assert (best[2], best[3]) == ("0", "3")  # the smallest has the lowest score, too
    assert "parameters are counted in thirds of a layer" in said.out


def test_a_plan_of_a_table_lists_its_patterns_and_costs_nothing(tmp_path: Path) -> None:
    said = replay("plan", "--limit", "4")
    assert said.code == 0, said.err
    assert re.search(r"^███· +0-2 +80 +80\.0% +no weights +yes *$", said.out, re.MULTILINE)
    assert "4 of 6 patterns listed" in said.out
    assert said.out.endswith("work: none; the table answers\n")
    cut = replay("plan", "--limit", "4", "--json")
    assert (len(json.loads(cut.out)), cut.err) == (4, "4 of 6 patterns listed; --limit 0 lists all\n")
    whole = replay("plan", "--csv")
    assert (len(whole.out.splitlines()), whole.err) == (7, "")
    assert [file.name for file in tmp_path.iterdir()] == ["known.csv"]


def test_bad_tables_are_one_line() -> None:
    assert refused(call("run", "--replay", "absent.csv")) == (
        "error: the table absent.csv cannot be read: No such file or directory"
    )
    assert "known.csv: unknown --score column 'f2' (did you mean 'f1'?); allowed: " in refused(
        replay("run", "--score", "f2"), code=2
    )
    assert "known.csv has no row with task=mrpc; task is one of cola, rte" in refused(
        call("run", "--replay", "known.csv", "--score", "f1", "--where", "task=mrpc"), code=2
    )
    Path("known.csv").write_text(TABLE)
    assert "choose with --where, task=" in refused(call("run", "--replay", "known.csv", "--score", "f1"), code=2)
    assert not Path("layersearch.db").exists()
    assert replay("run", "--trials", "2").code == 0
    line = refused(replay("run", "--minimize"))
    assert "study 'known-layers' was made for something else: direction is 'maximize' there and 'minimize' here" in line


# -- what comes first, and when to end ---------------------------------------------------------------------------------


def test_the_front_of_another_study_comes_first(tiny_run: TinyRun) -> None:
    front = [row.pattern for row in record_of(tiny_run.storage).front if row.pattern != "0-3"]
    deep = ["0-7", "0-6", "1-7", *(str(scaled(Pattern.parse(pattern), 4, 8)) for pattern in front)]
    rows = [f"{pattern},{900 - number},0.{9 - number}" for number, pattern in enumerate(deep)]
    Path("deep.csv").write_text("\n".join(["pattern,parameters,score", *rows]))
    said = call("run", "--replay", "deep.csv", "--start-from", f"tiny@{tiny_run.storage}", "--trials", "2")
    assert said.code == 0, said.err
    line = f"starting from the front of tiny: {len(front)} pattern{'s' * (len(front) > 1)}, scaled from 4 layers to 8"
    assert line in said.err.splitlines()
    assert [row.pattern for row in record_of(Path("layersearch.db")).rows] == ["0-7", deep[3]]
    line = refused(call("run", "--replay", "deep.csv", "--start-from", "tinny"), code=2)
    assert re.fullmatch(r"error: there is no study 'tinny' in \S+; it holds deep-layers", line)


def test_a_password_of_another_database_is_not_written_down() -> None:
    from layersearch.cli import _without_passwords
    from layersearch.search.question import How

    how = How("s", "postgresql://me:one@here/db", start_from=("a", "b@postgresql://me:two@there/db"))
    written = _without_passwords(f"layersearch run --storage {how.storage} --start-from {how.start_from[1]}", how)
    assert written == (
        "layersearch run --storage postgresql://me:***@here/db --start-from b@postgresql://me:***@there/db"
    )


def test_a_start_strategy_without_a_pattern_is_said_in_plan_and_run(tiny_run: TinyRun, own: Path) -> None:
    Path("mine.toml").write_text('choices = ["keep", "drop"]\nstart = ["top", "ffn-only", "duplicate"]\n')
    said = "strategies of the space that give none of its patterns for 4 layers: ffn-only, duplicate"
    assert call("plan", *tiny_run.what, "--space", "mine.toml").err == f"{said}\n"
    words = ("--space", "mine.toml", "--study", "mine", "--storage", own, "--workers", "0", "--trials", "1")
    run = call("run", *tiny_run.what, *words, "--confirm", "0")  # known from the other study: nothing is trained
    assert run.code == 0, run.err
    assert said in run.err.splitlines()


def test_a_run_says_why_it_ended(tiny_run: TinyRun) -> None:
    assert tiny_run.said.err.splitlines()[-1] == "the search ended: 5 trials are finished"


def test_the_version_is_the_installed_one() -> None:
    assert call("--version") == Said(0, f"layersearch {__version__}\n", "")
    assert version("layersearch") == __version__


def test_no_words_at_all_print_the_help() -> None:
    assert call() == call("--help")
    assert "dashboard" in call().out


# -- bad input: one clear line, nothing lost ---------------------------------------------------------------------------


def altered(what: tuple[str, ...], **options: str | Path) -> tuple[str | Path, ...]:
    """The words of a question with some options changed (the last one counts)."""
    return (*what, *(word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", value)))


def asked(tiny_run: TinyRun, storage: str | Path, **options: str | Path) -> Said:
    """Ask for a run that must not get as far as training."""
    words = altered(tiny_run.what, **{"study": "tiny", **options})
    return call("run", *words, "--storage", storage, "--workers", "0", "--trials", "1")


def test_workers_that_are_not_started_have_no_address(tiny_run: TinyRun) -> None:
    assert refused(asked(tiny_run, "s.db", ray_address="1.2.3.4:9"), code=2) == (
        "error: --ray-address 1.2.3.4:9 is where workers run, and --workers 0 starts none; leave one out"
    )


def test_an_unknown_model_folder(tiny_run: TinyRun) -> None:
    assert refused(asked(tiny_run, "s.db", model="./absent")) == (
        "error: model folder absent does not exist: give an existing folder or a hub name"
    )
    assert not Path("s.db").exists()


def test_a_hub_that_cannot_be_reached_is_said_within_two_seconds(
    tiny_run: TinyRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    began = time.monotonic()
    line = refused(asked(tiny_run, "s.db", model="nobody/no-such-model"))
    assert time.monotonic() - began < 2
    assert "model nobody/no-such-model is not on this machine" in line
    assert "cannot be reached (" in line
    assert "give --model FOLDER" in line


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("task", "mprc", "unknown task 'mprc' (did you mean 'mrpc'?); allowed: cola, sst2"),
        ("space", "layer", "unknown search space 'layer' (did you mean 'layers'?); allowed: dupl"),
        ("sampler", "NSGASampler", "unknown sampler 'NSGASampler' (did you mean 'NSGAIISampler'?); allowed: "),
        ("recipe", "defualt", "unknown recipe 'defualt' (did you mean 'default'?); allowed: default, glue-readme"),
        ("lr", "7", "--lr 7.0 is not possible; allowed: above 0 and at most 1"),
        ("epochs", "0", "--epochs 0.0 is not possible; allowed: above 0"),
        ("precision", "fp8", "--precision fp8 is not possible; allowed: auto, bf16 or fp32"),
        ("holdout", "1.5", "--holdout 1.5 is not a share between 0 and 1"),
        ("device", "tpu", "unknown device 'tpu' (did you mean 'cpu'?); allowed: auto, cpu, cuda"),
        (
            "min-score",
            "7",
            "--min-score 7 is more than a candidate can have: accuracy is 1 at most; allowed: a",
        ),
        ("min-score", "200%", "--min-score 200% is more than a candidate can have: accuracy is 1 at most"),
        ("study", 201 * "a", "--study is 201 bytes long; allowed: 200, "),
        ("study", "", "--study '' is not possible: a folder is called so; allowed: a name without a slash, such as "),
        ("study", "a/b", "--study 'a/b' is not possible"),
        ("storage", "nonsense://x/y", "--storage nonsense://... is not possible: studies lie in SQLite files or in "),
        ("storage", "postgresql://me:secret@", "cannot be opened: "),
        ("storage", "absent/s.db", "absent does not exist"),
        ("storage", "sqlite://", "an SQLite database in memory is lost with the process; give sqlite:///FILE.db"),
    ],
)
def test_a_word_that_is_wrong_is_named_with_what_is_allowed(
    tiny_run: TinyRun, option: str, value: str, words: str
) -> None:
    away = option == "storage" and value not in (
        "sqlite://",
        "nonsense://x/y",
    )  # nothing that can be opened
    line = refused(asked(tiny_run, **{"storage": "s.db", option: value}), code=1 if away else 2)
    assert words in line
    assert "secret" not in line


def test_a_file_that_is_no_database(tiny_run: TinyRun) -> None:
    Path("s.db").write_text("this is a letter, not a database " * 99)
    assert "s.db cannot be opened: file is not a database" in refused(asked(tiny_run, "s.db"))
    assert Path("s.db").read_text().startswith("this is a letter")


def test_a_data_folder_without_its_files_or_with_a_broken_row(
    tiny_run: TinyRun, tiny_data: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    assert "data folder empty has no train.tsv (it is empty)" in refused(asked(tiny_run, "s.db", data="empty"))
    shutil.copytree(tiny_data, tmp_path / "broken")
    lines = (tmp_path / "broken" / "train.tsv").read_text().splitlines()
    lines[6] = lines[6].replace("\t", " ")
    (tmp_path / "broken" / "train.tsv").write_text("\n".join(lines))
    line = refused(asked(tiny_run, "s.db", data="broken"))
    assert "broken/train.tsv, line 7: " in line
    assert not Path("s.db").exists()


def test_a_space_with_an_unknown_key(tiny_run: TinyRun) -> None:
    Path("mine.toml").write_text('choices = ["keep", "drop"]\nmin_layer = 2\n')
    line = refused(asked(tiny_run, "s.db", space="mine.toml"))
    assert (
        "search space mine.toml: unknown key 'min_layer' (did you mean 'min_layers'?); allowed: about, choices" in line
    )


def test_a_study_opened_with_another_question_names_both_values(tiny_run: TinyRun, own: Path) -> None:
    line = refused(asked(tiny_run, own, epochs="3"))
    assert "study 'tiny' was made for something else: --epochs is 2.0 there and 3.0 here" in line
    line = refused(asked(tiny_run, own, space="halves", sampler="RandomSampler"))
    assert "sampler is 'PatternSampler' there and 'RandomSampler' here; space is " in line
    assert len([row for row in record_of(own).rows if row.done]) == 5


def test_an_export_into_a_folder_that_is_not_empty(tiny_run: TinyRun) -> None:
    Path("full").mkdir()
    Path("full/mine.txt").write_text("mine")
    line = refused(call("export", "--trial", "0", "--to", "full", "--storage", tiny_run.storage))
    assert "full" in line
    assert "empty" in line
    assert [f.name for f in Path("full").iterdir()] == ["mine.txt"]


def test_an_export_of_a_pattern_with_halves(own: Path) -> None:
    half = tell_a_half(own)
    line = refused(call("export", "--trial", half.number, "--to", "out", "--form", "native", "--storage", own), code=2)
    assert line.startswith("error: the pattern `0-2 3a` ")
    assert not Path("out").exists()
    said = call("export", "--trial", half.number, "--to", "out", "--storage", own)
    assert said.code == 0, said.err
    assert "trust_remote_code=True" in said.out


def tell_a_half(storage: Path) -> Row:
    """Write a finished trial with a half into the study, as a search over halves would."""
    import optuna

    study = optuna.load_study(study_name="tiny", storage=f"sqlite:///{storage}")
    study.add_trial(optuna.trial.create_trial(values=[0.9, 9000.0], user_attrs={"pattern": "0-2 3a", "seed": 0}))
    study._storage._backend.engine.dispose()  # type: ignore[attr-defined]
    return record_of(storage).rows[-1]


def test_an_unknown_trial_and_an_unknown_study(tiny_run: TinyRun) -> None:
    where = ("--storage", tiny_run.storage)
    line = refused(call("export", "--trial", "99", "--to", "out", *where), code=2)
    assert line.startswith("error: study 'tiny' has no trial 99; `layersearch front --all` lists")
    line = refused(call("front", "tinny", *where), code=2)
    assert "there is no study 'tinny' in " in line
    assert "it holds tiny" in line
    for command in (("front",), ("dashboard",), ("export", "--trial", "0", "--to", "out")):
        assert "there is no study database " in refused(call(*command, "--storage", "absent.db"))
    assert not Path("absent.db").exists()


def test_a_family_without_a_row(tiny_run: TinyRun, tiny_model: Path) -> None:
    config = MBartConfig(vocab_size=25, d_model=16, encoder_layers=2, decoder_layers=2, max_position_embeddings=99)
    MBartForSequenceClassification(config).save_pretrained("mbart")
    shutil.copy(tiny_model / "tokenizer.json", "mbart")
    line = refused(asked(tiny_run, "s.db", model="mbart"))
    assert "the model family 'mbart' has no row in the families table, and 2 lists of its modules have num_hid" in line


def test_no_free_disk(tiny_run: TinyRun, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9 - 5000, 5000))
    line = refused(asked(tiny_run, "s.db"))
    assert line.startswith("error: 0 MB are free at layersearch-files and 2 checkpoints need 0 MB; free some space")


def test_a_process_of_its_own_ends_with_one_line_and_exit_1() -> None:
    """The same boundary without the tests around it: a fresh process, offline, as a user meets it."""
    command = [sys.executable, "-m", "layersearch", "plan", "--model", "nobody/no-such-model", "--task", "sst2"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: model nobody/no-such-model is not on this machine and offline mode is on")
    assert done.stderr.count("\n") == 1


def test_a_plan_needs_no_more_of_a_model_than_its_configuration(
    tiny_model: Path, tiny_data: Path, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_bytes((tiny_model / "config.json").read_bytes())
    words = ("--model", tmp_path, "--task", "sst2", "--data", tiny_data)
    said = call("plan", *words, "--limit", "0", "--csv", "--max-macs", "70%")
    assert said.code == 0, said.err
    rows = list(csv.DictReader(said.out.splitlines()))
    assert len(rows) == 15
    assert int(rows[0]["macs"]) > int(rows[-1]["macs"]) > 0
    assert {row["within_limits"] for row in rows} == {"True", "False"}
    refused = call("run", *words)
    assert refused.code == 1
    assert "has no *.safetensors" in refused.err


def test_limits_that_cannot_be_kept_and_words_that_are_none_are_told_before_anything_is_trained(
    tiny_model: Path, tiny_data: Path, tmp_path: Path
) -> None:
    words = ("run", "--model", tiny_model, "--task", "sst2", "--data", tiny_data, "--storage", tmp_path / "s.db")
    said = call(*words, "--max-params", "1%")
    assert said.code == 2
    assert re.search(r"^error: no pattern of the space keeps --max-params 1%: the nearest is `\d` with", said.err)
    assert call(*words, "--objectives", "metric,mac").err == (
        "error: unknown objective 'mac' (did you mean 'macs'?); allowed: metric, parameters, non-embedding, macs, "
        "memory, latency, latency-32, energy\n"
    )
    halving = call(*words, "--objectives", "metric,macs", "--method", "halving")
    assert "error: --method halving ranks by score and parameters alone" in halving.err
    assert not (tmp_path / "s.db").exists()
