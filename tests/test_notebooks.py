"""Every notebook is as its text says, holds no output, and runs from top to bottom."""

import resource
import shutil
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
PUBLISHED = NOTEBOOKS.parent / "results" / "published" / "amd-epyc-2-cores-2026-11-25"
NAMES = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
QUICK = ("anatomy", "first_run")
LONGEST_S = 60.0
"""Of processor time, that of its processes included; other load on the machine adds little."""


def read(name: str) -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)


def executed(notebook: nbformat.NotebookNode) -> list[Any]:
    """Its outputs, after running it where it lies."""
    before_s = children_s()
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": NOTEBOOKS}}).execute()
    taken_s = children_s() - before_s
    print(f"{taken_s:.1f} s of processor time")
    assert 0 < taken_s < LONGEST_S
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def children_s() -> float:
    """Processor seconds of all processes below this one that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_every_text_has_a_notebook() -> None:
    assert sorted(path.stem for path in NOTEBOOKS.glob("*.py")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_as_its_text_says_and_holds_no_output(name: str) -> None:
    notebook, text = read(name), jupytext.read(NOTEBOOKS / f"{name}.py")
    assert [(c.cell_type, c.source) for c in notebook.cells] == [
        (c.cell_type, c.source) for c in text.cells
    ]
    assert not [c for c in notebook.cells if c.get("outputs") or c.get("execution_count")]


@pytest.mark.parametrize(
    "name",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in NAMES],
)
def test_a_notebook_runs(name: str, tmp_path: Path) -> None:
    notebook = read(name)
    if name == "first_run":  # it draws into the run's folder
        run = shutil.copytree(PUBLISHED, tmp_path / "run")
        (parameters,) = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
        parameters.source = f"from pathlib import Path\n\nRUN = Path({str(run)!r})"
    outputs = executed(notebook)
    assert outputs
    if name == "first_run":
        assert sum("image/png" in output.get("data", {}) for output in outputs) == 6
