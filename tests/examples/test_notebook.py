"""The example notebook runs from top to bottom."""

from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[2] / "examples" / "notebook.ipynb"
TINY_PARAMETERS = 'variants = "sdpa,naive"\nseq = [16, 32]\nheads, head_dim = 2, 8\nmask = "causal"\nbudget = 0.05'


def test_notebook_runs_on_tiny_sizes(tmp_path, monkeypatch):
    """With tiny sizes, every cell of the notebook runs, a table and a figure are shown, and the report is written."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    (parameters,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    assert [line.partition("=")[0] for line in parameters.source.splitlines()] == [
        line.partition("=")[0] for line in TINY_PARAMETERS.splitlines()
    ]
    parameters.source = TINY_PARAMETERS
    NotebookClient(notebook, timeout=1200, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    kinds = {kind for output in outputs for kind in output.get("data", {})}
    assert {"text/html", "image/png"} <= kinds
    pages = ["".join(output["data"]["text/html"]) for output in outputs if "text/html" in output.get("data", {})]
    assert any('<progress value="4" max="4">' in page for page in pages)  # four cells: two variants at two lengths
    assert any("<table>" in page and "records: results/" in page for page in pages)
    assert list((tmp_path / "results").rglob("index.html"))


def test_notebook_is_stored_without_outputs():
    """The notebook is committed without outputs or execution counts."""
    for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
