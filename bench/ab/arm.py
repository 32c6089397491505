"""One of the two things compared: a tree of code and the interpreter that runs it."""

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from bench.ab.source import Source

PACKAGES = ("bench", "model", "configs")
_WHERE = """
import importlib.util
for name in {names!r}:
    print(importlib.util.find_spec(name).origin)
"""


@dataclass(frozen=True, slots=True)
class Arm:
    """An arm.

    Attributes:
        name: baseline or candidate; also its run folder's name.
    """

    name: str
    source: Source
    python: Path

    @property
    def environment(self) -> Mapping[str, str]:
        """Variables under which this tree's packages win over installed copies.

        The current folder stays what it is, so that relative paths mean the same in both arms.
        """
        return {**os.environ, "PYTHONPATH": str(self.source.tree), "PYTHONSAFEPATH": "1"}

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The interpreter with these arguments, ended where this process is interrupted."""
        return subprocess.run(
            [str(self.python), *arguments],
            stdin=subprocess.DEVNULL,
            env=dict(self.environment),
            capture_output=True,
            text=True,
            check=False,
            start_new_session=True,  # Ctrl-C is for this process alone
        )

    def start(self, *arguments: str, log: IO[str]) -> "subprocess.Popen[str]":
        """The interpreter with these arguments, to be told and heard line by line.

        Args:
            log: takes what it writes to standard error.
        """
        return subprocess.Popen(
            [str(self.python), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=dict(self.environment),
            text=True,
            start_new_session=True,
        )

    def check_code(self) -> None:
        """Makes sure that the tree's own code would run.

        Raises:
            ValueError: the tree lacks a package, or another copy of it wins.
        """
        for name in PACKAGES:
            if not (self.source.tree / name).is_dir():
                raise ValueError(
                    f"the {self.name}, {self.source}, has no {name}/: it is no canvasbench"
                )
        done = self.run("-c", _WHERE.format(names=PACKAGES))
        for name, found in zip(PACKAGES, done.stdout.splitlines(), strict=False):
            if not Path(found).resolve().is_relative_to(self.source.tree.resolve()):
                raise ValueError(
                    f"the {self.name} would run {name} from {found}, not from its own tree"
                )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise ValueError(f"the {self.name}'s Python cannot be run: {last}")
