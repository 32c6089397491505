"""Whole runs of `canvasbench run` with a server, in this process but for its workers."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from bench import open_run
from bench.cli import main
from bench.store import Run

QUICK = (
    *("precision=fp32", "threads=1", "measure.num_repeats=1", "measure.max_repairs=0"),
    *("measure.num_routing_prompts=0", "measure.min_warmup_prompts=1"),
    "measure.max_warmup_prompts=1",
)


def run_command(folder: Path, *overrides: str) -> Run:
    """Runs a sweep into `folder`/run, which gets no page, and opens it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("sys.argv", ["canvasbench", "run", "-m", *QUICK, *overrides, "run_dir=run"])
        patch.setattr("bench.sweep.render", lambda run: run.path)  # takes seconds
        with pytest.raises(SystemExit) as left:
            main()
    assert not left.value.code  # pytest shows what was said
    return open_run(folder / "run")


def argument_list(arguments: Sequence[str]) -> str:
    """`backend.launch.args` with every argument quoted."""
    quoted = ",".join(f"'{argument}'" for argument in arguments)
    return f"backend.launch.args=[{quoted}]"
