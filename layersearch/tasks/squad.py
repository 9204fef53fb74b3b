"""The tasks `squad` and `squad2`: which words of a text answer a question (SQuAD 1.1 and 2.0), from SQuAD's JSON.

Knows: the files, windows over long texts, the best span among a question's windows, the official scores. Does not
know: models, how a span is learnt. Sources: Rajpurkar et al. (arXiv 1606.05250, 1806.03822) for data and scores, Devlin
et al. (arXiv 1810.04805), section 4, for windows, the best span and "no answer".
"""

from __future__ import annotations

import json
import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from layersearch.counts import count
from layersearch.errors import DataError, WordsError
from layersearch.kinds import ENDS, STARTS
from layersearch.tasks.metrics import Noise, noise_of_share
from layersearch.tasks.task import DRAW_SEED, VALIDATION_SHARE, Encoded, Examples, Splits
from layersearch.tasks.text import AT_ONCE, Flat, checked, file_of, fingerprint, require_offsets, text_of

if TYPE_CHECKING:
    from layersearch.kinds import KindName

SQUAD: Mapping[str, tuple[str, str]] = MappingProxyType(
    {"squad": ("train-v1.1.json", "dev-v1.1.json"), "squad2": ("train-v2.0.json", "dev-v2.0.json")}
)
LONGEST_ANSWER = 30  # tokens
SHORTEST = 24  # tokens of a window: a third for the question, a third that two windows share
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)

Answer = tuple[int, str]  # where it starts in the context, in letters, and its text


@dataclass(frozen=True)
class SpanTask:
    """A `Task` over questions and the contexts that may answer them.

    `Examples.labels` holds a tuple of `Answer` for each question, empty where there is none. An encoded example is a
    window: the question and a part of its context.
    """

    name: str
    data: Path
    kind: KindName = "span"
    labels: tuple[str, ...] = ()
    num_labels: int = 2
    metric: str = "f1"
    direction: Literal["maximize"] = "maximize"

    def splits(self, holdout: float, seed: int) -> Splits:
        """Read the JSON and hold the contexts of about the share `holdout` of the training questions out."""
        train, validation, mark, warnings = self._read()
        assert train.pair is not None
        search = _drawn(train.pair, holdout, seed)
        if not len(search):
            raise DataError(f"{self.data}: all training questions are about one context; two are the least")
        rest = np.setdiff1d(np.arange(len(train)), search)
        parts = train.take(rest), train.take(search), validation
        return Splits(*parts, fingerprint=fingerprint(parts, mark), warnings=warnings)

    def _read(self) -> tuple[Examples, Examples, str, tuple[str, ...]]:
        """Training and validation questions, a mark of the files, remarks."""
        unanswered = self.name == "squad2"
        if self.data.is_dir():
            files = [file_of(self.data, (name,)) for name in SQUAD[self.name]]
            (train, _, first), (validation, _, second) = (_questions(file, unanswered) for file in files)
            return train, validation, first + second, ()
        found, articles, mark = _questions(self.data, unanswered)
        chosen = _drawn(articles, VALIDATION_SHARE, DRAW_SEED)
        if not len(chosen):
            raise DataError(f"{self.data} has one article, and training and validation need one each")
        several = f"{len({articles[i] for i in chosen})} of its {count(len(set(articles)), 'article')}"
        remark = f"{self.data} has no validation set: {several} ({count(len(chosen), 'question')}) are held out for it"
        return found.take(np.setdiff1d(np.arange(len(found)), chosen)), found.take(chosen), mark, (remark,)

    def encode(self, examples: Examples, reader: Any, max_length: int) -> Encoded:
        """Windows of at most `max_length` tokens; two of one context share a third of that, a question has a third.

        Raises WordsError for windows too short, DataError for a tokenizer without offsets.
        """
        require_offsets(reader, self.name)
        if max_length < SHORTEST:
            raise WordsError(f"--max-length {max_length} has no room for a question and its context; give {SHORTEST}")
        assert examples.pair is not None
        ids, types, windows = Flat(np.int32), Flat(np.int8), _Windows([], [], [], [])
        for start in range(0, len(examples), AT_ONCE):
            some = slice(start, start + AT_ONCE)
            third = max_length // 3
            tokens = reader(
                _cut(examples.text[some], reader, third),
                list(examples.pair[some]),
                truncation="only_second",
                max_length=max_length,
                stride=third,
                return_overflowing_tokens=True,
                return_offsets_mapping=True,
                return_attention_mask=False,
            )
            ids.add(tokens["input_ids"])
            types.add(tokens.get("token_type_ids", ()))
            windows.add(tokens, reader.cls_token_id, start, examples.labels)
        found, places = types.array(), np.concatenate(windows.places)
        return Encoded(
            input_ids=ids.array(),
            token_type_ids=found if len(found) else None,
            offsets=np.concatenate([[0], np.cumsum([len(part) for part in windows.places], dtype=np.int64)]),
            labels=np.concatenate(windows.marks),
            about={
                "questions": np.array(windows.questions, dtype=np.int64),
                "nulls": np.array(windows.nulls, dtype=np.int64),
                "first_letters": places[:, 0],
                "end_letters": places[:, 1],
                **_texts(examples),
            },
        )

    def score(self, answers: NDArray[np.float32], scored: Encoded) -> dict[str, float]:
        """F1 and exact match, means over questions; raises TrainingError where a logit is not finite."""
        exact, f1 = self._of_questions(answers, scored)
        return {"f1": float(f1.mean()), "exact-match": float(exact.mean())}

    def noise(self, answers: NDArray[np.float32], scored: Encoded) -> Noise:
        """The noise of F1 over questions; raises TrainingError as `score` does."""
        _, f1 = self._of_questions(answers, scored)
        return noise_of_share(f1, np.ones_like(f1))

    def _of_questions(self, answers: NDArray[np.float32], scored: Encoded) -> tuple[NDArray[Any], NDArray[Any]]:
        """Exact match and F1 of each question. `squad2` answers where the best span beats "no answer" (threshold 0)."""
        first, last, margin = best_spans(checked(answers, self), scored)
        said = margin > 0 if self.name == "squad2" else np.isfinite(margin)
        about = scored.about
        begins, ends = about["first_letters"][first], about["end_letters"][last]
        scores = np.zeros((len(first), 2))
        for place, context in enumerate(about["contexts"]):
            text = _unpacked(about, "context", context, begins[place], ends[place]) if said[place] else ""
            scores[place] = agreement(normalised(text), _unpacked(about, "gold", place).split("\n"))
        return scores[:, 0], scores[:, 1]


def squad_task(name: str, data: Path | None = None) -> SpanTask:
    """`squad` or `squad2` over a folder with SQuAD's own files, or one such file. Raises WordsError without."""
    if data is None:
        raise WordsError(f"task {name} needs --data: a folder with {' and '.join(SQUAD[name])}, or one such file")
    return SpanTask(name, data)


@dataclass(frozen=True)
class _Windows:
    """What grows window by window: its question, its token for "no answer", letters and marks of its tokens.

    `places` are int32 [tokens, 2], first letter and the one behind the last in the context, -1 outside of it.
    """

    questions: list[int]
    nulls: list[int]
    places: list[NDArray[np.int32]]
    marks: list[NDArray[np.int8]]

    def add(self, tokens: Any, null: int | None, start: int, answers: NDArray[Any]) -> None:
        """Take what a tokenizer made of the questions from `start` on; `null` is the token for "no answer", if any."""
        for window, question in enumerate(tokens["overflow_to_sample_mapping"]):
            inside = np.array([part == 1 for part in tokens.sequence_ids(window)])
            places = np.where(inside[:, None], np.array(tokens["offset_mapping"][window], dtype=np.int32), -1)
            ids = tokens["input_ids"][window]
            self.questions.append(start + question)
            self.nulls.append(ids.index(null) if null in ids else 0)
            self.places.append(places.astype(np.int32))
            self.marks.append(_marks(places, self.nulls[-1], answers[start + question]))


def _marks(places: NDArray[np.int32], null: int, answers: Sequence[Answer]) -> NDArray[np.int8]:
    """The bits of a window's tokens: of its question's first answer, or both at `null` if that is not inside."""
    marks = np.zeros(len(places), dtype=np.int8)
    inside = np.flatnonzero(places[:, 0] >= 0)
    first = last = null
    if answers and len(inside):
        (start, text), letters = answers[0], places[inside]
        if letters[0, 0] <= start and start + len(text) <= letters[-1, 1]:
            first = inside[np.searchsorted(letters[:, 0], start, side="right") - 1]
            last = inside[np.searchsorted(letters[:, 1], start + len(text))]
    marks[first] |= STARTS
    marks[last] |= ENDS
    return marks


def best_spans(answers: NDArray[np.float32], scored: Encoded) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """For each question the tokens where the likeliest span starts and ends, and its margin over "no answer".

    `answers` are the logits of start and end, [tokens, 2]. A span lies within the context of one window, has at most
    `LONGEST_ANSWER` tokens, and the largest sum of its two logits. "No answer" has the least that a window of the
    question gives to its null token. A margin of minus infinity: no window has a token of the context.
    """
    about, windows = scored.about, np.arange(len(scored))
    inside, window_of = about["first_letters"] >= 0, np.repeat(windows, scored.lengths)
    start, end = (np.where(inside, answers[:, side], -np.inf) for side in (0, 1))
    best, last = start + end, np.arange(len(start))
    for further in range(1, min(LONGEST_ANSWER, len(start))):
        sums = start[:-further] + end[further:]
        better = np.flatnonzero((sums > best[:-further]) & (window_of[:-further] == window_of[further:]))
        best[better], last[better] = sums[better], better + further
    questions = np.arange(len(about["contexts"]))
    heads = np.searchsorted(about["questions"], questions)
    top, question_of = np.maximum.reduceat(best, scored.offsets[heads]), about["questions"][window_of]
    hits = np.flatnonzero(best == top[question_of])
    first = hits[np.searchsorted(question_of[hits], questions)]
    null = answers[scored.offsets[:-1] + about["nulls"]].sum(axis=1)
    return first, last[first], top - np.minimum.reduceat(null, heads)


def normalised(text: str) -> str:
    """Lower case, without punctuation, articles and needless white space, as SQuAD's evaluation has it."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split())


def agreement(answer: str, golds: Sequence[str]) -> tuple[float, float]:
    """Exact match, and F1 over words, with the nearest of `golds`; all `normalised`, "" is no answer (2.0's rules)."""
    if answer in golds:
        return 1.0, 1.0
    words = Counter(answer.split())
    shares = [0.0]
    for gold in golds:
        others = gold.split()
        shares.append(2 * sum((words & Counter(others)).values()) / (words.total() + len(others)))
    return 0.0, max(shares)


def _texts(examples: Examples) -> dict[str, NDArray[Any]]:
    """What scoring needs of the texts, as numbers: each context once, and each question's golds, a line each."""
    assert examples.pair is not None
    numbers: dict[str, int] = {}
    contexts = [numbers.setdefault(context, len(numbers)) for context in examples.pair]
    golds = ("\n".join(dict.fromkeys(filter(None, (normalised(text) for _, text in some)))) for some in examples.labels)
    return {
        "contexts": np.array(contexts, dtype=np.int64),
        **_packed("context", list(numbers)),
        **_packed("gold", list(golds)),
    }


def _packed(name: str, texts: Sequence[str]) -> dict[str, NDArray[Any]]:
    letters = "".join(texts).encode("utf-32-le", "surrogatepass")
    edges = np.cumsum([0, *map(len, texts)], dtype=np.int64)
    return {f"{name}_letters": np.frombuffer(letters, dtype=np.uint32), f"{name}_edges": edges}


def _unpacked(about: Mapping[str, Any], name: str, place: int, begin: int = 0, end: int | None = None) -> str:
    """The letters from `begin` to `end` of the text at `place`."""
    first, behind = about[f"{name}_edges"][place : place + 2]
    letters = about[f"{name}_letters"][first + begin : behind if end is None else first + end]
    return str(letters.tobytes().decode("utf-32-le", "surrogatepass"))


def _cut(questions: Sequence[str], reader: Any, tokens: int) -> list[str]:
    """The questions, each with so many tokens at most; white space before one would count as a token of its own."""
    stripped = [question.strip() for question in questions]
    found = reader(stripped, add_special_tokens=False, truncation=True, max_length=tokens, return_offsets_mapping=True)
    ends = [places[-1][1] if len(places) == tokens else None for places in found["offset_mapping"]]
    return [question[:end] for question, end in zip(stripped, ends, strict=True)]


def _drawn(groups: Sequence[Any], share: float, seed: int) -> NDArray[np.int64]:
    """Indices, ascending, of the members of whole groups that are about `share` of all; none of one group."""
    numbers: dict[Any, int] = {}
    group_of = np.array([numbers.setdefault(group, len(numbers)) for group in groups])
    order = np.random.default_rng(seed).permutation(len(numbers))
    sizes = np.cumsum(np.bincount(group_of)[order])[:-1]
    many = int(np.abs(sizes - share * len(groups)).argmin()) + 1 if len(sizes) else 0
    return np.flatnonzero(np.isin(group_of, order[:many]))


def _questions(file: Path, unanswered: bool) -> tuple[Examples, Sequence[int], str]:
    """All questions of a file, the number of the article of each, and a hash of the file. Raises DataError."""
    text = text_of(file)
    try:
        articles = _part(json.loads(text), "data", list, str(file))
    except json.JSONDecodeError as problem:
        raise DataError(f"{file}, line {problem.lineno}, column {problem.colno}: no JSON here: {problem.msg}") from None
    found: list[tuple[int, str, str, tuple[Answer, ...]]] = []
    for number, article in enumerate(articles, 1):
        where = f"{file}: article {number}"
        for paragraph in _part(article, "paragraphs", list, where):
            context = _part(paragraph, "context", str, f"{where}: a paragraph")
            for entry in _part(paragraph, "qas", list, f"{where}: a paragraph"):
                place = f"{where}: question {entry.get('id') if isinstance(entry, dict) else None}"
                question = _part(entry, "question", str, place)
                found.append((number, question, context, _answers(entry, context, unanswered, place)))
    if not found:
        raise DataError(f"{file} has no questions")
    numbers, questions, contexts, answers = zip(*found, strict=True)
    labels = np.fromiter(answers, dtype=object)
    return Examples(questions, contexts, labels), numbers, sha256(text.encode()).hexdigest()


def _part(value: Any, key: str, form: type[Any], place: str) -> Any:
    """The list or text `value[key]`; raises DataError where there is none."""
    found = value.get(key) if isinstance(value, dict) else None
    if not isinstance(found, form) or (form is str and not found.strip()):
        raise DataError(f"{place} has no {'text' if form is str else 'list'} {key!r}: give a file in SQuAD's own form")
    return found


def _answers(entry: Mapping[str, Any], context: str, unanswered: bool, place: str) -> tuple[Answer, ...]:
    """The answers of a question. Raises DataError for one that its context does not have where it is said to start."""
    listed = [] if entry.get("is_impossible") else _part(entry, "answers", list, place)
    if not listed and not unanswered:
        raise DataError(f"{place} has no answer, which SQuAD 1.1 does not allow: use --task squad2")
    answers = []
    for answer in listed:
        text, start = _part(answer, "text", str, place), answer.get("answer_start")
        near = max(0, start - 2) if isinstance(start, int) else len(context)  # some are off by a letter or two
        found = context.find(text, near, near + len(text) + 4)
        if isinstance(start, int) and context.startswith(text, start) and start >= 0:
            found = start
        if found < 0:
            raise DataError(f"{place}: its context has no {text!r} at letter {start}; correct the answer or remove it")
        answers.append((found, text))
    return tuple(answers)
