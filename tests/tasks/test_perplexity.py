"""Perplexity of a text: how it is parted and cut, what is scored, what is refused."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layersearch.errors import DataError, TrainingError, WordsError
from layersearch.kinds import IGNORED
from layersearch.tasks import load_task
from layersearch.tasks.perplexity import PIECE, Pieces, pieces_of
from layersearch.tasks.task import Encoded, Examples, Task, taken

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

WORDS = ("red", "blue", "old", "new", "car", "house")


def tokenizer(*, first: bool) -> PreTrainedTokenizerFast:
    """A word tokenizer; like Llama's it puts a token `first`, or like GPT-2's it does not."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = {word: number for number, word in enumerate(("[UNK]", "<s>", *WORDS))}
    backend = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    if first:
        backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend, unk_token="[UNK]", bos_token="<s>"
    )


def _text(n: int) -> str:
    """`n` words, a few a line, with blank lines between."""
    rng = np.random.default_rng(n)
    return "".join(f"{rng.choice(WORDS)}{' ' if i % 7 else chr(10) * (1 + i % 2)}" for i in range(n))


def _written(file: Path, text: str | bytes) -> Path:
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def _whole(*parts: Examples) -> str:
    return "".join("".join(part.text) for part in parts)


def test_a_text_is_parted_in_three_runs_in_its_order(tmp_path: Path) -> None:
    text = _text(6000)
    splits = load_task("perplexity", _written(tmp_path / "a.txt", text)).splits(0.2, seed=0)
    parts = splits.train, splits.search, splits.validation
    assert _whole(*parts) == text
    shares = [len(_whole(part)) / len(text) for part in parts]
    assert shares == pytest.approx([0.85 * 0.8, 0.85 * 0.2, 0.15], abs=0.02)
    assert splits.warnings == (f"{tmp_path}/a.txt has no validation set: its last 15% are held out for it",)


def test_a_folder_may_bring_its_validation_text(tmp_path: Path) -> None:
    _written(tmp_path / "train.txt", _text(900))
    task = load_task("perplexity", tmp_path)
    assert _whole(task.splits(0.2, 0).train, task.splits(0.2, 0).search) != _text(900)
    _written(tmp_path / "validation.txt", _text(300))
    splits = task.splits(0.2, 0)
    assert (_whole(splits.train, splits.search), _whole(splits.validation)) == (_text(900), _text(300))
    assert splits.warnings == ()


def test_the_fingerprint_changes_with_text_and_parts_and_not_with_the_seed(tmp_path: Path) -> None:
    first, other = _written(tmp_path / "a.txt", _text(600)), _written(tmp_path / "b.txt", _text(600)[:-2] + ".\n")
    task = load_task("perplexity", first)
    known = task.splits(0.2, 0).fingerprint
    assert known == task.splits(0.2, 1).fingerprint
    assert len({known, task.splits(0.3, 0).fingerprint, load_task("perplexity", other).splits(0.2, 0).fingerprint}) == 3


@settings(deadline=None, max_examples=40)
@given(text=st.text(alphabet="ab \nß☃\U0001f600", min_size=1, max_size=400))
def test_pieces_are_the_text_whatever_letters_it_has(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    pieces = pieces_of(_written(tmp_path_factory.mktemp("text") / "a.txt", text))
    assert "".join(pieces) == text
    assert list(pieces[1:3]) == [pieces[i] for i in range(1, min(3, len(pieces)))]


def test_pieces_are_taken_by_the_integers_of_arrays(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("one\n" * 300)
    pieces = pieces_of(tmp_path / "t.txt")
    places = np.array([2, 0, len(pieces) - 1])
    assert taken(pieces, places) == tuple(pieces[int(place)] for place in places)
    assert [pieces[np.int64(1)], *pieces[1:3]] == [pieces[1], pieces[1], pieces[2]]


def test_a_long_text_is_cut_at_lines_and_one_without_lines_at_words(tmp_path: Path) -> None:
    lines, words = (("word " * 20 + end) * 30_000 for end in ("\n", ""))
    for text, whole in ((lines, r"word [^\n]*(\n[^\n]+)*\n"), (words, r" ?word( word)*")):
        pieces = pieces_of(_written(tmp_path / "a.txt", text))
        assert all(re.fullmatch(whole, piece) and PIECE <= len(piece) < PIECE + 102 for piece in pieces[:-1])
        assert sum(map(len, pieces)) == len(text)


def test_marks_of_windows_are_no_text(tmp_path: Path) -> None:
    pieces = pieces_of(_written(tmp_path / "a.txt", b"\xef\xbb\xbfred car\r\nblue car\r\n" * 1))
    assert "".join(pieces) == "red car\nblue car\n"


def _examples(file: Path, words: int) -> Examples:
    pieces = pieces_of(_written(file, _text(words)))
    return Examples(pieces, None, np.zeros(len(pieces)))


@pytest.mark.parametrize(
    ("first", "words", "lengths"), [(False, 20, [8, 8, 4]), (True, 20, [8, 8, 7]), (True, 14, [8, 8])]
)
def test_blocks_hold_the_tokens_in_their_order(first: bool, words: int, lengths: list[int], tmp_path: Path) -> None:
    reader, task = tokenizer(first=first), load_task("perplexity", tmp_path)
    encoded = task.encode(_examples(tmp_path / "a.txt", words), reader, 8)
    assert encoded.lengths.tolist() == lengths
    blocks = np.split(encoded.input_ids, encoded.offsets[1:-1])
    tokens = reader(_text(words), add_special_tokens=False)["input_ids"]
    assert [token for block in blocks for token in block[int(first) :]] == tokens
    assert all(block[0] == 1 for block in blocks) == first
    for block, labels in zip(blocks, np.split(encoded.labels, encoded.offsets[1:-1]), strict=True):
        assert [*labels] == [*block[1:], IGNORED]


def test_a_long_text_is_memory_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task, reader = load_task("perplexity", tmp_path), tokenizer(first=False)
    examples = _examples(tmp_path / "a.txt", 9000)
    whole = task.encode(examples, reader, 16)
    monkeypatch.setattr("layersearch.tasks.text.IN_MEMORY", 1000)
    mapped = task.encode(examples, reader, 16)
    assert isinstance(mapped.input_ids, np.memmap)
    assert isinstance(mapped.labels, np.memmap)
    assert np.array_equal(mapped.input_ids, whole.input_ids)
    assert np.array_equal(mapped.labels, whole.labels)


def _scored() -> tuple[np.ndarray[tuple[int, int], np.dtype[np.float32]], Encoded]:
    """Likelihoods of three blocks of three, three and one tokens, the last of each not scored."""
    labels = np.array([1, 2, IGNORED, 3, 4, IGNORED, IGNORED])
    return np.array([[1.0], [2], [0], [3], [4], [0], [0]], dtype=np.float32), Encoded(
        np.zeros(7, dtype=np.int32), None, np.array([0, 3, 6, 7]), labels
    )


def test_the_score_is_exp_of_the_mean_over_scored_tokens(tmp_path: Path) -> None:
    task = load_task("perplexity", tmp_path)
    answers, data = _scored()
    assert task.score(answers, data) == {"perplexity": pytest.approx(np.exp(2.5))}
    assert task.noise(answers, data).interval == pytest.approx((np.exp(1.5), np.exp(3.5)))
    answers[3] = np.nan
    with pytest.raises(TrainingError, match="the likelihoods of 1 of 7 tokens are not finite"):
        task.score(answers, data)


def test_the_interval_is_over_blocks_not_tokens(tmp_path: Path) -> None:
    """Tokens of a block are alike, so that the interval is as wide as for as many tokens as there are blocks."""
    task, rng = load_task("perplexity", tmp_path), np.random.default_rng(0)
    blocks = rng.normal(3, 0.5, 200)
    answers = np.append(np.repeat(blocks, 10), 0)[:, None].astype(np.float32)
    data = Encoded(
        np.zeros(2001, np.int32), None, np.append(np.arange(0, 2001, 10), 2001), np.append(np.ones(2000), IGNORED)
    )
    low, high = np.log(task.noise(answers, data).interval)
    assert (high - low) / 2 == pytest.approx(1.96 * 0.5 / np.sqrt(200), rel=0.15)


def test_the_task_is_light_and_minimised(tmp_path: Path) -> None:
    task: Task = load_task("perplexity", tmp_path)
    assert (task.metric, task.direction, task.kind, task.num_labels) == ("perplexity", "minimize", "causal-lm", 1)
    sent = pickle.dumps(task)
    assert len(sent) < 500
    assert pickle.loads(sent) == task


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, r"train.txt; give a folder with train.txt and perhaps validation.txt, or one file"),
        ({"train.txt": b""}, r"train.txt is empty; give a file with text"),
        ({"train.txt": b"a b c", "validation.txt": b""}, r"validation.txt is empty; give a file with text"),
        ({"train.txt": b"a b c \xff d"}, r"train.txt: byte 0xff at offset 6 is not UTF-8; save the file as UTF-8"),
        ({"train.txt": b"ab"}, r"train.txt is too short to hold 15% of it out; give a longer text"),
    ],
)
def test_a_text_that_cannot_be_read_is_one_line(files: dict[str, bytes], message: str, tmp_path: Path) -> None:
    for name, text in files.items():
        _written(tmp_path / name, text)
    with pytest.raises(DataError, match=message):
        load_task("perplexity", tmp_path).splits(0.2, 0)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        WordsError, match=r"task perplexity needs --data FILE.txt, or a folder with train.txt and perhaps"
    ):
        load_task("perplexity")
    with pytest.raises(DataError, match=r"data file .*none.txt does not exist"):
        load_task("perplexity", tmp_path / "none.txt").splits(0.2, 0)


def test_a_part_without_two_tokens_is_refused(tmp_path: Path) -> None:
    task, reader = load_task("perplexity", tmp_path), tokenizer(first=False)
    pieces = Pieces(_written(tmp_path / "a.txt", "red car\n"), np.array([0, 4]))
    with pytest.raises(DataError, match="the text for one part of task perplexity has fewer than two tokens; give a"):
        task.encode(Examples(pieces, None, np.zeros(1)), reader, 8)
    with pytest.raises(WordsError, match="--max-length 1 leaves nothing to foretell; give at least 2"):
        task.encode(Examples(pieces, None, np.zeros(1)), reader, 1)
