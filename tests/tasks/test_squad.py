"""Questions over SQuAD's files: splits by context, windows, the best span, official scores, bad files in a line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from transformers import AutoTokenizer, ByT5Tokenizer

from layersearch.errors import DataError, TrainingError, WordsError
from layersearch.kinds import ENDS, STARTS
from layersearch.tasks import load_task
from layersearch.tasks.metrics import interval_of_share
from layersearch.tasks.squad import LONGEST_ANSWER, SpanTask, agreement, best_spans, normalised
from layersearch.tasks.task import Encoded, Examples
from tests.conftest import BAD, GOOD, PLAIN, call

SHARED = Path(__file__).parents[2].parent / "shared" / "data" / "squad" / "squad_v2_five_articles.json"
WORDS = (*GOOD, *BAD, *PLAIN)
Floats = NDArray[np.float32]


@pytest.fixture(scope="module")
def reader(tiny_model: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_model)


def _context(rng: np.random.Generator, words: int) -> tuple[str, dict[str, Any]]:
    """A text and a question over two words of it."""
    chosen = [str(word) for word in rng.choice(WORDS, words)]
    place = int(rng.integers(words - 1))
    text = " ".join(chosen[place : place + 2])
    start = sum(len(word) + 1 for word in chosen[:place])
    entry = {"id": f"q{place}", "question": "the film", "answers": [{"text": text, "answer_start": start}]}
    return " ".join(chosen) + ".", entry


def squad_json(file: Path, articles: int = 6, words: int = 12, lacking: bool = True) -> Path:
    """A file of so many articles of four contexts, two questions each; `lacking` has every second one no answer."""
    rng = np.random.default_rng(0)
    found: list[dict[str, Any]] = []
    for number in range(articles):
        paragraphs = []
        for _ in range(4):
            context, entry = _context(rng, words)
            beside = {**entry, "question": "a plot"}
            if lacking:
                beside |= {"answers": [], "is_impossible": True}
            paragraphs.append({"context": context, "qas": [entry, beside]})
        found.append({"title": f"t{number}", "paragraphs": paragraphs})
    file.write_text(json.dumps({"version": "x", "data": found}))
    return file


def _examples(*rows: tuple[str, str, tuple[tuple[int, str], ...]]) -> Examples:
    questions, contexts, answers = zip(*rows, strict=True)
    return Examples(questions, contexts, np.fromiter(answers, dtype=object))


def _told(encoded: Encoded) -> Floats:
    """Logits that say what the labels say."""
    marks = encoded.labels.astype(np.int8)
    return np.stack([marks & STARTS, marks & ENDS], axis=1).astype(np.float32) * 9


@pytest.mark.parametrize(
    ("given", "expected"),
    [("The  Cat, sat.", "cat sat"), ("an apple a day", "apple day"), ("U.S.A.", "usa"), ("Theatre\n- A", "theatre")],
)
def test_texts_are_normalised_as_in_the_official_script(given: str, expected: str) -> None:
    assert normalised(given) == expected


@pytest.mark.parametrize(
    ("answer", "golds", "expected"),
    [
        ("cat sat", ["cat sat"], (1.0, 1.0)),
        ("cat sat down", ["dog", "cat sat"], (0.0, 0.8)),
        ("cat cat", ["cat dog"], (0.0, 0.5)),
        ("dog", ["cat"], (0.0, 0.0)),
        ("", [""], (1.0, 1.0)),
        ("cat", [""], (0.0, 0.0)),
        ("", ["cat"], (0.0, 0.0)),
    ],
)
def test_scores_are_those_of_the_official_script(answer: str, golds: list[str], expected: tuple[float, float]) -> None:
    assert agreement(answer, golds) == pytest.approx(expected)


def test_one_file_is_split_by_articles_and_contexts(tmp_path: Path) -> None:
    file = squad_json(tmp_path / "mine.json")
    task = load_task("squad2", file)
    assert (task.kind, task.num_labels, task.metric, task.labels) == ("span", 2, "f1", ())
    splits = task.splits(0.2, 0)
    assert [len(part) for part in (splits.train, splits.search, splits.validation)] == [32, 8, 8]
    assert splits.warnings == (f"{file} has no validation set: 1 of its 6 articles (8 questions) are held out for it",)
    parts = [set(part.pair or ()) for part in (splits.train, splits.search, splits.validation)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 24
    other = task.splits(0.2, 1)
    assert set(other.validation.pair or ()) == parts[2]
    assert set(other.search.pair or ()) != parts[1]
    assert other.fingerprint != splits.fingerprint == load_task("squad2", file).splits(0.2, 0).fingerprint


def test_a_folder_has_squads_own_files(tmp_path: Path) -> None:
    squad_json(tmp_path / "train-v1.1.json", lacking=False)
    with pytest.raises(DataError, match=r"has no dev-v1\.1\.json \(it holds train-v1\.1\.json\)$"):
        load_task("squad", tmp_path).splits(0.2, 0)
    squad_json(tmp_path / "dev-v1.1.json", articles=2, lacking=False)
    splits = load_task("squad", tmp_path).splits(0.2, 0)
    assert (len(splits.train) + len(splits.search), len(splits.validation), splits.warnings) == (48, 16, ())


def test_answers_are_marked_in_the_windows_that_hold_them(reader: Any, tmp_path: Path) -> None:
    """Whatever the window: what is marked reads as the answer, or is the null token where the answer is outside."""
    examples = load_task("squad2", squad_json(tmp_path / "f.json", words=60)).splits(0.2, 0).train
    for length in (24, 48, 128):
        encoded = SpanTask("squad2", tmp_path).encode(examples, reader, length)
        assert encoded.lengths.max() <= length
        assert (len(encoded) > len(examples)) == (length < 128)
        marks, about = np.split(encoded.labels.astype(np.int8), encoded.offsets[1:-1]), encoded.about
        seen = set()
        for window, question in enumerate(about["questions"]):
            first, last = (int(np.flatnonzero(marks[window] & bit)[0]) for bit in (STARTS, ENDS))
            answers, at = examples.labels[question], encoded.offsets[window]
            if first == 0:
                assert last == 0
                continue
            begin, end = about["first_letters"][at + first], about["end_letters"][at + last]
            assert examples.pair is not None
            assert [(begin, examples.pair[question][begin:end])] == list(answers)
            seen.add(int(question))
        assert seen == {place for place, answers in enumerate(examples.labels) if answers}


@pytest.mark.parametrize("length", [24, 128])
def test_logits_that_say_the_labels_score_one(reader: Any, tmp_path: Path, length: int) -> None:
    task = load_task("squad2", squad_json(tmp_path / "f.json", words=60))
    encoded = task.encode(task.splits(0.2, 0).train, reader, length)
    assert task.score(_told(encoded), encoded) == {"f1": 1.0, "exact-match": 1.0}
    low, high = task.noise(_told(encoded), encoded).interval
    assert 0 < low < high == 1.0


def test_no_answer_needs_as_high_a_score_in_every_window(reader: Any) -> None:
    """`squad` always answers; `squad2` does where the best span beats the least of the null scores."""
    text = " ".join(["film"] * 30) + " music"
    examples = _examples(("plot", text, ((text.index("music"), "music"),)), ("plot", "plot film", ()))
    one, two = SpanTask("squad", Path()), SpanTask("squad2", Path())
    encoded = two.encode(examples, reader, 24)
    heads = encoded.offsets[:-1]
    answers = np.zeros((len(encoded.labels), 2), dtype=np.float32)
    answers[heads] = 3
    assert two.score(answers, encoded)["exact-match"] == 0.5
    answers[heads[0]] = -1  # one window is sure that there is an answer
    places = np.flatnonzero(encoded.about["end_letters"] == len(text))
    answers[places] = 0.5
    assert two.score(answers, encoded)["exact-match"] == 1.0
    assert one.score(answers, encoded)["exact-match"] == 0.5
    answers[heads[0]] = 0.5
    assert two.score(answers, encoded)["exact-match"] == 0.5  # a tie is no answer


def test_the_best_span_is_that_of_a_plain_search(reader: Any, tmp_path: Path) -> None:
    examples = load_task("squad2", squad_json(tmp_path / "f.json", articles=3, words=60)).splits(0.3, 0).train
    encoded = SpanTask("squad2", tmp_path).encode(examples, reader, 48)
    answers = np.random.default_rng(1).normal(size=(len(encoded.labels), 2)).astype(np.float32)
    first, last, margin = best_spans(answers, encoded)
    about = encoded.about
    for question in range(len(examples)):
        spans, nulls = [], []
        for window in np.flatnonzero(about["questions"] == question):
            begin, end = encoded.offsets[window : window + 2]
            nulls.append(answers[begin].sum())
            inside = [place for place in range(begin, end) if about["first_letters"][place] >= 0]
            spans += [
                (answers[a, 0] + answers[b, 1], a, b) for a in inside for b in inside if a <= b < a + LONGEST_ANSWER
            ]
        top, *span = max(spans)
        assert (first[question], last[question]) == tuple(span)
        assert margin[question] == pytest.approx(top - min(nulls), abs=1e-5)


def test_the_interval_is_over_questions_and_not_windows(reader: Any) -> None:
    text = "film " * 50 + "music"
    rows = [("plot", text, ((text.index("music"), "music"),)), ("plot", "the film", ((4, "film"),))]
    task = SpanTask("squad", Path())
    encoded = task.encode(_examples(*rows * 10), reader, 24)
    right, wrong = _told(encoded), _told(encoded)
    for window, question in enumerate(encoded.about["questions"]):
        if question % 2:
            wrong[encoded.offsets[window] : encoded.offsets[window + 1]] = 0
            wrong[encoded.offsets[window] + 3] = 9  # "the"
    assert task.noise(right, encoded).interval == pytest.approx((0.025 ** (1 / 20), 1.0))
    assert task.score(wrong, encoded)["f1"] == 0.5
    assert task.noise(wrong, encoded).interval == interval_of_share(np.array([1, 0] * 10), np.ones(20))


def test_a_question_takes_a_third_of_a_window_at_most(reader: Any) -> None:
    encoded = SpanTask("squad", Path()).encode(_examples((" film" * 99, "the music", ((4, "music"),))), reader, 30)
    ids = encoded.input_ids.tolist()
    assert len(encoded) == 1
    assert ids.count(reader.convert_tokens_to_ids("film")) == 10


def test_texts_of_any_letters_come_back(reader: Any) -> None:
    text = "größer 😀 ☃ film, then plot"
    examples = _examples(("film?", text, ((text.index("☃"), "☃ film"),)))
    task = SpanTask("squad", Path())
    encoded = task.encode(examples, reader, 40)
    assert task.score(_told(encoded), encoded)["exact-match"] == 1.0


def test_a_context_without_a_token_has_no_answer(reader: Any) -> None:
    task = SpanTask("squad", Path())
    encoded = task.encode(_examples(("film", "\u200b\u200b", ((0, "\u200b"),))), reader, 24)
    assert task.score(np.zeros((len(encoded.labels), 2), dtype=np.float32), encoded)["f1"] in (0.0, 1.0)


def test_logits_that_are_not_finite_are_refused(reader: Any) -> None:
    task = SpanTask("squad", Path())
    encoded = task.encode(_examples(("film", "the music", ((4, "music"),))), reader, 24)
    answers = _told(encoded)
    answers[1] = np.nan
    with pytest.raises(TrainingError, match=rf"^the logits of 1 of {len(answers)} tokens are not finite$"):
        task.score(answers, encoded)


def test_what_cannot_be_encoded_is_one_line(reader: Any) -> None:
    task, examples = SpanTask("squad", Path()), _examples(("film", "the music", ((4, "music"),)))
    with pytest.raises(WordsError, match=r"^--max-length 23 has no room for a question and its context; give 24$"):
        task.encode(examples, reader, 23)
    expected = r"^task squad needs to know which letters .* ByT5Tokenizer does not say it; .* fast tokenizer"
    with pytest.raises(DataError, match=expected):
        task.encode(examples, ByT5Tokenizer(), 40)


GOOD_ENTRY = {"id": "q1", "question": "what?", "answers": [{"text": "film", "answer_start": 4}]}


def _file(entry: object, context: object = "the film was good") -> str:
    return json.dumps({"data": [{"paragraphs": [{"context": context, "qas": [entry]}]}]})


BROKEN: dict[str, tuple[str, str]] = {
    "no JSON": ('{"data": [\n}', r"f\.json, line 2, column 1: no JSON here: "),
    "no data": ('{"rows": []}', r"f\.json has no list 'data': give a file in SQuAD's own form$"),
    "no questions": ('{"data": []}', r"f\.json has no questions$"),
    "no paragraphs": ('{"data": [3]}', r"f\.json: article 1 has no list 'paragraphs'"),
    "empty context": (_file(GOOD_ENTRY, " "), r"article 1: a paragraph has no text 'context'"),
    "no question": (_file({"id": "q7"}), r"article 1: question q7 has no text 'question'"),
    "no dictionary": (_file("q"), r"article 1: question None has no text 'question'"),
    "no answers": (_file({"id": "q7", "question": "?"}), r"question q7 has no list 'answers'"),
    "unanswered": (
        _file({**GOOD_ENTRY, "is_impossible": True}),
        r"question q1 has no answer, which SQuAD 1\.1 does not allow: use --task squad2$",
    ),
    "elsewhere": (
        _file({**GOOD_ENTRY, "answers": [{"text": "film", "answer_start": 9}]}),
        r"question q1: its context has no 'film' at letter 9; correct the answer or remove it$",
    ),
    "nowhere": (
        _file({**GOOD_ENTRY, "answers": [{"text": "film"}]}),
        r"question q1: its context has no 'film' at letter None",
    ),
    "one article": (_file(GOOD_ENTRY), r"f\.json has one article, and training and validation need one each$"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_one_line(case: str, tmp_path: Path) -> None:
    file = tmp_path / "f.json"
    text, expected = BROKEN[case]
    file.write_text(text)
    with pytest.raises(DataError, match=expected) as error:
        load_task("squad", file).splits(0.2, 0)
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_utf_8_or_not_there_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "f.json"
    with pytest.raises(DataError, match=r"f\.json cannot be read: No such file or directory$"):
        load_task("squad", file).splits(0.2, 0)
    file.write_bytes(b'{\n"a": "\xff"}')
    with pytest.raises(
        DataError, match=r"f\.json, line 2: byte 9 \(0xff\) of the file is not UTF-8: save it as UTF-8$"
    ):
        load_task("squad", file).splits(0.2, 0)
    with pytest.raises(WordsError, match=r"^task squad2 needs --data: a folder with train-v2\.0\.json and dev-v2\.0"):
        load_task("squad2")


def test_an_answer_that_is_off_by_a_letter_is_found(tmp_path: Path) -> None:
    rows = [{"context": f"the film was {n}", "qas": [GOOD_ENTRY | {"answers": [{"text": "film", "answer_start": s}]}]}
            for n, s in enumerate((3, 4, 5, 6))]  # fmt: skip
    for name in ("train-v1.1.json", "dev-v1.1.json"):
        (tmp_path / name).write_text(json.dumps({"data": [{"paragraphs": rows}]}))
    splits = load_task("squad", tmp_path).splits(0.5, 0)
    assert set(splits.validation.labels) == {((4, "film"),)}


def test_a_question_task_is_searched_and_exported(tiny_model: Path, tmp_path: Path) -> None:
    data = squad_json(tmp_path / "f.json", words=30)
    storage = ("--storage", f"{tmp_path}/s.db")
    said = call(
        "run", "--model", tiny_model, "--task", "squad2", "--data", data, "--max-length", 32, "--epochs", 2, "--lr",
        "1e-2", "--batch-size", 8, "--precision", "fp32", "--trials", 3, "--confirm", 1, "--method", "fine-tune",
        "--workers", 0, "--device", "cpu", "--study", "q", "--files", tmp_path / "files",
        *storage,
    )  # fmt: skip
    assert said.code == 0, said.err
    assert "1 of its 6 articles (8 questions) are held out for it" in said.out + said.err
    assert call("front", "q", *storage, "--all", "--csv").out.count("\n") == 4
    exported = call("export", "q", *storage, "--trial", 0, "--to", tmp_path / "out")
    assert exported.code == 0, exported.err
    assert json.loads((tmp_path / "out" / "config.json").read_text())["architectures"] == ["BertForQuestionAnswering"]


@pytest.mark.skipif(not SHARED.is_file(), reason="the real SQuAD file is not part of the repository")
def test_the_real_file_reads_and_scores(reader: Any) -> None:
    task = load_task("squad2", SHARED)
    splits = task.splits(0.15, 0)
    assert len(splits.train) + len(splits.search) + len(splits.validation) == 1407
    encoded = task.encode(splits.train, reader, 128)
    scores = task.score(_told(encoded), encoded)
    assert scores["exact-match"] > 0.99
    with pytest.raises(DataError, match=r"has no answer, which SQuAD 1\.1 does not allow: use --task squad2$"):
        load_task("squad", SHARED).splits(0.15, 0)
