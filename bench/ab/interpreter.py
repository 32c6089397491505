"""The interpreter of an arm: this one, or one with the packages that the arm's tree asks for."""

import contextlib
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_CONSTRAINTS = "constraints.txt"


@contextlib.contextmanager
def interpreter(tree: Path, checkout: Path, say: Callable[[str], None]) -> Iterator[Path]:
    """A Python that has what `tree` needs, for as long as the context lasts.

    This process's own serves wherever the tree asks for what the checkout asks for, as it was set
    up for that one. Otherwise a virtual environment is made, which takes minutes and the network.

    Raises:
        ValueError: pip cannot install the tree, or its pyproject.toml cannot be read.
    """
    if requirements(tree) == requirements(checkout):
        yield Path(sys.executable)
        return
    with tempfile.TemporaryDirectory(prefix="canvasbench-env-") as folder:
        say(f"{tree.name} asks for other packages than the checkout: making an environment for it")
        yield _environment(tree, Path(folder))


def requirements(tree: Path) -> tuple[object, ...]:
    """What a tree asks for: its dependencies, in order, and its constraints without comments.

    Raises:
        ValueError: no readable pyproject.toml.
    """
    try:
        project = tomllib.loads((tree / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        wanted = sorted(map(str, project.get("dependencies", [])))
        python = project.get("requires-python")
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{tree / 'pyproject.toml'} names no dependencies: {error}") from error
    return tuple(wanted), python, tuple(_constraints(tree))


def _constraints(tree: Path) -> list[str]:
    path = tree / _CONSTRAINTS
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    stripped = (line.split("#", 1)[0].strip() for line in lines)
    return sorted(line for line in stripped if line)


def _environment(tree: Path, folder: Path) -> Path:
    python = folder / "bin" / "python"
    constrained = ["-c", _CONSTRAINTS] if (tree / _CONSTRAINTS).exists() else []
    for command in (
        [sys.executable, "-m", "venv", str(folder)],
        [str(python), "-m", "pip", "install", "--quiet", *_torch_index(), *constrained, "-e", "."],
    ):
        done = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise ValueError(f"no environment can be made for {tree.name}: {last}")
    return python


def _torch_index() -> list[str]:
    """Where pip finds torch for what this process's own was built for, as `2.13.0+cpu` says.

    Without it pip takes its index's build, gigabytes of CUDA on a machine without a GPU.
    """
    try:
        label = version("torch").partition("+")[2]
    except PackageNotFoundError:
        return []
    return ["--extra-index-url", f"https://download.pytorch.org/whl/{label}"] if label else []
