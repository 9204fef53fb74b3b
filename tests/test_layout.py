"""The plan of the house, walked: ranks of imports, light front doors, declared libraries, docstrings, sizes, places.

Knows: the table of ranks (DESIGN.md section 2). Does not know: what any file does.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import layersearch

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "layersearch"
FILES = sorted(path for path in PACKAGE.rglob("*.py"))

# From bottom to top; a file imports only from lines above its own. The exceptions stand below.
RANKS = (
    {"errors", "names", "counts", "durable", "kinds", "search.files", "analysis.wanted"},
    {"pattern", "mixing", "hub", "typed", "tasks.metrics", "training.schedule", "analysis.ridge"},
    {
        "strategies",
        "choices",
        "models.families",
        "models.parts",
        "models.mix",
        "models.tying",
        "tasks.task",
        "training.recipe",
        "training.job",
        "analysis.effects",
    },
    {"measured", "models.card_code", "models.case", "models.places", "models.readout"},
    {
        "search_space",
        "models.measure",
        "models.onnx",
        "models.push",
        "models.surgery",
        "models.weights",
        "tasks.text",
        "tasks.constant",
        "tasks.tables",
        "training.batches",
    },
    {
        "stacked_space",
        "space_files",
        "models.base",
        "models.checkpoint",
        "models.page",
        "models.costs",
        "models.matrices",
        "models.proof",
        "models.supernet",
        "tasks.glue",
        "tasks.demo",
        "tasks.own",
        "tasks.images",
        "tasks.perplexity",
        "tasks.squad",
        "tasks.conll",
    },
    {
        "models.card",
        "models.counted",
        "models.folder",
        "tasks",
        "search.objectives",
        "training.hidden",
        "training.sparsity",
    },
    {"training.steps"},
    {"models.export", "models.language", "training.finetune", "training.freezing", "analysis.cka"},
    {
        "models.opened",
        "training.supernet",
        "training.influence",
        "training.paused",
        "training.gradual",
        "training.told",
    },
    {"training.candidates"},
    {"training.evaluator", "models.onnx_export", "search.fronts", "analysis.states"},
    {"analysis.similarity", "analysis.probes", "analysis.readout", "analysis.sentences"},
    {"search.times", "search.trials", "search.outbox", "search.grouped", "search.remembered", "search.worker"},
    {"search.quality", "search.agreement", "search.ledger", "search.halving", "search.storage", "search.purpose"},
    {"search.surrogate", "search.ends", "search.scores", "search.found", "search.cheap", "search.lease"},
    {"search.certainty", "search.divergence"},
    {"search.optimism", "search.replicates"},
    {"search.sampler_pattern", "search.screen", "search.record"},
    {"search.samplers", "search.wish", "search.compare", "analysis.importance", "analysis.subject"},
    {"analysis.analyze"},
    {"search.starts", "search.settled", "search.orders"},
    {"search.study", "search.question"},
    {"search.watcher"},
    {"search.preparing", "search.spelling", "search.patterns", "search.measured_costs", "search.keeping"},
    {"search.distill", "search.replay", "search.timing"},
    {"search.one_shot"},
    {
        "search.driver",
        "search.studies",
        "search.plan",
        "report.table",
        "report.notes",
        "report.course",
        "report.layers",
        "report.svg",
        "report.page",
        "report.canvas",
        "report.importance",
    },
    {
        "report.importance_map",
        "report.planned",
        "report.commands",
        "report.confirmation",
        "report.figures",
        "report.charts",
    },
    {"report.html", "report.answer", "report.trial", "report.both", "report.analysis"},
    {"search.searcher", "search.signals", "report.artifacts", "report.analysis_figures", "report.analysis_page"},
    {"search.scheduler", "report.dressing"},
    {"search.cluster", "report.dashboard"},
    {"search.run"},
    {"search.again"},
    {"search.reproduce"},
    {"search.ship", "report.notebook"},
    {"report.console", "report.patterns", "completion"},
    {"recipe_options"},
    {"options", "answers", "words"},
    {"answering", "spelled"},
    {"reading", "api", "analyzing"},
    {"remaking"},
    {"cli", "", "search", "report"},
    {"entry"},
    {"__main__"},
)
RANK = {name: number for number, names in enumerate(RANKS) for name in names}
WITHOUT_A_RANK = {"analysis", "models", "training"}  # these hold a docstring only
HEAVY = ("torch", "ray", "transformers", "optuna", "sqlalchemy", "datasets", "sklearn", "matplotlib")
LONGEST_FILE = 330
LONGEST_FUNCTION = 60
NO_ROOM_FOR_A_DOCSTRING = {"__init__.py", "__main__.py"}


def name_of(file: Path) -> str:
    """`layersearch/search/run.py` is `search.run`, `layersearch/tasks/__init__.py` is `tasks`."""
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


MODULES = {name_of(file) for file in FILES}


def imported_by(tree: ast.AST) -> Iterator[str]:
    """The modules of the package that a file imports, anywhere in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (
                alias.name[len("layersearch.") :] for alias in node.names if alias.name.startswith("layersearch.")
            )
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "layersearch":
            assert node.level == 0
            inside = (node.module or "").removeprefix("layersearch").removeprefix(".")
            for alias in node.names:
                child = f"{inside}.{alias.name}".removeprefix(".")
                yield child if child in MODULES else inside


def upward(name: str, source: str) -> list[str]:
    """The imports of a module that do not go strictly down."""
    found = {other for other in imported_by(ast.parse(source)) if other != ""}
    return sorted(other for other in found if RANK[other] >= RANK[name])


@pytest.mark.parametrize("file", [f for f in FILES if name_of(f) not in WITHOUT_A_RANK], ids=name_of)
def test_imports_go_strictly_down(file: Path) -> None:
    assert upward(name_of(file), file.read_text()) == []


@pytest.mark.parametrize(
    "line",
    [
        "from layersearch.search.run import What",
        "import layersearch.cli",
        "from layersearch.search import run",
        "def f():\n    from layersearch.search.study import Study",
    ],
)
def test_an_import_upward_would_be_found(line: str) -> None:
    assert upward("search.trials", line) != []


def undeclared(source: str) -> set[str]:
    """The libraries that a module imports and pyproject.toml does not name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [line for name, lines in project["optional-dependencies"].items() if name != "test" for line in lines]
    named = {plain(re.split(r"[\[<>=]", line)[0]) for line in [*project["dependencies"], *extras]}
    nodes = list(ast.walk(ast.parse(source)))
    tops = {alias.name.split(".")[0] for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    tops |= {(node.module or "").split(".")[0] for node in nodes if isinstance(node, ast.ImportFrom)}
    return {
        name
        for name in tops - sys.stdlib_module_names - NO_DEPENDENCY
        if not named & {plain(it) for it in PACKAGES.get(name, [name])}
    }


PACKAGES = packages_distributions()
NO_DEPENDENCY = {"layersearch", "IPython", "_typeshed"}  # IPython is there in a notebook; the types for mypy alone


def plain(name: str) -> str:
    return name.lower().replace("_", "-")


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_every_library_that_is_imported_is_a_dependency(file: Path) -> None:
    assert undeclared(file.read_text()) == set()


def test_a_library_that_is_no_dependency_would_be_found() -> None:
    assert undeclared("import pytest, json\nfrom tqdm.auto import tqdm\nimport torch.nn") == {"pytest", "tqdm"}


def test_every_file_has_exactly_one_rank() -> None:
    assert sorted(RANK) == sorted(MODULES - WITHOUT_A_RANK)
    assert sum(map(len, RANKS)) == len(RANK)


def test_files_without_a_rank_import_nothing() -> None:
    for file in FILES:
        if name_of(file) in WITHOUT_A_RANK - {""}:  # the package itself has `load`, which loads nothing until called
            assert not list(imported_by(ast.parse(file.read_text()))), file


def heavy_after(statements: str) -> list[str]:
    """The heavy libraries that a fresh process holds after `statements`."""
    code = f"{statements}\nimport json, sys\nprint('\\n' + json.dumps([n for n in {HEAVY!r} if n in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    found: list[str] = json.loads(done.stdout.splitlines()[-1])
    return found


HELP = """
import sys
import tomllib
sys.argv = ["layersearch", "--help"]
from layersearch.entry import main
try:
    main()
except SystemExit as end:
    assert end.code == 0
"""


@pytest.mark.parametrize("statements", ["import layersearch", HELP, HELP.replace('"--help"', '"run", "--help"')])
def test_the_front_doors_load_nothing_heavy(statements: str) -> None:
    assert heavy_after(statements) == []


def test_reading_a_study_loads_no_model_library() -> None:
    """`layersearch front` and `layersearch dashboard` answer without the seconds that torch takes."""
    parts = ("search.record", "report.console", "report.figures", "report.html", "report.dashboard")
    loaded = heavy_after("\n".join(f"import layersearch.{part}" for part in parts))
    assert set(loaded) <= {"optuna", "sqlalchemy"}


def test_a_second_plan_of_a_model_loads_no_model_library(tiny_model: Path) -> None:
    plan = f"layersearch.plan(model={str(tiny_model)!r}, task='demo')"
    statements = f"import layersearch\nassert len({plan}) > 1"
    layersearch.plan(model=str(tiny_model), task="demo")
    assert set(heavy_after(statements)) <= {"optuna"}
    assert "torch" in heavy_after(f"import os\nos.environ['LAYERSEARCH_CACHE'] = ''\n{statements}")


REFUSED = """
import layersearch
from layersearch.errors import LayersearchError
for ask in (
    lambda: layersearch.export(trial=0, to="x", storage="absent.db"),
    lambda: layersearch.confirm(storage="absent.db"),
    lambda: layersearch.time(storage="absent.db"),
    lambda: layersearch.verify("nowhere"),
    lambda: layersearch.reproduce("nowhere"),
    lambda: layersearch.search(model={model!r}, task="sst2", data="nowhere"),
    lambda: layersearch.search(model={model!r}, task="demo", device="tpu"),
):
    try:
        ask()
    except LayersearchError:
        continue
    raise AssertionError("not refused")
"""


def test_what_is_not_there_is_said_before_heavy_libraries_load(tiny_model: Path) -> None:
    assert set(heavy_after(REFUSED.format(model=str(tiny_model)))) <= {"optuna", "sqlalchemy"}


def test_a_heavy_import_would_be_found() -> None:
    assert "optuna" in heavy_after("import layersearch.search.trials")


@pytest.mark.parametrize("file", [f for f in FILES if f.name not in NO_ROOM_FOR_A_DOCSTRING], ids=name_of)
def test_each_file_says_what_it_knows_and_what_not(file: Path) -> None:
    docstring = " ".join((ast.get_docstring(ast.parse(file.read_text())) or "").split())
    assert "Knows" in docstring
    assert "not know" in docstring or "not: " in docstring, docstring


def test_every_file_has_a_docstring() -> None:
    assert [file for file in FILES if not ast.get_docstring(ast.parse(file.read_text()))] == []


def test_no_file_is_long() -> None:
    lines = {name_of(file): len(file.read_text().splitlines()) for file in FILES}
    assert {name: length for name, length in lines.items() if length > LONGEST_FILE} == {}


def test_no_function_is_long() -> None:
    """Commands count without their options, which Typer reads from the signature."""
    found = {}
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
                found[f"{name_of(file)}.{node.name}"] = node.end_lineno - node.body[0].lineno + 1
    assert {name: length for name, length in found.items() if length > LONGEST_FUNCTION} == {}


MACHINE = re.compile(r"(?<![\w.])/(?:work|root|opt)/")


def tracked() -> list[Path]:
    """Every text file of the project that git knows or would add."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    if done.returncode:
        pytest.skip("not a git checkout")
    files = [ROOT / name for name in done.stdout.split("\0") if name]
    return [file for file in files if file.is_file() and b"\0" not in file.read_bytes()[:4096]]


def test_no_tracked_file_names_a_place_of_one_machine() -> None:
    mine = Path(__file__)
    found = {str(f.relative_to(ROOT)) for f in tracked() if f != mine and MACHINE.search(f.read_text(errors="replace"))}
    assert found == set()


def test_a_place_of_one_machine_would_be_found() -> None:
    assert MACHINE.search("cd /work/main")
    assert MACHINE.search('"/root/x"')
    assert not MACHINE.search("https://host/opt/x and ./work/y")
