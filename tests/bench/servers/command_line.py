"""Whole runs of `canvasbench run` with a server, in a process of their own."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from bench import open_run
from bench.store import Run

QUICK = (
    *("precision=fp32", "threads=1", "measure.num_repeats=1", "measure.max_repairs=0"),
    *("measure.num_routing_prompts=0", "measure.min_warmup_prompts=1"),
    "measure.max_warmup_prompts=1",
)


def run_command(folder: Path, *overrides: str) -> Run:
    """Runs a sweep into `folder`/run and opens it."""
    done = subprocess.run(
        [
            *(sys.executable, "-c", "from bench.cli import main; main()", "run", "-m"),
            *(*QUICK, *overrides, "run_dir=run"),
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return open_run(folder / "run")


def argument_list(arguments: Sequence[str]) -> str:
    """`backend.launch.args` with every argument quoted."""
    quoted = ",".join(f"'{argument}'" for argument in arguments)
    return f"backend.launch.args=[{quoted}]"
