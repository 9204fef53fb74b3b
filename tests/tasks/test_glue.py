"""GLUE's nine tasks: layouts, label words, official counts, and what is said about a broken folder or file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from layersearch.errors import DataError, WordsError
from layersearch.tasks import TASKS, load_task
from layersearch.tasks.glue import GLUE
from layersearch.tasks.task import Splits
from tests.tasks.support import scored

SHARED = Path(__file__).parents[2].parent / "shared" / "data" / "glue"

# The header line and one row of each class as GLUE's own files have them; `{}` is the row's number.
OFFICIAL = {
    "cola": ("", ["gj04\t1\t\tThey drank the pub {} .", "gj04\t0\t*\tThey drank the pub dry {} ."]),
    "sst2": ("sentence\tlabel", ["a dull film {} \t0", "a fine film {} \t1"]),
    "mrpc": (
        "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String",
        ['1\t10\t11\tHe said " no {} .\tHe said no {} .', "0\t12\t13\tHe left {} .\tShe stayed {} ."],
    ),
    "stsb": (
        "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore",
        ["0\tg\tf\ty\t1\ts\ts\tA man {} .\tA boy {} .\t3.800", "1\tg\tf\ty\t2\ts\ts\tA cat {} .\tA car {} .\t0.000"],
    ),
    "qqp": (
        "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate",
        ["1\t2\t3\tWhy {}?\tHow come {}?\t1", "4\t5\t6\tWhy {}?\tWho {}?\t0"],
    ),
    "mnli": (
        "index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\tsentence2_binary_parse\tsentence1_parse"
        "\tsentence2_parse\tsentence1\tsentence2\tlabel1\tgold_label",
        [
            f"0\t1\t1a\tfiction\t( a )\t( b )\t(A)\t(B)\tIt rains {{}} .\tIt is wet {{}} .\tneutral\t{word}"
            for word in ("entailment", "neutral", "contradiction")
        ],
    ),
    "qnli": (
        "index\tquestion\tsentence\tlabel",
        ["0\tWho {}?\tHe {} .\tentailment", "1\tWho {}?\tIn May {} .\tnot_entailment"],
    ),
    "rte": (
        "index\tsentence1\tsentence2\tlabel",
        ["0\tA {} .\tB {} .\tnot_entailment", "1\tC {} .\tD {} .\tentailment"],
    ),
    "wnli": ("index\tsentence1\tsentence2\tlabel", ["0\tIt {} .\tThe cup {} .\t1", "1\tIt {} .\tThe pot {} .\t0"]),
}
OFFICIAL["mnli-mm"] = OFFICIAL["mnli"]
OBJECTIVES = {
    "cola": "matthews",
    "sst2": "accuracy",
    "mrpc": "accuracy",
    "stsb": "spearman",
    "qqp": "accuracy",
    "mnli": "accuracy",
    "mnli-mm": "accuracy",
    "qnli": "accuracy",
    "rte": "accuracy",
    "wnli": "accuracy",
}


def _lines(name: str, rows: int) -> list[str]:
    header, kinds = OFFICIAL[name]
    return ([header] if header else []) + [kinds[i % len(kinds)].replace("{}", str(i)) for i in range(rows)]


def _write(folder: Path, name: str, rows: int = 40) -> Path:
    for file, n in zip(GLUE[name].files, (rows, 6), strict=True):
        (folder / file).write_text("\n".join(_lines(name, n)) + "\n", encoding="utf-8")
    return folder


def _splits(name: str, folder: Path) -> Splits:
    return load_task(name, folder).splits(0.25, 0)


def _broken(name: str, folder: Path, line: str | bytes, number: int = 3, file: str = "train.tsv") -> str:
    """What is said when line `number` of a file is replaced by `line`; the folder is cut off the message."""
    lines = [text.encode() for text in _lines(name, 12)]
    lines[number - 1] = line if isinstance(line, bytes) else line.encode()
    _write(folder, name)
    (folder / file).write_bytes(b"\n".join(lines) + b"\n")
    with pytest.raises(DataError) as problem:
        _splits(name, folder)
    return str(problem.value).replace(f"{folder}/", "")


@pytest.mark.parametrize("name", GLUE)
def test_a_task_reads_its_official_layout(name: str, tmp_path: Path) -> None:
    splits = _splits(name, _write(tmp_path, name))
    assert (len(splits.train), len(splits.search), len(splits.validation)) == (30, 10, 6)
    examples = splits.validation
    assert {"0", "1"} <= {word.strip(".?") for text in examples.text for word in text.split()}
    single = name in ("cola", "sst2")
    assert (examples.pair is None) == single
    for text in (*examples.text, *(examples.pair or ())):
        assert "\t" not in text
        assert text == text.strip()
    expected = {
        "stsb": [3.8, 0.0, 3.8, 0.0, 3.8, 0.0],
        "cola": [1, 0, 1, 0, 1, 0],
        "mrpc": [1, 0, 1, 0, 1, 0],
        "qqp": [1, 0, 1, 0, 1, 0],
        "wnli": [1, 0, 1, 0, 1, 0],
        "rte": [1, 0, 1, 0, 1, 0],
        "mnli": [0, 1, 2, 0, 1, 2],
        "mnli-mm": [0, 1, 2, 0, 1, 2],
    }.get(name, [0, 1, 0, 1, 0, 1])
    assert examples.labels == pytest.approx(expected)
    assert examples.labels.dtype == (np.float32 if name == "stsb" else np.int64)


@pytest.mark.parametrize("name", GLUE)
def test_a_task_has_its_official_metric(name: str) -> None:
    task = load_task(name)
    assert (task.name, task.metric, task.direction) == (name, OBJECTIVES[name], "maximize")
    kinds = {"stsb": ("regression", 1), "mnli": ("classification", 3), "mnli-mm": ("classification", 3)}
    assert (task.kind, task.num_labels) == kinds.get(name, ("classification", 2))
    logits = np.eye(max(2, task.num_labels), task.num_labels, dtype=np.float32)
    scores = task.score(logits, scored(np.arange(len(logits))))
    beside = {"mrpc": "f1", "qqp": "f1", "stsb": "pearson"}
    assert set(scores) == {task.metric, beside.get(name, task.metric)}


@pytest.mark.parametrize("name", GLUE)
def test_classes_are_called_what_the_hub_calls_them(name: str) -> None:
    """In the order of the hub's own ClassLabel, the order of the labels here."""
    assert (
        load_task(name).labels
        == {
            "cola": ("unacceptable", "acceptable"),
            "sst2": ("negative", "positive"),
            "mrpc": ("not_equivalent", "equivalent"),
            "stsb": (),
            "qqp": ("not_duplicate", "duplicate"),
            "mnli": ("entailment", "neutral", "contradiction"),
            "mnli-mm": ("entailment", "neutral", "contradiction"),
            "qnli": ("entailment", "not_entailment"),
            "rte": ("entailment", "not_entailment"),
            "wnli": ("not_entailment", "entailment"),
        }[name]
    )


def test_the_mark_at_the_start_of_a_file_and_odd_quotes_are_no_trouble(tmp_path: Path) -> None:
    splits = _splits("mrpc", _write(tmp_path, "mrpc"))
    assert splits.validation.text[0] == 'He said " no 0 .'


def test_only_line_ends_part_rows(tmp_path: Path) -> None:
    _write(tmp_path, "sst2")
    odd = "a\u2028film\x85of\x0cparts"
    (tmp_path / "dev.tsv").write_bytes(f"sentence\tlabel\r\n{odd}\t1\r\nanother\t0\r\n".encode())
    assert _splits("sst2", tmp_path).validation.text == (odd, "another")


def test_other_counts_than_the_official_ones_are_remarked(tmp_path: Path) -> None:
    folder = _write(tmp_path, "rte")
    assert _splits("rte", folder).warnings == (
        f"{folder}/train.tsv: 40 rows where GLUE's rte has 2,490",
        f"{folder}/dev.tsv: 6 rows where GLUE's rte has 277",
    )


def test_rows_that_glue_itself_tore_are_left_out_with_a_warning(tmp_path: Path) -> None:
    lines = _lines("qqp", 20)
    lines[5:5] = ["7\t8\t9\tWas he a real", "\tWas he real?\t0", "10\t11\t12\t\tWho?\t0"]
    _write(tmp_path, "qqp")
    (tmp_path / "train.tsv").write_text("\n".join(lines) + "\n")
    splits = _splits("qqp", tmp_path)
    assert len(splits.train) + len(splits.search) == 20
    assert splits.warnings[0] == f"{tmp_path}/train.tsv: left out 3 broken rows (lines 6, 7, 8)"


@pytest.mark.parametrize(
    ("name", "line", "said"),
    [
        ("rte", "1\tonly one", "train.tsv, line 3: 2 columns where 4 are expected, separated by tabs, without quoting"),
        ("rte", "", "train.tsv, line 3: 1 column where 4 are expected, separated by tabs, without quoting"),
        ("sst2", "a\tb\t1", "train.tsv, line 3: 3 columns where 2 are expected, separated by tabs, without quoting"),
        ("rte", "1\ta\tb\tmaybe", "train.tsv, line 3: label is 'maybe'; allowed is entailment or not_entailment"),
        ("mrpc", "2\t1\t2\ta\tb", "train.tsv, line 3: Quality is '2'; allowed is 0 or 1"),
        ("sst2", "a\t", "train.tsv, line 3: label is ''; allowed is 0 or 1"),
        ("sst2", "  \t1", "train.tsv, line 3: sentence is empty"),
        ("rte", "1\ta\t\tentailment", "train.tsv, line 3: sentence2 is empty"),
        (
            "stsb",
            "0\tg\tf\ty\t1\ts\ts\ta\tb\tmuch",
            "train.tsv, line 3: score is 'much'; allowed is a number from 0 to 5",
        ),
        (
            "stsb",
            "0\tg\tf\ty\t1\ts\ts\ta\tb\tnan",
            "train.tsv, line 3: score is 'nan'; allowed is a number from 0 to 5",
        ),
        (
            "stsb",
            "0\tg\tf\ty\t1\ts\ts\ta\tb\t5.5",
            "train.tsv, line 3: score is '5.5'; allowed is a number from 0 to 5",
        ),
        ("cola", "x\tgood\t\ta", "train.tsv, line 3: label is 'good'; allowed is 0 or 1"),
        ("sst2", b"caf\xe9\t1", "train.tsv, line 3: byte 4 (0xe9) is not UTF-8: save the file as UTF-8"),
        ("qqp", b"1\t2\t3\tcaf\xe9\ta\t1", "train.tsv, line 3: byte 10 (0xe9) is not UTF-8: save the file as UTF-8"),
    ],
)
def test_a_broken_row_is_named_by_file_and_line(name: str, line: str | bytes, said: str, tmp_path: Path) -> None:
    assert _broken(name, tmp_path, line) == said


def test_a_broken_row_of_the_validation_file_is_named_too(tmp_path: Path) -> None:
    assert _broken("mnli", tmp_path, "x", 2, "dev_matched.tsv").startswith("dev_matched.tsv, line 2: 1 column where 12")


def test_a_header_without_the_column_is_shown(tmp_path: Path) -> None:
    said = _broken("rte", tmp_path, "index\tpremise\thypothesis\tlabel", 1)
    assert said == "train.tsv, line 1: no column 'sentence1' in this header: index, premise, hypothesis, label"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "train.tsv, line 1: no column 'sentence' in this header: empty"),
        ("sentence\tlabel\n", "train.tsv holds no examples: give GLUE's SST-2 data"),
        (
            "sentence\tlabel\na\t1\nb\t1\n",
            "train.tsv: every row has the same label, so there is nothing to learn or to",
        ),
    ],
)
def test_a_file_without_examples_of_both_kinds_is_refused(text: str, said: str, tmp_path: Path) -> None:
    _write(tmp_path, "sst2")
    (tmp_path / "train.tsv").write_text(text)
    with pytest.raises(DataError) as problem:
        _splits("sst2", tmp_path)
    assert str(problem.value).replace(f"{tmp_path}/", "").startswith(said)


def test_a_folder_without_the_files_is_told_what_lies_there(tmp_path: Path) -> None:
    for name in ("CoLA", "MRPC"):
        (tmp_path / name).mkdir()
    with pytest.raises(DataError) as problem:
        _splits("mrpc", tmp_path)
    assert str(problem.value) == (
        f"data folder {tmp_path} has no train.tsv (it holds CoLA, MRPC): GLUE's MRPC has train.tsv and dev.tsv"
    )
    (tmp_path / "train.tsv").touch()
    with pytest.raises(
        DataError, match=r"has no dev_matched\.tsv \(it holds .*\): GLUE's MNLI has train\.tsv and dev_m"
    ):
        _splits("mnli", tmp_path)


def test_no_folder_an_empty_one_and_a_file_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    for name, said in (
        ("none", "does not exist"),
        ("file", "is a file"),
        ("empty", r"has no train\.tsv \(it is empty\)"),
    ):
        with pytest.raises(DataError, match=f"data folder {tmp_path}/{name} {said}"):
            _splits("rte", tmp_path / name)


def test_a_file_that_cannot_be_opened_is_said_so(tmp_path: Path) -> None:
    _write(tmp_path, "rte")
    (tmp_path / "dev.tsv").unlink()
    (tmp_path / "dev.tsv").mkdir()
    with pytest.raises(DataError, match=r"dev\.tsv cannot be read: Is a directory"):
        _splits("rte", tmp_path)


@pytest.mark.parametrize(("given", "near"), [("mprc", "mrpc"), ("STS-B", "stsb"), ("sst", "sst2"), ("xyz", None)])
def test_an_unknown_task_is_offered_the_nearest(given: str, near: str | None) -> None:
    offered = rf" \(did you mean '{near}'\?\)" if near else ""
    with pytest.raises(WordsError, match=rf"^unknown task '{given}'{offered}; allowed: cola, sst2, .*, demo, .*own$"):
        load_task(given)


def test_every_listed_task_can_be_made_and_names_itself() -> None:
    names = [*GLUE, "demo"]
    assert list(TASKS)[: len(names)] == names
    assert [load_task(name).name for name in names] == names


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real GLUE files are not part of the repository")
@pytest.mark.parametrize(
    ("name", "rows", "warnings"), [("cola", 8551, 0), ("mrpc", 3667, 1), ("rte", 2490, 0), ("stsb", 5749, 0)]
)
def test_the_real_files_have_the_official_counts_but_one(name: str, rows: int, warnings: int) -> None:
    splits = _splits(name, SHARED / GLUE[name].folder)
    assert len(splits.train) + len(splits.search) == rows
    assert len(splits.warnings) == warnings
    if warnings:
        assert splits.warnings[0].endswith("train.tsv: 3,667 rows where GLUE's mrpc has 3,668")
    assert splits.search.labels.mean() == pytest.approx(splits.train.labels.mean(), rel=0.01)
