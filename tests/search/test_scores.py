"""Tables of known scores: three spellings of patterns, repetitions, and one clear line for every mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from layersearch.errors import DataError, WordsError
from layersearch.search.scores import Known, Table, read_table

SHARED = Path(__file__).parents[3] / "shared" / "data"
needs_tables = pytest.mark.skipif(not SHARED.is_dir(), reason="the tables in ../shared/data are not here")


def table(folder: Path, text: str, **how: object) -> Table:
    file = folder / "t.csv"
    file.write_text(text)
    return read_table(file, **how)  # type: ignore[arg-type]


def test_our_own_csv_is_read_with_patterns_in_any_spelling(tmp_path: Path) -> None:
    found = table(tmp_path, "trial,pattern,parameters,score\n0,0-3,100,0.9\n1,0 1 2,80,0.8\n2,0-1 2a,66,0.7\n")
    assert (found.name, found.metric, found.direction) == ("t.csv", "score", "maximize")
    assert (found.num_layers, found.unchanged) == (4, 100)
    assert found.known == {"0-3": Known(0.9, 100), "0-2": Known(0.8, 80), "0-1 2a": Known(0.7, 66)}


def test_kept_layers_are_counted_from_0_and_a_model_of_no_layers_is_left_out(tmp_path: Path) -> None:
    found = table(tmp_path, "kept_layers,acc\n0 1 2,0.9\n2 0,0.8\n,0.5\n", score="acc")
    assert {text: known.score for text, known in found.known.items()} == {"0-2": 0.9, "0 2": 0.8}


def test_dropped_layers_need_the_number_of_layers_where_the_table_does_not_tell(tmp_path: Path) -> None:
    text = "dropped_layers,score\n,0.9\n0,0.8\n1 2,0.7\n"
    assert set(table(tmp_path, text).known) == {"0-2", "1-2", "0"}
    assert set(table(tmp_path, text, num_layers=5).known) == {"0-4", "1-4", "0 3-4"}


def test_sizes_without_a_column_are_thirds_of_a_layer(tmp_path: Path) -> None:
    found = table(tmp_path, "pattern,score\n0-3,1\n0 1a 2f,1\n")
    assert found.unchanged == 12
    assert {text: known.parameters for text, known in found.known.items()} == {"0-3": 12, "0 1a 2f": 6}
    assert table(tmp_path, "pattern,score\n0-2,1\n", num_layers=4).unchanged == 12  # no row for it is needed


def test_repetitions_are_averaged(tmp_path: Path) -> None:
    found = table(tmp_path, "pattern,seed,score\n0-1,1,0.8\n0-1,2,0.9\n0,1,0.5\n")
    assert found.known["0-1"].score == pytest.approx(0.85)


MIXED = "task,pattern,score\ncola,0-1,0.8\nrte,0-1,0.6\nrte,0,0.5\n"


def test_rows_are_chosen_by_column_and_value(tmp_path: Path) -> None:
    assert table(tmp_path, MIXED, chosen={"task": "rte"}).known["0-1"].score == 0.6


def test_the_fingerprint_tells_file_column_choice_and_layers(tmp_path: Path) -> None:
    text = "task,pattern,score,loss\nrte,0-1,0.6,1\nrte,0,0.5,2\n"
    found = [
        table(tmp_path, text),
        table(tmp_path, text, score="loss"),
        table(tmp_path, text, chosen={"task": "rte"}),
        table(tmp_path, text, num_layers=3),
        table(tmp_path, text.replace("0.6", "0.7")),
    ]
    assert len({each.fingerprint for each in found}) == len(found)
    assert table(tmp_path, text).fingerprint == found[0].fingerprint


@pytest.mark.parametrize(
    ("text", "how", "words"),
    [
        ("", {}, "the table t.csv has no rows; it needs a header and a line a pattern"),
        ("pattern,score\n", {}, "the table t.csv has no rows"),
        (
            "layers,score\n1,2\n",
            {},
            "has none of the columns pattern, kept_layers, dropped_layers; it has layers, score",
        ),
        ("pattern,acc\n0,1\n", {}, "t.csv: unknown --score column 'score'; allowed: pattern, acc"),
        (
            "pattern,score\n0,1\n",
            {"chosen": {"tsk": "rte"}},
            "t.csv: unknown --where column 'tsk'; allowed: pattern, score",
        ),
        (MIXED, {"chosen": {"task": "mrpc"}}, "t.csv has no row with task=mrpc; task is one of cola, rte"),
        (
            MIXED,
            {},
            "t.csv, lines 2 and 3: scores of one pattern differ in task; choose with --where, task=cola or task=rte",
        ),
        (
            "pattern,score\n0-1,1\n0-,1\n",
            {},
            "t.csv, line 3: cannot read '0-' in the pattern '0-'; write source layers",
        ),
        (
            "kept_layers,score\n0 one,1\n",
            {},
            "t.csv, line 2: cannot read kept_layers '0 one'; write layers counted from 0",
        ),
        (
            "pattern,score\n0-1,none\n",
            {},
            "t.csv, line 2: score is 'none', which is no number; correct or remove the row",
        ),
        ("pattern,score\n0-1,nan\n", {}, "t.csv, line 2: score is 'nan', which is no number"),
        ("pattern,score\n0-1\n", {}, "t.csv, line 2: not as many values as the header has columns"),
        ("pattern,score\n0-1,1,2\n", {}, "t.csv, line 2: not as many values as the header has columns"),
        ("pattern,score\n0-5,1\n", {"num_layers": 4}, "t.csv, line 2: names layer 5 of a model of the layers 0-3"),
        ("dropped_layers,score\n5,1\n", {"num_layers": 4}, "t.csv, line 2: names layer 5 of a model of the layers 0-3"),
        ("pattern,parameters,score\n0 2,9,1\n", {}, "no row for the unchanged model, pattern 0-2; add it"),
        ("pattern,parameters,score\n0,many,1\n", {}, "t.csv, line 2: parameters is 'many', which is no number"),
        ('pattern,score\n"0-1,1\n', {}, "the table t.csv cannot be read as CSV: "),
    ],
)
def test_a_mistake_is_said_in_a_line_with_file_and_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, how: dict[str, object], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises((DataError, WordsError)) as caught:
        table(Path(), text, **how)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_absent_or_no_text_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the table .*absent\.csv cannot be read: No such file or directory"):
        read_table(tmp_path / "absent.csv")
    (tmp_path / "b.csv").write_bytes(b"pattern,score\n\xff\xfe,1\n")
    with pytest.raises(DataError, match=r"the table .*b\.csv cannot be read as CSV: "):
        read_table(tmp_path / "b.csv")


@needs_tables
def test_the_measured_table_is_every_subset_of_six_layers() -> None:
    found = read_table(SHARED / "measured" / "minilm_l6_stsb_subsets.csv", "spearman_epoch2")
    assert (found.num_layers, len(found.known), found.unchanged) == (6, 63, 22_713_601)
    assert found.known["0-3 5"] == Known(0.8504, 20_939_137)


@needs_tables
def test_the_published_table_holds_all_pairs_and_a_greedy_path() -> None:
    file = SHARED / "published" / "layer_subsets_bert.csv"
    found = read_table(file, chosen={"task": "stsb", "scored_on": "validation"})
    assert (found.num_layers, found.unchanged, len(found.known)) == (12, 36, 112)
    with pytest.raises(WordsError, match="scores of one pattern differ in task; choose with --where, task=cola or"):
        read_table(file)
