"""The card: what the hub reads in its header, and what a person needs to open the model and to trust its scores."""

from __future__ import annotations

from dataclasses import replace

import pytest
from huggingface_hub import ModelCard as HubCard
from huggingface_hub import ModelCardData

from layersearch.kinds import KindName
from layersearch.models.card import Data, LatencyRow, ModelCard, Score, write_card
from layersearch.models.case import Own
from layersearch.models.checkpoint import Manifest
from layersearch.models.families import Form
from layersearch.pattern import Pattern

MANIFEST = Manifest(Pattern.parse("0-1 3"), 4, 9_000, "0" * 64, 36_000, {"model_type": "bert"}, {})
SEARCH = Score("search split (15 % of the training data)", 0.85, 0.84, (0.80, 0.88), (0.81, 0.89), 0.988)
CONFIRMED = Score(
    "validation set, mean of 3 fresh seeds", 0.86, 0.83, (0.81, 0.85), (0.84, 0.88), 0.965, confirmed=True
)
CARD = ModelCard(
    base_model="someone/base-model",
    revision="abc123",
    task="mrpc",
    labels=("no", "yes"),
    metric="spearman",
    scores=(SEARCH, CONFIRMED),
    baseline_parameters=10_000,
    recipe={"lr": 5e-5},
    seed=42,
    versions={"torch": "2.13.0"},
    trained_with="torch 2.12.0, on a processor, 2 threads",
    command="layersearch run --model someone/base-model --task mrpc",
    data=Data("GLUE MRPC", "nyu-mll/glue", "mrpc", (3118, 550, 408), "0123abcd"),
    confirmed_with=(43, 44, 45),
    times=(LatencyRow("batch size 1", 12.3456, 8.2), LatencyRow("batch size 32", None, 100.25)),
    hardware="a processor, 2 threads",
)


def header(card: ModelCard) -> ModelCardData:
    """What the hub reads."""
    data = HubCard(write_card(card, MANIFEST)).data
    assert isinstance(data, ModelCardData)
    return data


def test_the_header_holds_the_confirmed_score_as_the_hub_wants_it() -> None:
    data = header(CARD)
    assert (data.base_model, data.datasets, data.metrics) == ("someone/base-model", "nyu-mll/glue", ["spearmanr"])
    assert data.model_name == "base-model with the layers 0-1 3"
    assert data.eval_results is not None
    (result,) = data.eval_results
    assert (result.task_type, result.dataset_type, result.dataset_config) == (
        "text-classification",
        "nyu-mll/glue",
        "mrpc",
    )
    assert (result.dataset_name, result.dataset_split) == ("GLUE MRPC", "validation")
    assert (result.metric_type, result.metric_value) == ("spearmanr", 0.83)
    assert result.metric_name == "spearman, validation set, mean of 3 fresh seeds"


@pytest.mark.parametrize(
    ("scored", "split"),
    [(408, "validation set, these weights"), (64, "validation set, first 64 of 408 examples, these weights")],
)
def test_the_score_of_the_weights_themselves_comes_first(scored: int, split: str) -> None:
    card = replace(CARD, own=Own(0.7778, scored, 408))
    (result,) = header(card).eval_results or []
    assert (result.dataset_split, result.metric_value) == ("validation", 0.7778)
    assert result.metric_name == f"spearman, {split}"
    text = write_card(card, MANIFEST)
    assert f"|---|---|---|---|---|\n| {split} | | 0.7778 | | |\n| search split" in text
    line = (
        "The confirmed score is that of other trainings of the same pattern, with fresh seeds, not of these weights.\n"
    )
    assert line in text
    assert line not in write_card(replace(card, scores=(SEARCH,)), MANIFEST)


def test_an_unconfirmed_score_says_on_what_it_was_measured() -> None:
    (result,) = header(replace(CARD, scores=(SEARCH,))).eval_results or []
    assert (result.dataset_split, result.metric_value) == ("train", 0.84)
    assert result.metric_name == "spearman, search split (15 % of the training data)"


@pytest.mark.parametrize("missing", [{"scores": ()}, {"data": None}])
def test_without_scores_or_data_the_header_claims_none(missing: dict[str, object]) -> None:
    data = header(replace(CARD, **missing))  # type: ignore[arg-type]
    assert not data.eval_results


def test_a_model_from_a_folder_is_not_named_as_one_of_the_hub() -> None:
    assert header(replace(CARD, base_model="tiny-bert", revision="local-0123")).base_model is None
    package = header(replace(CARD, base_model="package:some/model", revision="local-0123"))
    assert (package.base_model, package.model_name) == (None, "some with the layers 0-1 3")


def test_the_text_has_data_scores_times_and_seeds() -> None:
    text = write_card(CARD, MANIFEST)
    for fact in (
        "`██·█` (",
        "| data | GLUE MRPC: 3,118 examples to train on, 550 to search on, 408 in the validation set; fingerprint "
        "`0123abcd` |",
        "| search split (15 % of the training data) | 0.8500 (0.8100 to 0.8900) | 0.8400 | 0.8000 to 0.8800 | 98.8% |",
        "| validation set, mean of 3 fresh seeds | 0.8600 (0.8400 to 0.8800) | 0.8300 | 0.8100 to 0.8500 | 96.5% |",
        "Milliseconds of a forward pass on a processor, 2 threads, median:\n\n| | unchanged model | this model |\n",
        "| batch size 1 | 12.3 | 8.2 |\n| batch size 32 |  | 100 |\n",
        "Seed 42; confirmed with the seeds 43, 44, 45. Recipe: lr 5e-05.",
        "Trained with torch 2.12.0, on a processor, 2 threads.",
    ):
        assert fact in text, fact
    assert "Milliseconds" not in write_card(replace(CARD, times=()), MANIFEST)


def test_the_text_says_which_trainings_diverged_where_any_did() -> None:
    text = write_card(replace(CARD, diverged="2 of 3 seeds diverged: no finite loss"), MANIFEST)
    assert "not of these weights.\n\nWarning: 2 of 3 seeds diverged: no finite loss.\n\nMilliseconds" in text
    assert "Warning" not in write_card(CARD, MANIFEST)


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("0-3", "none"),
        ("0-1 3", "2"),
        ("0 1a 2f 3", "the FFN half of 1 and the attention half of 2"),
        ("2f 2a", "0, 1, 3"),
    ],
)
def test_the_text_says_what_was_dropped_halves_too(pattern: str, words: str) -> None:
    text = write_card(CARD, replace(MANIFEST, pattern=Pattern.parse(pattern)))
    assert f"| dropped of 0-3 | {words} |" in text


@pytest.mark.parametrize(
    ("kind", "reader"), [("classification", "AutoTokenizer"), ("image-classification", "AutoImageProcessor")]
)
def test_the_text_names_what_reads_the_inputs(kind: KindName, reader: str) -> None:
    text = write_card(CARD, replace(MANIFEST, kind=kind))
    assert f"reader = {reader}.from_pretrained(folder)" in text


@pytest.mark.parametrize(
    ("form", "line", "elsewhere"),
    [
        ("native", "model = AutoModelForSequenceClassification.from_pretrained(folder)", "trust_remote_code=True"),
        ("with code", "from_pretrained(folder, trust_remote_code=True)", "onnxruntime"),
        ("onnx", 'session = onnxruntime.InferenceSession(f"{folder}/model.onnx")', "from_pretrained(folder, "),
    ],
)
def test_each_form_says_how_it_is_opened(form: Form, line: str, elsewhere: str) -> None:
    code = write_card(replace(CARD, form=form), MANIFEST).split("```python\n")[1].split("```")[0]
    compile(code, "card", "exec")
    assert line in code
    assert "AutoTokenizer.from_pretrained(folder" in code
    assert elsewhere not in code
