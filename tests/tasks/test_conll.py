"""Tags of words: CoNLL files, first pieces, entities of well and ill formed tags, their F1, one line for a bad file."""

from __future__ import annotations

import csv
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer, ByT5Tokenizer

from layersearch.errors import DataError, TrainingError, WordsError
from layersearch.kinds import IGNORED
from layersearch.tasks import load_task
from layersearch.tasks.conll import TagTask, entities
from layersearch.tasks.metrics import interval_of_share
from layersearch.tasks.task import Encoded, Examples, Task
from tests.conftest import BAD, GOOD, PLAIN, call

TAGS = ("O", "B-LOC", "B-PER", "E-PER", "I-LOC", "I-PER", "S-PER")
TRAIN = """\
-DOCSTART- -X- -X- O

# sent_id = 1
The DT O
#film NN B-PER
Sarah NNP I-PER
. . O

Oslo\tNNP\tB-LOC
#

was O
"""


def found(*sentences: str) -> list[tuple[int, int, str]]:
    """The entities in sentences of `TAGS`, with the words of their types."""
    tags = [tag for sentence in sentences for tag in sentence.split()]
    edges = np.cumsum([0, *(len(sentence.split()) for sentence in sentences)])
    labels = np.array([TAGS.index(tag) for tag in tags], dtype=np.int64)
    types = list(dict.fromkeys(name[2:] for name in TAGS))
    return [(int(a), int(b), types[kind]) for a, b, kind in entities(labels, edges, TAGS)]


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("O O", []),
        ("B-PER I-PER O", [(0, 1, "PER")]),
        ("B-PER B-PER", [(0, 0, "PER"), (1, 1, "PER")]),
        ("O I-PER I-PER", [(1, 2, "PER")]),  # continues nothing
        ("B-LOC I-PER", [(0, 0, "LOC"), (1, 1, "PER")]),  # of another type
        ("I-PER I-LOC I-LOC B-LOC", [(0, 0, "PER"), (1, 2, "LOC"), (3, 3, "LOC")]),
        ("B-PER I-PER E-PER S-PER", [(0, 2, "PER"), (3, 3, "PER")]),
        ("S-PER I-PER", [(0, 0, "PER"), (1, 1, "PER")]),
        ("B-PER E-PER E-PER", [(0, 1, "PER"), (2, 2, "PER")]),
        ("E-PER O I-LOC", [(0, 0, "PER"), (2, 2, "LOC")]),
        ("B-PER S-PER O B-PER", [(0, 0, "PER"), (1, 1, "PER"), (3, 3, "PER")]),
    ],
)
def test_entities_begin_and_end_as_conlleval_has_it(tags: str, expected: list[tuple[int, int, str]]) -> None:
    assert found(tags) == expected


def test_an_entity_ends_with_its_sentence() -> None:
    assert found("O B-PER", "I-PER", "I-PER O") == [(1, 1, "PER"), (2, 2, "PER"), (3, 3, "PER")]


def write(folder: Path, train: str = TRAIN, other: str = TRAIN, name: str = "dev.txt") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "train.txt").write_text(train, encoding="utf-8")
    (folder / name).write_text(other, encoding="utf-8")
    return folder


def tagged(rows: int, seed: int = 0) -> str:
    """Sentences in which the good words are one kind of name and the bad ones another."""
    rng = random.Random(seed)
    lines = []
    for _ in range(rows):
        for word in rng.choices((*PLAIN, *GOOD, *BAD), k=rng.randint(2, 9)):
            lines.append(f"{word} {'B-PER' if word in GOOD else 'B-LOC' if word in BAD else 'O'}")
        lines.append("")
    return "\n".join(lines)


@pytest.mark.parametrize("name", ["dev.conll", "valid.tsv", "test.bio"])
def test_files_are_read_as_they_are(tmp_path: Path, name: str) -> None:
    task = load_task("conll", write(tmp_path, name=name))
    assert (task.kind, task.labels, task.metric) == ("token-classification", ("O", "B-LOC", "B-PER", "I-PER"), "f1")
    splits = task.splits(0.4, 0)
    assert list(splits.validation.text) == ["The #film Sarah .", "Oslo", "was"]
    assert [*splits.validation.labels] == [(0, 2, 3, 0), (1,), (0,)]
    assert (len(splits.train), len(splits.search)) == (2, 1)
    assert splits.fingerprint == load_task("conll", tmp_path).splits(0.4, 0).fingerprint


def test_another_tag_is_other_data(tmp_path: Path) -> None:
    prints = {
        load_task("conll", write(tmp_path, other=text)).splits(0.4, 0).fingerprint
        for text in (TRAIN, TRAIN.replace("Oslo\tNNP\tB-LOC", "Oslo\tNNP\tB-PER"))
    }
    assert len(prints) == 2


def test_the_validation_file_is_the_first_of_dev_valid_test(tmp_path: Path) -> None:
    write(tmp_path, name="test.txt")
    write(tmp_path, other="Oslo B-LOC\n", name="valid.txt")
    assert len(load_task("conll", tmp_path).splits(0.4, 0).validation) == 1


@pytest.mark.parametrize(
    ("train", "other", "expected"),
    [
        ("a O\nOslo\n", "", r"train\.txt, line 2: one column \('Oslo'\) where a word and its tag are expected$"),
        (
            "a O\nb X-LOC\n",
            "",
            r"train\.txt, line 2: the last column is 'X-LOC'; allowed is O, or B-, I-, E- or S- and",
        ),
        (
            "a O\n\nb O\n",
            "",
            r"train\.txt, lines 1 to 4: no word has a tag other than O, so there is nothing to learn$",
        ),
        ("", "", r"train\.txt, lines 1 to 1: no word has a tag other than O"),
        (TRAIN, "a O\n\nb O", r"dev\.txt, lines 1 to 3: no word has a tag other than O"),
        (
            TRAIN,
            "a O\n\n# c\nb B-ORG\n",
            r"dev\.txt, line 4: the tag 'B-ORG'.* is never seen in training, which has O, B-LOC, B-PER, I-PER; correct",
        ),
    ],
)
def test_a_broken_file_is_one_line(tmp_path: Path, train: str, other: str, expected: str) -> None:
    with pytest.raises(DataError, match=expected) as error:
        load_task("conll", write(tmp_path, train, other)).splits(0.4, 0)
    assert "\n" not in str(error.value)


def test_a_folder_that_is_not_one_of_conll_files_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(
        WordsError, match=r"^task conll needs --data: a folder of CoNLL files \(train, and dev, valid or "
    ):
        load_task("conll")
    with pytest.raises(DataError, match=r"folder of CoNLL files .*, and .*none\.txt is none$"):
        load_task("conll", tmp_path / "none.txt")
    (tmp_path / "train.bio").write_bytes(b"Oslo B-LOC\nB\xe4rum B-LOC\n")
    with pytest.raises(DataError, match=r"has no dev\.txt or .* or test\.bio \(it holds train\.bio\)$"):
        load_task("conll", tmp_path)
    (tmp_path / "dev.bio").write_text("Oslo B-LOC\n")
    with pytest.raises(DataError, match=r"train\.bio, line 2: byte 13 \(0xe4\) of the file is not UTF-8"):
        load_task("conll", tmp_path)


@pytest.fixture(scope="module")
def reader(tiny_model: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_model)


def pieces() -> Any:
    """A tokenizer as GPT-2's: pieces of words, and the space before a word is part of its first piece, or alone."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = {letter: number for number, letter in enumerate(["?", "Ġ", *"abcdefghijklmnop"])}
    words = {**letters, "ab": 20, "Ġc": 21, "Ġcd": 22}
    merges = [("a", "b"), ("Ġ", "c"), ("Ġc", "d")]
    backend = Tokenizer(models.BPE(words, merges, unk_token="?"))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="?")  # type: ignore[no-untyped-call]


def sentences(*rows: tuple[str, tuple[int, ...]]) -> Examples:
    texts, labels = zip(*rows, strict=True)
    return Examples(texts, None, np.fromiter(labels, dtype=object))


TASK = TagTask(("O", "B-PER", "I-PER"), Path(), Path())


def test_the_first_piece_of_a_word_has_its_label() -> None:
    encoded = TASK.encode(sentences(("abe cdo p", (1, 2, 0)), ("cd", (1,))), pieces(), 20)
    assert encoded.lengths.tolist() == [6, 2]  # ab e Ġcd o Ġ p | c d
    assert encoded.labels.tolist() == [1, IGNORED, 2, IGNORED, IGNORED, 0, 1, IGNORED]
    assert encoded.about["words"].tolist() == [0, 1, 2, 3]


def test_special_tokens_have_no_label(reader: Any) -> None:
    encoded = TASK.encode(sentences(("film Oslo plot", (0, 1, 2)), ("bad", (1,))), reader, 20)
    assert encoded.labels.tolist() == [IGNORED, 0, 1, 2, IGNORED, IGNORED, 1, IGNORED]
    assert encoded.token_type_ids is not None


def told(encoded: Encoded, width: int = 3) -> Any:
    return np.eye(width, dtype=np.float32)[np.maximum(encoded.labels, 0)]


def test_words_that_were_not_seen_are_not_found(reader: Any) -> None:
    """Behind the longest length, and where a tokenizer gives a word no token."""
    examples = sentences(("film plot Oslo film", (1, 2, 0, 1)), ("film \u200b plot", (1, 0, 1)))
    encoded = TASK.encode(examples, reader, 5)
    assert encoded.about["words"].tolist() == [0, 1, 2, 4, 6]
    assert TASK.score(told(encoded), encoded) == pytest.approx({"precision": 1.0, "recall": 0.75, "f1": 6 / 7})


def test_the_score_counts_exact_entities(reader: Any) -> None:
    examples = sentences(("film plot the", (1, 2, 0)), ("a film it", (0, 1, 1)), ("it", (0,)))
    encoded = TASK.encode(examples, reader, 20)
    answers = told(encoded)
    assert TASK.score(answers, encoded) == {"f1": 1.0, "precision": 1.0, "recall": 1.0}
    assert TASK.noise(answers, encoded).interval == interval_of_share(np.array([2, 4, 0]), np.array([2, 4, 0]))
    said = encoded.labels.copy()
    said[2] = 0  # the first entity ends too early
    answers = np.eye(3, dtype=np.float32)[np.maximum(said, 0)]
    assert TASK.score(answers, encoded) == pytest.approx({"f1": 2 / 3, "precision": 2 / 3, "recall": 2 / 3})
    assert TASK.noise(answers, encoded).interval == interval_of_share(np.array([0, 4, 0]), np.array([2, 4, 0]))
    nothing = TASK.score(np.eye(3, dtype=np.float32)[np.zeros(len(said), dtype=np.int64)], encoded)
    assert nothing == {"f1": 0.0, "precision": 0.0, "recall": 0.0}
    answers[0] = np.inf
    with pytest.raises(TrainingError, match=r"^the logits of 1 of 13 tokens are not finite$"):
        TASK.score(answers, encoded)


def test_a_slow_tokenizer_is_refused() -> None:
    with pytest.raises(DataError, match=r"^task conll needs to know which letters .* ByT5Tokenizer does not say it"):
        TASK.encode(sentences(("film", (0,))), ByT5Tokenizer(), 20)


def test_a_real_task_is_small_and_stratified(tmp_path: Path) -> None:
    task: Task = load_task("conll", write(tmp_path, tagged(200), tagged(40, 1)))
    splits = task.splits(0.2, 0)
    named = [np.mean([np.count_nonzero(labels) for labels in part.labels]) for part in (splits.train, splits.search)]
    assert named[0] == pytest.approx(named[1], rel=0.1)


def test_a_tag_task_is_searched_and_learnt(tiny_model: Path, tmp_path: Path) -> None:
    data, storage = write(tmp_path / "data", tagged(80), tagged(30, 1)), ("--storage", f"{tmp_path}/s.db")
    said = call(
        "run", "--model", tiny_model, "--task", "conll", "--data", data, "--max-length", 24, "--epochs", 3, "--lr",
        "2e-2", "--batch-size", 8, "--precision", "fp32", "--trials", 3, "--confirm", 1, "--method", "fine-tune",
        "--workers", 0, "--device", "cpu", "--study", "tags", "--files", tmp_path / "files", *storage,
    )  # fmt: skip
    assert said.code == 0, said.err
    rows = list(csv.DictReader(call("front", "tags", *storage, "--all", "--csv").out.splitlines()))
    assert len(rows) == 3
    assert max(float(row["score"]) for row in rows) > 0.9
