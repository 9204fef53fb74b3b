"""Probing tasks over sentences: SentEval's format, its broken files, and labels that follow from text alone."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from layersearch.analysis.sentences import GENERATORS, Sentences, bigram_shift, generate, load_senteval
from layersearch.errors import DataError, WordsError

GOOD = "tr\tO\ta b c\ntr\tI\tb a c\nva\tO\tc d\nte\tI\tnever mind\tthe last counts\n"


def test_a_file_is_read_as_senteval_reads_it(tmp_path: Path) -> None:
    (tmp_path / "coordination_inversion.txt").write_text(GOOD)
    (tmp_path / "LICENSE").write_text("no task")
    (found,) = load_senteval(tmp_path, 100, 0)
    assert (found.task.name, found.task.labels) == ("coordination_inversion", ("I", "O"))
    assert (list(found.fit.text), found.fit.labels.tolist()) == (["a b c", "b a c"], [1, 0])
    assert (list(found.test.text), found.test.labels.tolist()) == (["the last counts"], [0])


def test_so_many_sentences_of_each_partition_are_drawn(tmp_path: Path) -> None:
    lines = [f"{part}\t{n % 2}\ts{part}{n}" for part in ("tr", "va", "te") for n in range(40)]
    (tmp_path / "a.txt").write_text("\n".join(lines))
    (found,) = load_senteval(tmp_path, 25, 0)
    assert [len(part) for part in (found.fit, found.dev, found.test)] == [25, 25, 25]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "tr\tO\n",
            r"a\.txt, line 1 is 'tr\\tO', and a line of SentEval's files has three cells with tabs between them",
        ),
        ("tr\tO\tx\ntrain\tO\tx\n", r"a\.txt, line 2 is 'train\\tO\\tx', and a line of SentEval's files"),
        ("tr\tO\tx\ntr\tI\ty\nva\tO\tx\n", r"a\.txt has no sentence of the partition te; a probe needs tr, va and te$"),
        (GOOD + "te\tZ\tx\n", r"a\.txt: label 'Z' is not among those to fit on \(I, O\); take more sentences with"),
        (GOOD.replace("\tI\t", "\tO\t"), r"a\.txt: there is only one label to fit on \(O\)"),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(DataError, match=said) as caught:
        load_senteval(tmp_path, 100, 0)
    assert "\n" not in str(caught.value)


def test_a_wrong_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no \.txt file; give one with files such as bigram_shift\.txt$"):
        load_senteval(tmp_path, 100, 0)
    with pytest.raises(DataError, match=r"^SentEval folder .*gone cannot be read: No such file"):
        load_senteval(tmp_path / "gone", 100, 0)


def sentences(number: int = 1000) -> list[str]:
    """Of three to twelve words among 150, some of which come far more often than others."""
    rng = random.Random(0)
    letters = "bcdfghjklm"
    words = [f"{a}{b}{c}ing" for a in letters for b in letters[:5] for c in "aei"]
    return [
        " ".join(rng.choices(words, [1 / (n + 1) for n in range(150)], k=rng.randint(3, 12))) for _ in range(number)
    ]


@pytest.mark.parametrize("name", GENERATORS)
def test_parts_are_disjoint_and_repeatable(name: str) -> None:
    found, again = (generate(name, sentences(), 300, 0) for _ in range(2))
    texts = [set(part.text) for part in (found.fit, found.dev, found.test)]
    assert sum(map(len, texts)) == len(set.union(*texts))
    assert len(found.fit) > 100
    assert len(found.dev) == pytest.approx(len(found.fit) / 4, abs=2)
    assert list(found.fit.text) == list(again.fit.text)
    assert set(found.fit.labels.tolist()) == set(range(len(found.task.labels)))
    assert len(found.task.labels) >= 2


def labelled(found: Sentences) -> list[tuple[str, str]]:
    labels = [found.task.labels[label] for part in (found.fit, found.test) for label in part.labels]
    return list(zip([*found.fit.text, *found.test.text], labels, strict=True))


def test_labels_say_what_they_mean() -> None:
    for text, label in labelled(generate("length", sentences(), 300, 0)):
        least, most = map(int, label.removesuffix(" words").split("-"))
        assert least <= len(text.split()) <= most
    content = generate("word-content", sentences(), 300, 0)
    for text, label in labelled(content):
        assert set(text.split()) & set(content.task.labels) == {label}
    known = {" ".join(text.split()) for text in sentences()}
    for name in ("bigram-shift", "odd-word"):
        pairs = labelled(generate(name, sentences(), 300, 0))
        assert all((text in known) == (label == "original") for text, label in pairs)
        assert 0.4 < np.mean([label == "original" for _, label in pairs]) < 0.6


def test_two_neighbours_within_a_sentence_change_places() -> None:
    changed, labels = bigram_shift([f"One two three four , {n}" for n in range(40)], np.random.default_rng(0))
    told = {text.partition(" ,")[0] for text, label in zip(changed, labels, strict=True) if label == "shifted"}
    assert told == {"One three two four", "One two four three"}


def test_what_cannot_be_made_is_one_line() -> None:
    with pytest.raises(WordsError, match=r"^unknown probing task 'tense'; allowed: length, word-content, bigram-shift"):
        generate("tense", sentences(), 100, 0)
    with pytest.raises(
        DataError, match=r"^probing task bigram-shift needs 30 different sentences of two labels or more"
    ):
        generate("bigram-shift", ["a b"] * 100, 100, 0)
