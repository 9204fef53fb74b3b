"""The report: one file that needs nothing else, holds every trial, and runs nothing that a user wrote."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from datetime import datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from layersearch.errors import LayersearchError
from layersearch.report.charts import front_chart, near_front
from layersearch.report.figures import pictures_of
from layersearch.report.html import LISTED, report_of, write_report
from layersearch.search.record import Record, read_study
from layersearch.search.trials import Confirmed, Row
from layersearch.strategies import named_patterns
from tests.conftest import TinyRun, call
from tests.report.conftest import LAYERS, make_record

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
EVIL = "</script><script>document.title='run'</script><img src=x onerror=alert(1)> & \"co\" $\\frac$"


class Reader(HTMLParser):
    """What a page holds: the elements by class, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.classes: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.classes += (dict(attrs).get("class") or "").split()

    def handle_data(self, data: str) -> None:
        self.text += data


def trials_of(page: str) -> dict[int, dict[str, Any]]:
    """What the page's script knows of each trial."""
    found = re.search(r'<script type="application/json" id="trials">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return {trial["number"]: trial for trial in json.loads(found[1])}


@pytest.fixture
def full(halves: Record) -> Record:
    """A study with everything that a report shows."""
    names = named_patterns(LAYERS)
    rows = [
        replace(
            row,
            strategy=names.get(row.pattern),
            work=0.5,
            seconds=40.0,
            ended=datetime(2026, 1, 1) + timedelta(minutes=row.number),
        )
        for row in halves.rows
    ]
    known = {row.pattern for row in halves.front} | {"0-11"}
    confirmed = {pattern: Confirmed(pattern, (1, 2), (0.5, 0.6), 0.55, 0.07) for pattern in known}
    failed = Row(900, "FAIL", "0-4", 0, reason="the loss is nan")
    timed = {row.pattern: {"1": [2e6 + (row.parameters or 0) / 10, 3e6]} for row in rows}
    facts = {**halves.facts, "timed": timed}
    return replace(halves, rows=(*rows, failed), confirmed=confirmed, facts=facts)


def test_every_section_is_there_and_says_what_the_study_holds(full: Record) -> None:
    page = Reader(report_of(full))
    titles = ["The front", "Layers that the front keeps", "Score kept", "Confirmation", "Course", "What ended early"]
    assert [title for title in titles if title not in page.text] == []
    assert f"120 finished trials, {len(full.front)} on the front." in page.text
    assert page.tags.count("svg") >= 6
    assert "latency, ms a batch of one" in page.text
    assert "the loss is nan" in page.text
    assert "0.5500 ± 0.0700 (2)" in page.text


def test_the_summary_names_a_candidate_only_if_its_own_score_is_as_good(record: Record) -> None:
    full, *others = record.rows
    low, high = 0.66, 0.92
    baseline = replace(full, score=0.79, interval=(low, high))
    wide = replace(others[0], score=0.53, interval=(0.4, 0.7), parameters=(full.parameters or 0) - 2, state="COMPLETE")
    said = report_of(replace(record, rows=(baseline, wide)))
    assert "lies within the unchanged model" not in said
    said = report_of(replace(record, rows=(baseline, replace(wide, score=0.68))))
    assert f"is trial {wide.number} ({wide.pattern})" in said
    assert "Where the front bends most" not in said, "best --knee names the unchanged model: of two neither bends"
    wide = replace(wide, parameters=int(0.8 * (full.parameters or 0)))
    small = replace(others[1], score=0.2, parameters=(full.parameters or 0) // 2, state="COMPLETE")
    for score, apart in ((0.78, "0.0100 worse than"), (0.79, "as good as")):
        said = report_of(replace(record, rows=(baseline, replace(wide, score=score), small)))
        assert f"Where the front bends most lies trial {wide.number} ({wide.pattern}), the one that" in said
        assert f"the score that counts {apart} the unchanged model" in said


def test_marks_tell_the_front_ties_the_baseline_and_named_strategies(full: Record) -> None:
    page = Reader(report_of(replace(full, confirmed={})))
    named = sum(row.strategy is not None for row in full.rows if row.pattern != "0-11")
    assert page.classes.count("named") == named + 2  # the unchanged model, and the legend's own
    assert page.classes.count("baseline-mark") == 1
    assert page.classes.count("ring") == sum(
        row.interval is not None and row.interval[1] >= full.rows[0].interval[0]  # type: ignore[index]
        for row in full.front
        if row.number
    )
    assert page.classes.count("map-row") == len(full.front)
    assert page.classes.count("tied") + page.classes.count("other") + named + 1 >= 120 - len(full.front)


def test_stairs_and_ties_are_those_of_the_studys_objectives(record: Record, by_macs: Record) -> None:
    assert 'class="stairs"' in front_chart(record)
    assert 'class="stairs"' not in front_chart(by_macs)
    assert [row.number for row in near_front(by_macs)] == [3]
    page = report_of(by_macs)
    assert "MACs (M)" in page
    assert "The front keeps --max-macs 60%." in page
    facts = dict(trials_of(page)[4]["facts"])
    assert facts["MACs (M)"] == "80"
    assert facts["limits"] == "over a limit: macs by 20.0% of all, score by 0.0100"


def test_a_trial_is_shown_with_its_pattern_and_the_command_that_exports_it(record: Record) -> None:
    whole = next(row for row in record.front if row.number)
    known = trials_of(report_of(replace(record, name="my study"), " --storage a.db"))
    assert set(known) == {row.number for row in record.rows}
    facts = dict(known[whole.number]["facts"])
    assert facts["pattern"] == whole.pattern
    assert facts["trial"] == f"{whole.number}, on the front"
    number = whole.number
    assert known[number]["command"] == (
        f"layersearch export 'my study' --trial {number} --to my-study-{number} --storage a.db"
    )
    replayed = replace(record, facts={**record.facts, "replay": "scores.csv"})
    assert {trial["command"] for trial in trials_of(report_of(replayed)).values()} == {None}


def test_the_page_needs_nothing_from_elsewhere(full: Record) -> None:
    page = report_of(full)
    assert not re.search(r"https?://|\bsrc=|\bhref=|@import|url\(", page)
    assert "default-src 'none'" in page


def test_nothing_that_a_user_wrote_is_markup(full: Record) -> None:
    failed = replace(full.rows[-1], reason=EVIL)
    facts = {**full.facts, "command": EVIL, "space_name": EVIL}
    first = replace(full.rows[0], strategy=EVIL, versions=EVIL)
    mean = replace(full, name=EVIL, facts=facts, rows=(first, *full.rows[1:-1], failed))
    page = report_of(mean)
    assert "<img" not in page
    assert "<script>document" not in page
    assert Reader(page).tags.count("script") == 2
    assert page.count("&lt;img src=x") >= 5
    assert dict(trials_of(page)[0]["facts"])["strategy"] == "the unchanged model"


def test_proposals_without_a_pattern_and_trials_under_way_are_counted(record: Record) -> None:
    running = Row(95, "RUNNING", "0-4", 0)
    more = replace(record, rows=(*record.rows, running), spelled_none={90: "PRUNED", 91: "PRUNED", 92: "WAITING"})
    page = Reader(report_of(more)).text
    assert "2 proposals of the sampler spelled no pattern of the space." in page
    assert "on the front. 1 more had begun when this was written." in page


@pytest.mark.parametrize("kept", [0, 1, 2, 3])
def test_few_trials_make_a_report_too(record: Record, kept: int) -> None:
    page = Reader(report_of(replace(record, rows=record.rows[:kept], confirmed={})))
    assert ("No trial of this study is finished yet." in page.text) == (kept == 0)
    assert ("The front" in page.text) == (kept > 0)
    assert "Nothing: every trial was trained and scored in full." in page.text


def test_scores_below_zero_keep_no_share(record: Record) -> None:
    below = [replace(row, score=-0.5 - row.number / 100, interval=None) for row in record.rows[:9]]
    assert "Score kept" not in Reader(report_of(replace(record, rows=tuple(below)))).text


def test_a_thousand_trials_and_thousands_that_ended_early_stay_small() -> None:
    record = make_record("halves", 1000)
    early = [Row(2000 + n, "PRUNED", "0-4", 0, reason="beaten proposal: 0.7 at best") for n in range(5000)]
    page = report_of(replace(record, rows=(*record.rows, *early)))
    assert len(page.encode()) < 1_000_000
    assert f"and {5000 - LISTED:,} more" in page


def test_a_report_is_written_whole_or_refused(record: Record, tmp_path: Path) -> None:
    write_report(record, tmp_path / "a" / "b.html")
    assert (tmp_path / "a" / "b.html").read_text() == report_of(record)
    (tmp_path / "file").touch()
    with pytest.raises(LayersearchError) as caught:
        write_report(record, tmp_path / "file" / "b.html")
    assert str(caught.value) == (
        f"the report cannot be written to {tmp_path / 'file' / 'b.html'}: File exists; name another place"
    )


def test_the_command_writes_page_and_pictures(
    tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    drawn = call("report", "--storage", tiny_run.storage, "--png", "pictures")
    assert drawn.code == 0, drawn.err
    assert all(line.startswith("drawn: pictures/") for line in drawn.err.splitlines())
    assert [file.name for file in Path().iterdir()] == ["pictures"]  # a page comes where it is asked for
    said = call("report", "--storage", tiny_run.storage)
    assert said.err == "written: tiny.html\n"
    both = call("report", "--storage", tiny_run.storage, "--png", "pictures", "--to", "both.html")
    assert both.err.splitlines() == ["written: both.html", *drawn.err.splitlines()]
    drawn_ = {file.stem for file in Path("pictures").iterdir()}
    assert drawn_ == set(pictures_of(read_study(str(tiny_run.storage), "tiny", print))) >= {"front", "kept", "layers"}
    page = Path("tiny.html").read_text()
    assert "5 finished trials" in page
    assert trials_of(page)[0]["command"].endswith(f"--to tiny-0 --storage {tiny_run.storage}")


@pytest.fixture
def opened(tmp_path: Path) -> Any:
    """A function that opens a page in Chromium and gives the document that its script left."""
    if CHROMIUM is None:
        pytest.skip("needs Chromium, which this machine does not have")

    def opened(page: Path, fragment: str = "") -> str:
        words = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
        done = subprocess.run(
            [str(CHROMIUM), *words, page.as_uri() + fragment], capture_output=True, text=True, timeout=90, check=True
        )
        return done.stdout

    return opened


def test_chromium_shows_a_thousand_trials_within_two_seconds(opened: Any, tmp_path: Path) -> None:
    record = replace(make_record("halves", 1000), name=EVIL)
    write_report(record, tmp_path / "report.html")
    number = record.front[3].number
    page = opened(tmp_path / "report.html", f"#trial-{number}")
    ready = re.search(r'data-ready="(\d+)"', page)
    assert ready is not None  # the script came to its end
    assert int(ready[1]) < 2000
    tip = page.split('id="tip"')[1].split("<script")[0]
    assert f"{number}, on the front" in tip
    assert f'<dt class="">pattern</dt><dd class="">{record.front[3].pattern}</dd>' in tip
    assert re.search(rf'<circle class="member chosen"[^>]* data-trial="{number}"', page)
    assert "<title>run" not in page


POINT = """<script>
const mark = document.querySelector('circle.member[data-trial="%d"]'), box = mark.getBoundingClientRect();
const at = {clientX: box.x + box.width / 2 + 4, clientY: box.y + box.height / 2, bubbles: true};
document.querySelector('input[value="of-others"]').click();
mark.ownerSVGElement.dispatchEvent(new MouseEvent("mousemove", at));
</script>"""


def test_pointing_at_a_mark_tells_its_trial_and_the_legend_hides_parts(
    opened: Any, record: Record, tmp_path: Path
) -> None:
    member = next(row for row in record.front if row.number)
    page = report_of(record)
    assert 'id="tip" role="status" hidden' in page
    (tmp_path / "report.html").write_text(page.replace("</body>", POINT % member.number + "</body>"))
    page = opened(tmp_path / "report.html")
    tip = page.split('id="tip"')[1].split("<script")[0]
    assert f'<dd class="">{member.pattern}</dd>' in tip
    assert f"layersearch export {record.name} --trial {member.number} " in tip
    assert "<button" not in tip  # which comes with a click
    assert re.search(r'<g class="of-others" display="none">', page)
