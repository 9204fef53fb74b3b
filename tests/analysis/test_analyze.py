"""`layersearch analyze`: one model, two models, trials and checkpoints; its pictures and page; bad words."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoModelForImageClassification, ResNetConfig

from layersearch.analysis.analyze import _probing_tasks, similarities
from layersearch.analysis.similarity import similarity
from layersearch.analysis.states import layer_rows
from layersearch.analysis.subject import load_subject
from layersearch.analysis.wanted import Wanted
from layersearch.errors import DataError, ModelError, WordsError
from layersearch.models import checkpoint
from layersearch.models.base import load_base
from layersearch.models.export import export
from layersearch.models.language import LanguageModel, load_language_model
from layersearch.models.proof import examine
from layersearch.models.surgery import build
from layersearch.pattern import Pattern
from layersearch.search.record import read_study
from layersearch.tasks import load_task
from layersearch.tasks.demo import demo_task
from layersearch.tasks.task import Encoded
from layersearch.tasks.text import TextTask
from tests.conftest import LAYERS, Said, TinyRun, call
from tests.models.conftest import from_config
from tests.models.test_export import CARD


@pytest.fixture
def words(tiny_model: Path, tiny_data: Path) -> tuple[str, ...]:
    return ("analyze", "--model", str(tiny_model), "--task", "sst2", "--data", str(tiny_data), "--device", "cpu")


def test_one_model_in_json_pictures_and_a_page(words: tuple[str, ...], tmp_path: Path, tiny_model: Path) -> None:
    png, page = tmp_path / "png", tmp_path / "a.html"
    said = call(*words, "--examples", "40", "--json", "--png", png, "--html", page)
    assert said.code == 0, said.err
    assert "no read-out: the weights in" in said.err
    found = json.loads(said.out)
    assert found["models"] == [{"name": str(tiny_model), "places": ["embeddings", *map(str, range(LAYERS))]}]
    layers, attention = found["cka"]
    assert np.diag(layers["values"]) == pytest.approx(np.ones(LAYERS + 1))
    assert np.shape(attention["values"]) == (LAYERS, LAYERS)
    assert found["examples"] == 40
    (((probed,),), (similar,)) = found["probes"], found["similarity"]
    assert (probed["task"], probed["metric"], len(probed["scores"])) == ("sst2", "accuracy", LAYERS + 1)
    assert probed["examples"] == [32, 8, 9]
    assert len(similar["first_halves"]) == 2 * LAYERS
    drawn = {"cka.png", "blocks.png", "changes.png", "probes.png"}
    assert {file.name for file in png.iterdir()} == drawn
    assert all(f"drawn: {png / name}" in said.err for name in drawn)
    text = page.read_text()
    assert text.count("<svg") == 5
    assert "http" not in text.replace("http-equiv", "")


def test_what_layers_change_is_what_strategies_measure(
    words: tuple[str, ...], tiny_model: Path, tiny_data: Path
) -> None:
    said = call(*words, "--what", "similarity", "--examples", "30", "--json")
    found = json.loads(said.out)["similarity"][0]
    task = load_task("sst2", tiny_data)
    train = task.splits(0.15, 0).train
    one = load_subject(str(tiny_model), task)
    chosen = np.sort(np.random.default_rng(0).permutation(len(train))[:30])
    measured = similarity(one.model, task.encode(train.take(chosen), one.reader, 128))
    assert found["first_token"] == pytest.approx(measured.first_token, abs=1e-5)
    assert found["all_halves"][0::2] == pytest.approx(measured.attention, abs=1e-5)
    assert [row[::2] for row in found["apart"][::2]] == [pytest.approx(row, abs=1e-5) for row in measured.apart]


def test_an_edit_stands_beside_the_model(words: tuple[str, ...], tmp_path: Path) -> None:
    two = (*words, "--pattern", "0-1 3", "--examples", "40", "--what", "cka,similarity", "--what", "probes")
    said = call(*two, "--png", tmp_path, "--html", tmp_path / "a.html")
    assert said.code == 0, said.err
    assert "(across), 40 examples, rows: mean" in said.out
    found = json.loads(call(*two, "--json").out)
    down, across = found["cka"][0]["down"], found["cka"][0]["across"]
    assert (down, across) == (["embeddings", "0", "1", "2", "3"], ["embeddings", "0", "1", "3"])
    assert np.diag(found["cka"][0]["values"])[:3] == pytest.approx(np.ones(3))
    assert [len(one["scores"]) for one in found["probes"][0]] == [5, 4]
    assert found["probes"][0][0]["scores"][:3] == found["probes"][0][1]["scores"][:3]


def test_a_trial_and_its_checkpoint_are_analysed(tiny_run: TinyRun, tiny_model: Path, words: tuple[str, ...]) -> None:
    record = read_study(str(tiny_run.storage), "tiny", print)
    kept = next(row for row in record.front if row.checkpoint)
    of_study = ("analyze", "--study", "tiny", "--storage", tiny_run.storage, "--what", "cka", "--device", "cpu")
    said = call(*of_study, "--trial", kept.number, "--against", tiny_model, "--examples", "20", "--json")
    assert said.code == 0, said.err
    first, second = json.loads(said.out)["models"]
    assert (first["name"], second["name"]) == (f"tiny trial {kept.number}", str(tiny_model))
    assert str(kept.checkpoint) not in said.out
    as_folder = call(*words, "--against", str(kept.checkpoint), "--what", "cka", "--examples", "20", "--json")
    assert as_folder.code == 0, as_folder.err
    assert json.loads(as_folder.out)["models"][1]["places"] == first["places"]
    alone = ("analyze", "--model", str(kept.checkpoint), *words[3:])
    refused = call(*alone)
    assert "is a checkpoint of a study and holds no tokenizer: name its base model with --tokenizer" in refused.err
    assert call(*alone, "--tokenizer", tiny_model, "--what", "similarity").code == 0
    lost = next(row.number for row in record.rows if row.done and not row.checkpoint)
    said = call(*of_study, "--trial", lost)
    assert said.code == 1
    assert (
        f"error: the weights of trial {lost} of 'tiny' were not kept; take one of the trials whose weights" in said.err
    )


@pytest.mark.parametrize("readout", ["", " mix"])
def test_an_export_with_code_is_analysed_without_its_code(
    readout: str,
    words: tuple[str, ...],
    tiny_model: Path,
    tiny_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It gives the states of its checkpoint, and its places have the names of the base model's layers."""
    monkeypatch.setattr("layersearch.models.export._examine", lambda folder, case: examine(folder, asdict(case)))
    pattern, kept, folder = Pattern.parse(f"0 1a 3f{readout}"), tmp_path / "kept", tmp_path / "coded"
    base = load_base(tiny_model, num_labels=2, kind="classification")
    checkpoint.save(build(base.model, pattern), pattern, kept, source_layers=LAYERS, extras={})
    export(kept, folder, tiny_model, [("a good film",)], replace(CARD, labels=("0", "1")), 16)
    task = load_task("sst2", tiny_data)
    one, there = load_subject(str(folder), task), load_subject(str(kept), task, tokenizer=str(tiny_model))
    assert one.places == there.places == ("embeddings", "0", "1a", "3f")
    texts = task.encode(task.splits(0.15, 0).search, one.reader, 24)
    assert layer_rows(one.model, texts, "mean") == pytest.approx(layer_rows(there.model, texts, "mean"), abs=1e-6)
    said = call("analyze", "--model", folder, *words[3:], "--what", "cka,similarity", "--examples", "20", "--json")
    assert said.code == 0, said.err
    assert json.loads(said.out)["models"][0]["places"] == list(one.places)
    with pytest.raises(ModelError, match=r"exported with a head for classification tasks of 2 outputs, and task x "):
        load_subject(str(folder), TextTask("x", "regression", (), ("spearman",), demo_task().read))


def test_a_study_is_analysed_over_its_own_data(tiny_run: TinyRun, tiny_data: Path, tmp_path: Path) -> None:
    record = read_study(str(tiny_run.storage), "tiny", print)
    kept = next(row.number for row in record.front if row.checkpoint)
    trial = ("analyze", "--study", "tiny", "--storage", tiny_run.storage, "--trial", kept)
    of_study = (*trial, "--what", "cka", "--examples", "20", "--device", "cpu")
    moved = Path(shutil.copytree(tiny_data, tmp_path / "moved"))
    assert call(*of_study, "--data", moved).code == 0
    with (moved / "train.tsv").open("a") as file:
        file.write("a good film\t1\n")
    said = call(*of_study, "--data", moved)
    assert said.code == 1
    assert f"error: the data in {moved} is not what study 'tiny' was made with: data " in said.err
    assert said.err.endswith(", or say with --data where its own lie now\n")
    said = call(*of_study, "--text", "sentence", "--label", "label")
    assert (said.code, said.err) == (2, "error: --study takes columns and revision from the study; leave them out\n")


def test_a_language_model_is_loaded_once(
    words: tuple[str, ...], tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import BertConfig, BertForMaskedLM

    model = tmp_path / "masked"
    shutil.copytree(tiny_model, model)
    BertForMaskedLM(BertConfig.from_pretrained(model)).save_pretrained(model)
    loaded: list[Path] = []

    def load(folder: Path) -> LanguageModel:
        loaded.append(folder)
        return load_language_model(folder)

    monkeypatch.setattr("layersearch.analysis.subject.load_language_model", load)
    said = call("analyze", "--model", model, *words[3:], "--pattern", "0 2-3", "--examples", "20", "--json")
    assert said.code == 0, said.err
    assert len(json.loads(said.out)["readout"]) == 2
    assert loaded == [model]


def test_the_second_model_that_is_away_is_named_with_its_own_option(words: tuple[str, ...]) -> None:
    said = call(*words, "--against", "nobody/no-such-model", "--what", "cka")
    assert said.code == 1
    assert "model nobody/no-such-model is not on this machine and " in said.err
    assert ": give --against FOLDER, or run again" in said.err


def test_a_model_with_a_head_is_read_out(words: tuple[str, ...], tiny_model: Path, tmp_path: Path) -> None:
    from transformers import BertConfig, BertForMaskedLM

    model = tmp_path / "masked"
    shutil.copytree(tiny_model, model)
    BertForMaskedLM(BertConfig.from_pretrained(model)).save_pretrained(model)
    masked = ("analyze", "--model", str(model), *words[3:], "--pattern", "0 2-3", "--examples", "20")
    said = call(*masked, "--what", "readout", "--png", tmp_path / "png", "--html", tmp_path / "a.html", "--json")
    assert said.code == 0, said.err
    first, second = json.loads(said.out)["readout"]
    assert (first["agreement"][-1], len(first["agreement"]), len(second["agreement"])) == (1.0, 5, 4)
    assert first["texts"] == 20
    assert (tmp_path / "png" / "readout.png").is_file()
    assert "Read-out" in call(*masked, "--what", "readout").out


def test_a_what_again_adds_up_and_a_pipe_gets_sentences_and_short_lines(words: tuple[str, ...]) -> None:
    both = ("--what", "similarity", "--what", "probes", "--examples", "20")
    found = json.loads(call(*words, *both, "--json").out)
    assert (len(found["similarity"]), len(found["probes"]), found["cka"], found["readout"]) == (1, 1, [], [])
    said = call(*words, *both)
    assert said.err.splitlines() == [
        "reading the hidden states of all layers",
        "reading the hidden states for probes of sst2",
        "fitting probes of sst2",
    ]
    heading = next(line for line in said.out.splitlines() if line.startswith("layer "))
    assert heading.split()[:3] == ["layer", "cosine", "influence"]
    assert "the highest may go first." in " ".join(said.out.split())
    assert max(map(len, said.out.splitlines())) <= 120


def test_a_read_out_that_nobody_asked_for_gives_no_advice_about_words(words: tuple[str, ...]) -> None:
    said = call(*words, "--examples", "8", "--json")
    assert said.code == 0
    assert "no read-out: the weights in" in said.err
    assert "--what" not in said.err


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (("--what", "cke"), 2, "error: unknown analysis 'cke' (did you mean 'cka'?); allowed: cka, similarity"),
        (("--pattern", "0-7"), 2, "error: pattern `0-7` names layer 7, but the model has layers 0-3 (counted from 0)"),
        (
            ("--pattern", "0", "--against", "x"),
            2,
            "error: --against and --pattern both name the second model; give one",
        ),
        (("--trial", "3"), 2, "error: --trial needs the study that it is of: name it with --study"),
        (("--what", "readout"), 1, "hold no head over the vocabulary (cls.predictions."),
        (("--rows", "last"), 2, "error: unknown --rows 'last'; allowed: mean, first, every"),
        (("--what", "probes", "--probe", "tense"), 2, "error: unknown probing task 'tense'"),
        (
            ("--what", "probes", "--senteval", "nowhere"),
            1,
            "error: SentEval folder nowhere cannot be read: No such file",
        ),
        (("--max-length", "900"), 2, "error: --max-length 900 is more than this model's 128 positions; give fewer"),
    ],
)
def test_bad_words_are_one_line(words: tuple[str, ...], more: tuple[str, ...], code: int, said: str) -> None:
    found = call(*words, *more)
    assert (found.code, found.out) == (code, "")
    assert said in found.err
    assert len(found.err.splitlines()) == 1


def test_probes_of_sentences_are_not_asked_of_pictures(tmp_path: Path) -> None:
    task, pictures = demo_task(), replace(demo_task(), name="images", kind="image-classification")
    splits = task.splits(0.2, 0)
    for wanted, option in ((Wanted(probes=("length",)), "--probe length"), (Wanted(senteval=tmp_path), "--senteval")):
        with pytest.raises(WordsError, match=f"^{option} is about sentences, and a model of images reads none; leave"):
            _probing_tasks(pictures, splits, wanted)
    assert len(_probing_tasks(task, splits, Wanted(probes=("own", "length"), examples=60))) == 2


@pytest.mark.parametrize(
    ("more", "todo"),
    [
        ("--model m --task t", "add --trial N, leave out --model and --task"),
        ("--trial 3 --model m --task t", "leave out --model and --task"),
        ("--trial 3 --task t", "leave out --task"),
        ("", "add --trial N"),
    ],
)
def test_beside_a_study_only_what_is_amiss_is_named(more: str, todo: str) -> None:
    line = f"error: --study takes model, task and data from the study: {todo}\n"
    assert call("analyze", "--study", "x", *more.split()) == Said(2, "", line)


def test_nothing_to_analyse_is_one_line() -> None:
    found = call("analyze")
    assert (found.code, found.err.splitlines()) == (
        2,
        ["error: say what is analysed: --model and --task, or --study and --trial"],
    )


def test_models_that_read_unlike_examples_are_one_line(tiny_model: Path, tiny_data: Path) -> None:
    task = load_task("sst2", tiny_data)
    one = load_subject(str(tiny_model), task)
    encoded = task.encode(task.splits(0.15, 0).search, one.reader, 24)
    fewer = replace(encoded, offsets=encoded.offsets[:-1])
    with pytest.raises(
        DataError, match=r"^one model reads 9 examples and the other 8, because their tokenizers cut them"
    ):
        similarities([one, one], [encoded, fewer], Wanted())
    other = replace(encoded, input_ids=encoded.input_ids[::-1])
    with pytest.raises(WordsError, match=r"^--rows every compares token with token, and the two models cut the texts"):
        similarities([one, one], [encoded, other], Wanted(rows="every"))
    maps, _ = similarities([one, one], [encoded, encoded], Wanted(what=("cka",), rows="every", batch=16))
    assert np.diag(maps[0].values) == pytest.approx(np.ones(LAYERS + 1))


def test_what_attention_changes_is_another_reading(words: tuple[str, ...]) -> None:
    whole, change = (
        json.loads(call(*words, "--what", "cka", "--attention", of, "--examples", "30", "--json").out)["cka"]
        for of in ("whole", "change")
    )
    assert whole[0] == change[0]
    assert whole[1]["values"] != change[1]["values"]


def test_a_model_without_hidden_states_is_one_line() -> None:
    config = ResNetConfig(embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], layer_type="basic")
    model = from_config(AutoModelForImageClassification, config, None)
    pixels = np.zeros((5, 3, 32, 32), dtype=np.float32)
    encoded = Encoded(np.zeros(0, np.int32), None, np.arange(6, dtype=np.int64), np.arange(5) % 2, pixels)
    with pytest.raises(ModelError, match=r"^the model family 'resnet' has no row in the families table") as caught:
        layer_rows(model, encoded, "mean")
    assert "\n" not in str(caught.value)
