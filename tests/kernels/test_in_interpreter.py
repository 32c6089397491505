"""Runs the kernel tests of this folder in one process whose triton interprets."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")


@pytest.mark.parametrize(
    "marked", ["not slow", pytest.param("slow", marks=pytest.mark.slow)], ids=["quick", "slow"]
)
def test_kernels_in_interpreter(marked: str) -> None:
    folder = Path(__file__).parent
    pytest_ = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    command = [*pytest_, "-m", f"{marked} and not gpu", str(folder)]
    done = subprocess.run(
        command,
        cwd=folder.parents[1],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
