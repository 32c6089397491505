"""The command line as a user calls it: here for its codes, in a process of its own for imports."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench.cli import main

_HEAVY = ("torch", "hydra", "model", "matplotlib", "pandera")


@dataclass(frozen=True)
class Done:
    """Exit code and what was printed."""

    returncode: int
    stdout: str
    stderr: str


@dataclass(frozen=True)
class Command:
    """`canvasbench` with the given folder as the current one."""

    patch: pytest.MonkeyPatch
    capture: pytest.CaptureFixture[str]

    def __call__(self, *arguments: object, cwd: Path) -> Done:
        self.patch.chdir(cwd)
        self.patch.setattr("sys.argv", ["canvasbench", *map(str, arguments)])
        self.capture.readouterr()
        with pytest.raises(SystemExit) as left:
            main()
        printed = self.capture.readouterr()
        return Done(int(left.value.code or 0), printed.out, printed.err)


def alone(*arguments: object, cwd: Path) -> Done:
    """In a process of its own, which must import nothing heavy."""
    program = (
        "import sys; from bench.cli import main\n"
        "try: main()\n"
        f"finally: assert not {set(_HEAVY)} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)
