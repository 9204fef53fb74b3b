"""The notebook: committed without outputs, and it runs from its first cell to its last."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "layersearch.ipynb"


def test_it_holds_no_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, 4)  # type: ignore[no-untyped-call]
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not [cell for cell in code if cell.outputs or cell.execution_count is not None]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("default")  # of the libraries that run kernels
def test_it_runs(tmp_path: Path) -> None:
    from nbclient import NotebookClient

    notebook = nbformat.read(NOTEBOOK, 4)  # type: ignore[no-untyped-call]
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = {cell.source.splitlines()[0]: cell.outputs for cell in notebook.cells if cell.cell_type == "code"}
    front = next(outputs for source, outputs in shown.items() if source.startswith("quick = "))
    pages = [output.data["text/html"] for output in front if "text/html" in output.get("data", {})]
    assert any("2/2 done" in page for page in pages)  # the view that was drawn anew
    assert "<table>" in pages[-1]
    assert "data:image/png;base64," in pages[-1]
    assert (tmp_path / "exported" / "config.json").is_file()
    assert (tmp_path / "report.html").is_file()
