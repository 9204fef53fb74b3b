"""Tables of the user's own: every format reads alike, labels make the kind, and what is wrong is one line."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets  # type: ignore[import-untyped]
import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from layersearch.errors import DataError, StudyError, WordsError
from layersearch.search.again import prepared_again
from layersearch.search.preparing import prepare
from layersearch.search.purpose import check_purpose
from layersearch.search.question import Prepared, What
from layersearch.search.record import Record
from layersearch.search.trials import Row
from layersearch.tasks import load_task
from layersearch.tasks.own import Columns
from layersearch.tasks.task import Column, Task
from layersearch.training.recipe import FIRST_TRAINING
from tests.conftest import call
from tests.tasks.support import scored

Rows = list[dict[str, Any]]
REVIEW = Columns("review", ("stars",))


def rows(n: int = 60) -> Rows:
    """Texts with everything that a format may trip over, and three classes."""
    odd = ('He said "no"', "a, b; c", "größer ☃", "plain")
    return [{"id": i, "review": f"{odd[i % 4]} {i}", "stars": ("bad", "fine", "good")[i % 3]} for i in range(n)]


def _csv(rows: Rows, file: Path) -> None:
    import csv

    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def _tsv(rows: Rows, file: Path) -> None:
    lines = ["\t".join(rows[0]), *("\t".join(map(str, row.values())) for row in rows)]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _jsonl(rows: Rows, file: Path) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _parquet(rows: Rows, file: Path) -> None:
    parquet.write_table(pyarrow.Table.from_pylist(rows), file)


def _saved(rows: Rows, folder: Path) -> None:
    datasets.Dataset.from_list(rows).save_to_disk(str(folder))


WRITERS: dict[str, Callable[[Rows, Path], None]] = {
    "d.csv": _csv, "d.tsv": _tsv, "d.jsonl": _jsonl, "d.parquet": _parquet, "folder": _saved,
}  # fmt: skip


def task_of(table: Rows, folder: Path, columns: Columns = REVIEW, name: str = "d.csv") -> Task:
    WRITERS[name](table, folder / name)
    return load_task("own", folder / name, columns)


@pytest.fixture(autouse=True)
def _no_bars() -> None:
    datasets.disable_progress_bars()


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_reads_alike(name: str, tmp_path: Path) -> None:
    task = task_of(rows(), tmp_path, name=name)
    assert (task.kind, task.labels, task.metric) == ("classification", ("bad", "fine", "good"), "accuracy")
    splits = task.splits(0.2, 0)
    assert (len(splits.train), len(splits.search), len(splits.validation)) == (41, 10, 9)
    assert splits.warnings == (f"{tmp_path / name} has no validation set: 15% of its rows are held out for it",)
    known = {row["review"]: row["stars"] for row in rows()}
    found = [
        (text, task.labels[label])
        for part in (splits.train, splits.search, splits.validation)
        for text, label in zip(part.text, part.labels, strict=True)
    ]
    assert dict(found) == known
    assert len(found) == len(known)
    assert isinstance(splits.train.text, Column)


def test_the_fingerprint_is_the_tables_and_the_splits(tmp_path: Path) -> None:
    task = task_of(rows(), tmp_path)
    known = task.splits(0.2, 0).fingerprint
    assert known == load_task("own", tmp_path / "d.csv", REVIEW).splits(0.2, 0).fingerprint
    assert known != task.splits(0.2, 1).fingerprint
    other = rows()
    other[0]["review"] = "other"
    (tmp_path / "b").mkdir()
    assert known != task_of(other, tmp_path / "b").splits(0.2, 0).fingerprint


def test_numbers_are_classes_unless_they_are_fractions_or_the_metric_says_so(tmp_path: Path) -> None:
    whole = [{**row, "stars": i % 12} for i, row in enumerate(rows())]
    task = task_of(whole, tmp_path)
    assert task.labels == tuple(map(str, range(12)))
    ranked = load_task("own", tmp_path / "d.csv", Columns("review", ("stars",), metric="pearson"))
    assert (ranked.kind, ranked.num_labels, ranked.metric) == ("regression", 1, "pearson")
    assert ranked.splits(0.2, 0).train.labels.dtype == np.float32
    parts = [{**row, "stars": i / 4} for i, row in enumerate(rows())]
    assert task_of(parts, tmp_path, name="d.jsonl").metric == "spearman"


def test_a_column_that_tells_rows_apart_is_no_label(tmp_path: Path) -> None:
    table = [{**row, "stars": f"id {i // 2 if i > 50 else i}"} for i, row in enumerate(rows())]
    _csv(table, tmp_path / "d.csv")
    said = refused(Columns("review", ("stars",)), tmp_path / "d.csv")
    assert "different labels in 60 rows: it tells rows apart, not classes; name another column with --label" in said


@pytest.mark.parametrize(("here", "there"), [(int, float), (float, int)])
def test_whole_numbers_are_one_class_however_they_are_written(
    here: Callable[[int], object], there: Callable[[int], object], tmp_path: Path
) -> None:
    """pandas writes 0.0 where a column of whole numbers has had a gap."""
    (tmp_path / "v.csv").write_text("t,y\n" + "".join(f"v {i},{there(i % 3)}\n" for i in range(9)))
    (tmp_path / "d.csv").write_text("t,y\n" + "".join(f"d {i},{here(i % 3)}\n" for i in range(60)))
    task = load_task("own", tmp_path / "d.csv", Columns("t", ("y",), validation=tmp_path / "v.csv"))
    assert task.labels == ("0", "1", "2")
    assert task.splits(0.2, 0).validation.labels.tolist() == [i % 3 for i in range(9)]
    part = task.splits(0.2, 0).train
    assert [int(text.split()[1]) % 3 for text in part.text] == part.labels.tolist()


def test_a_version_is_no_number_where_one_of_them_is_none(tmp_path: Path) -> None:
    versions = [{"t": f"v {i}", "y": ["1.0", "2.0", "beta"][i % 3]} for i in range(60)]
    assert task_of(versions, tmp_path, Columns("t", ("y",))).labels == ("1.0", "2.0", "beta")


@pytest.mark.parametrize("name", ["d.jsonl", "d.parquet", "folder"])
def test_lists_and_several_columns_are_many_labels(name: str, tmp_path: Path) -> None:
    tags = [{"text": f"t {i}", "tags": [["red"], ["blue", "red"], [], ["blue"]][i % 4]} for i in range(40)]
    task = task_of(tags, tmp_path, Columns("text", ("tags",)), name)
    assert (task.kind, task.labels, task.metric) == ("multi-label", ("blue", "red"), "f1-micro")
    part = task.splits(0.2, 0).train
    for text, row in zip(part.text, part.labels, strict=True):
        assert row.tolist() == [[0, 1], [1, 1], [0, 0], [1, 0]][int(text.split()[1]) % 4]
    answers = np.array([[-1, 2], [3, -1]], dtype=np.float32)
    assert task.score(answers, scored(np.array([[0, 1], [1, 1]], dtype=np.float32)))["f1-micro"] == pytest.approx(0.8)
    flags = [{"text": f"t {i}", "a": i % 2, "b": int(i % 3 == 0)} for i in range(40)]
    both = task_of(flags, tmp_path, Columns("text", ("a", "b")))
    assert both.labels == ("a", "b")
    part = both.splits(0.2, 0).search
    assert [row.tolist() for row in part.labels] == [
        [int(text.split()[1]) % 2, int(int(text.split()[1]) % 3 == 0)] for text in part.text
    ]


def test_a_pair_and_a_validation_table(tmp_path: Path) -> None:
    pairs = [{"a": f"x {i}", "b": f"y {i}", "same": i % 2} for i in range(40)]
    _jsonl(pairs[:10], tmp_path / "v.jsonl")
    task = task_of(pairs, tmp_path, Columns("a", ("same",), "b", "f1", tmp_path / "v.jsonl"))
    splits = task.splits(0.2, 0)
    assert (len(splits.train), len(splits.search), len(splits.validation), splits.warnings) == (32, 8, 10, ())
    assert splits.train.pair is not None
    assert [p.split()[1] for p in splits.train.pair] == [t.split()[1] for t in splits.train.text]
    assert set(task.score(np.eye(2, dtype=np.float32), scored(np.array([0, 1])))) == {
        "f1", "accuracy", "f1-macro", "matthews",
    }  # fmt: skip


def test_a_table_that_is_its_own_validation_set_is_warned_of(tmp_path: Path) -> None:
    rows = [{"a": f"x {i}", "same": i % 2} for i in range(40)]
    task = task_of(rows, tmp_path, Columns("a", ("same",), validation=tmp_path / "d.csv"))
    (line,) = task.splits(0.2, 0).warnings
    assert line == (f"--validation is {tmp_path / 'd.csv'}, so confirmed scores are of training data; name other rows")


def test_a_saved_folder_may_have_its_own_validation_part_and_names_of_classes(tmp_path: Path) -> None:
    features = datasets.Features({"t": datasets.Value("string"), "y": datasets.ClassLabel(names=["no", "yes"])})
    parts = {
        name: datasets.Dataset.from_list([{"t": f"{name} {i}", "y": i % 2} for i in range(n)], features=features)
        for name, n in (("train", 40), ("validation", 6))
    }
    datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "saved"))
    task = load_task("own", tmp_path / "saved", Columns("t", ("y",)))
    assert task.labels == ("no", "yes")
    assert len(task.splits(0.2, 0).validation) == 6


def test_a_saved_folder_names_the_classes_in_its_lists(tmp_path: Path) -> None:
    names = datasets.ClassLabel(names=["red", "blue"])
    features = datasets.Features({"t": datasets.Value("string"), "y": datasets.List(names)})
    lists = [{"t": f"t {i}", "y": [[0], [0, 1], [], [1]][i % 4]} for i in range(40)]
    datasets.Dataset.from_list(lists, features=features).save_to_disk(str(tmp_path / "saved"))
    task = load_task("own", tmp_path / "saved", Columns("t", ("y",)))
    assert (task.kind, task.labels) == ("multi-label", ("blue", "red"))
    part = task.splits(0.2, 0).train
    assert [row.tolist() for row in part.labels] == [
        [[0, 1], [1, 1], [0, 0], [1, 0]][int(text.split()[1]) % 4] for text in part.text
    ]


def test_of_a_large_table_a_part_is_drawn_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("layersearch.tasks.own.MOST", 100)
    used = {}
    for asked in (None, 0, 200):
        corpus = task_of(rows(400), tmp_path, Columns("review", ("stars",), examples=asked)).splits(0.2, 0)
        said = [warning for warning in corpus.warnings if "rows" in warning and "drawn" in warning]
        used[asked] = (len(corpus.train) + len(corpus.search) + len(corpus.validation), len(said))
    assert used == {None: (100, 1), 0: (400, 0), 200: (200, 0)}


def test_all_rows_are_one_question_however_they_are_asked_for(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("layersearch.tasks.own.MOST", 100)
    _csv(rows(60), tmp_path / "small.csv")
    _csv(rows(400), tmp_path / "large.csv")

    def asked(name: str, examples: int | None) -> Prepared:
        return prepare(What(str(tiny_model), "own", tmp_path / name, columns=replace(REVIEW, examples=examples)))

    assert asked("small.csv", None).purpose == asked("small.csv", 0).purpose
    part, whole = asked("large.csv", None), asked("large.csv", 0)
    with pytest.raises(StudyError, match=r"Ask for the same \(of a large table --examples 0 takes all rows\), or name"):
        check_purpose("s", whole.purpose.as_dict(), part.purpose.as_dict())
    facts = {**part.facts, "columns": {**vars(REVIEW), "label": ["stars"]}}
    row = Row(0, "COMPLETE", "0-3", 0, 0.5)
    older = replace(whole.purpose, training=FIRST_TRAINING)  # there was no most: nothing said stood for all
    for made in (part.purpose, older):
        assert prepared_again(Record("s", made, facts, (row,), {}), row).purpose.values == made.values


def test_so_many_examples_at_most(tmp_path: Path) -> None:
    task = task_of(rows(400), tmp_path, Columns("review", ("stars",), examples=100))
    splits = task.splits(0.2, 0)
    assert len(splits.train) + len(splits.search) + len(splits.validation) == 100
    assert len(set(splits.train.text)) == len(splits.train)


def refused(columns: Columns, place: Path) -> str:
    with pytest.raises((DataError, WordsError)) as caught:
        load_task("own", place, columns).splits(0.2, 0)
    text = str(caught.value).replace(str(place.parent), "DIR")
    assert "\n" not in text
    return text


def test_a_missing_column_is_told_with_those_there_are(tmp_path: Path) -> None:
    for name in WRITERS:
        WRITERS[name](rows(), tmp_path / name)
        assert (
            refused(Columns("reviw", ("stars",)), tmp_path / name)
            .removesuffix(", train")
            .endswith("has no column 'reviw' (did you mean 'review'?); it has: id, review, stars")
        )


@pytest.mark.parametrize("name", ["d.csv", "d.jsonl"])
def test_bytes_that_are_not_utf_8_are_told_with_their_offset(name: str, tmp_path: Path) -> None:
    WRITERS[name](rows(), tmp_path / name)
    data = (tmp_path / name).read_bytes()
    at = data.index(b"plain")
    (tmp_path / name).write_bytes(data[:at] + b"\xe4" + data[at + 1 :])
    assert refused(REVIEW, tmp_path / name) == (
        f"DIR/{name}: byte 0xe4 at offset {at} is not UTF-8; save the file as UTF-8"
    )


@pytest.mark.parametrize("where", [7, (8 << 20) - 1, (8 << 20) + 2])
def test_the_offset_counts_over_blocks(where: int, tmp_path: Path) -> None:
    """A letter of two bytes may be cut by the end of a block."""
    (tmp_path / "d.csv").write_bytes(b"a" * (where - 1) + b"\xc3\xa4" + b"b" * 9 + b"\xff")
    assert f"byte 0xff at offset {where + 10:,} is" in refused(REVIEW, tmp_path / "d.csv")


def changed(**cells: Any) -> Rows:
    table = rows()
    table[6].update(cells)
    return table


@pytest.mark.parametrize(
    ("table", "columns", "message"),
    [
        (changed(review=" "), REVIEW, "DIR/d.csv: column 'review' is empty in row 7; fill or remove them"),
        (changed(stars=""), REVIEW, "DIR/d.csv: column 'stars' is empty in row 7; fill or remove them"),
        (
            [{**row, "stars": "good"} for row in rows()],
            REVIEW,
            "DIR/d.csv: every row has the same stars, so there is nothing to learn or to score",
        ),
        *(
            (
                [{**row, "stars": word if place == 6 else str(place)} for place, row in enumerate(rows())],
                REVIEW,
                "DIR/d.csv: a label in column 'stars' is not finite; correct or remove the row",
            )
            for word in ("inf", "nan")
        ),
        (
            rows(),
            Columns("review", ("stars",), metric="spearman"),
            "--metric spearman does not fit: column 'stars' of DIR/d.csv has 'bad', no number",
        ),
        (
            rows(),
            Columns("review", ("stars",), metric="f1"),
            "--metric f1 does not fit this classification of 3 classes (did you mean 'f1-macro'?); allowed: accuracy, "
            "f1-macro, matthews",
        ),
        (
            rows(),
            Columns("review", ("stars",), metric="acuracy"),
            "unknown metric 'acuracy' (did you mean 'accuracy'?); allowed: accuracy, f1, f1-macro, f1-micro, matthews, "
            "pearson, spearman",
        ),
        (
            rows(1200),
            Columns("stars", ("review",)),
            "column 'review' of DIR/d.csv has more than 1,000 different labels; name another column with --label, or "
            "if it holds amounts, --metric spearman",
        ),
        (rows(), Columns("review", ("id", "stars")), "DIR/d.csv: a column of several --label holds '10'; allowed is"),
    ],
)
def test_what_is_wrong_with_a_table_is_one_line(table: Rows, columns: Columns, message: str, tmp_path: Path) -> None:
    _csv(table, tmp_path / "d.csv")
    assert refused(columns, tmp_path / "d.csv").startswith(message)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("d.csv", "", "DIR/d.csv is empty; it needs a line of column names, and rows"),
        ("d.csv", "review,stars\n", "DIR/d.csv has no rows"),
        ("d.csv", "review,stars,stars\na,1,0\n", "DIR/d.csv has 2 columns named 'stars'; rename or remove all but one"),
        (
            "d.csv",
            "review;stars\na, b;1\n",
            "DIR/d.csv seems to be separated by semicolons (';'); write it anew with commas (.csv) or tabs (.tsv)",
        ),
        (
            "d.tsv",
            "review,stars\na,1\n",
            "DIR/d.tsv seems to be separated by commas (','); write it anew with commas (.csv) or tabs (.tsv)",
        ),
    ],
)
def test_what_is_wrong_with_a_header_is_one_line(name: str, text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError):  # not WordsError: the words are right
        load_task("own", tmp_path / name, REVIEW)
    assert refused(REVIEW, tmp_path / name) == said


def test_a_column_twice_that_nobody_asks_for_is_let_be(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("review,stars,note,note\n" + "good,1,,\nbad,0,,\n" * 20)
    splits = load_task("own", tmp_path / "d.csv", REVIEW).splits(0.2, 0)
    assert set(splits.train.text) == {"good", "bad"}


def test_a_label_never_seen_in_training_is_told_with_its_row(tmp_path: Path) -> None:
    _csv(rows(), tmp_path / "d.csv")
    _csv(changed(stars="goood"), tmp_path / "v.csv")
    assert refused(Columns("review", ("stars",), validation=tmp_path / "v.csv"), tmp_path / "d.csv") == (
        "DIR/v.csv, row 7: the label 'goood' (did you mean 'good'?) is never seen in training, which has bad, fine, "
        "good; correct it or add training rows"
    )


def test_files_that_are_none(tmp_path: Path) -> None:
    assert refused(REVIEW, tmp_path / "x.csv") == "data file DIR/x.csv does not exist"
    (tmp_path / "x.xls").touch()
    assert refused(REVIEW, tmp_path / "x.xls").startswith(
        "DIR/x.xls has no known ending; give a file that ends in .csv"
    )
    (tmp_path / "torn.csv").write_text("review,stars\na,b\nc,d,e\n")
    said = refused(REVIEW, tmp_path / "torn.csv")  # with several threads pyarrow does not know the row
    assert said.startswith("DIR/torn.csv cannot be read: CSV parse error: ")
    assert "Expected 2 columns, got 3: c,d,e; correct the row (in CSV quote" in said
    (tmp_path / "p.parquet").write_text("no")
    said = refused(REVIEW, tmp_path / "p.parquet")
    assert said.startswith("DIR/p.parquet cannot be read: ")
    assert said.endswith("; write the table anew")
    assert "quote a cell" not in said
    (tmp_path / "empty.csv").write_text("review,stars\n")
    assert refused(REVIEW, tmp_path / "empty.csv") == "DIR/empty.csv has no rows"
    (tmp_path / "folder").mkdir()
    assert refused(REVIEW, tmp_path / "folder").startswith("DIR/folder is no saved `datasets` folder; give one, or")
    damages = (
        ("dataset_info.json", b"{"),
        ("dataset_info.json", b"[]"),
        ("state.json", b'{"_data_files": []}'),
        ("data-00000-of-00001.arrow", b"ARROW1 and no more"),
        ("data-00000-of-00001.arrow", None),
        ("state.json", None),
    )
    for number, (name, content) in enumerate(damages):
        saved = tmp_path / f"saved-{number}"
        datasets.Dataset.from_dict({"review": ["a", "b"], "stars": [0, 1]}).save_to_disk(str(saved))
        (saved / name).unlink()
        if content is not None:
            (saved / name).write_bytes(content)
        said = refused(REVIEW, saved)
        assert said.startswith(f"the saved `datasets` folder DIR/{saved.name} cannot be opened: "), said
        assert said.endswith("; save it anew")


def test_columns_belong_to_own_tables_and_own_tables_need_them(tmp_path: Path) -> None:
    with pytest.raises(WordsError, match="task sst2 knows its own columns; leave out their names, or use --task own"):
        load_task("sst2", None, REVIEW)
    for data, columns in ((None, REVIEW), (tmp_path / "d.csv", None)):
        with pytest.raises(WordsError, match="task own needs --data FILE and the names of two columns: --text COLUMN"):
            load_task("own", data, columns)


def test_texts_come_in_any_order_from_many_batches(tmp_path: Path) -> None:
    table = [{"t": f"text {i}", "y": i % 2} for i in range(25_000)]
    random.Random(0).shuffle(table)
    task = task_of(table, tmp_path, Columns("t", ("y",)), "d.parquet")
    part = task.splits(0.5, 3).train
    assert part.text[0] == next(iter(part.text))
    assert list(part.text) == [part.text[i] for i in range(3)] + list(part.text[3:])
    assert all(int(text.split()[1]) % 2 == label for text, label in zip(part.text, part.labels, strict=True))


def test_a_table_of_many_labels_is_searched_and_exported(tiny_model: Path, tmp_path: Path) -> None:
    """From the command line to a proven folder, by way of a super-network."""
    table = [{"say": f"the {('good', 'bad')[i % 2]} film was {('warm', 'cold')[i % 3 > 0]}"} for i in range(48)]
    words = ("good", "warm")
    _csv([{**row, **{word: int(word in row["say"]) for word in words}} for row in table], tmp_path / "d.csv")
    what: tuple[str | Path, ...] = (
        "--model",
        tiny_model,
        "--task",
        "own",
        "--data",
        tmp_path / "d.csv",
        "--text",
        "say",
        "--label",
        "good",
    )
    what += ("--label", "warm", "--epochs", "1", "--batch-size", "8", "--max-length", "16", "--precision", "fp32")
    storage = ("--storage", f"{tmp_path}/s.db")
    how = (*storage, "--files", f"{tmp_path}/files", "--workers", "0", "--confirm", "0", "--trials", "3")
    said = call("run", *what, *how)
    assert said.code == 0, said.err
    assert "f1-micro" in said.out
    said = call("export", "tiny-bert-d-layers", *storage, "--trial", "0", "--to", tmp_path / "out")
    assert said.code == 0, said.err
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["problem_type"] == "multi_label_classification"
    assert config["id2label"] == {"0": "good", "1": "warm"}
    said = call("run", *what, "--metric", "accuracy", *how)
    assert said.code == 2
    assert said.err.strip().endswith("--metric accuracy does not fit this multi-label task; allowed: f1-micro")
