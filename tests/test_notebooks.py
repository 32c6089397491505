"""The notebook runs from top to bottom on a run of the default sweep."""

import subprocess
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"


def test_first_run(tmp_path: Path) -> None:
    run = tmp_path / "run"
    small = ["workload.num_prompts=12", "measure.num_repeats=1", "measure.max_repairs=2"]
    program = "from bench.cli import main; main()"
    command = [sys.executable, "-c", program, "run", *small, "threads=1", f"run_dir={run}"]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    notebook = nbformat.read(NOTEBOOKS / "first_run.ipynb", as_version=4)
    (parameters,) = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    parameters.source = f"from pathlib import Path\n\nRUN = Path({str(run)!r})"
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": NOTEBOOKS}}).execute()
    images = [
        output
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    assert len(images) == 6
