"""What A and B may be: a run folder, or REV:PATH, a run folder stored in a git revision."""

import io
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.store import Run, open_run


@contextmanager
def opened(source: str | Path) -> Iterator[Run]:
    """The run that `source` names, for as long as the context lasts.

    Args:
        source: a run folder, or REV:PATH with PATH relative to the top of the git repository of
            the current folder; REV is anything that git takes for a commit.

    Raises:
        ValueError: no such folder, revision or path, or no readable run.
    """
    name = str(source)
    revision, colon, path = name.partition(":")
    if Path(name).exists() or not (colon and revision and path):
        yield open_run(name)
        return
    with tempfile.TemporaryDirectory(prefix="canvasbench-") as folder:
        _extract(revision, path.rstrip("/"), Path(folder))
        try:
            run = open_run(Path(folder) / path)
        except ValueError as error:
            raise ValueError(str(error).replace(f"{folder}/", f"{revision}:")) from error
        yield run


def _extract(revision: str, path: str, folder: Path) -> None:
    commit = _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    if commit is None:
        raise ValueError(
            f"git revision {revision!r} is not in this repository (rewritten history, or a shallow"
            " clone without it): fetch it, or name another base"
        )
    archive = _git("archive", "--format=tar", commit.decode().strip(), ":(top)" + path)
    if archive is None:
        raise ValueError(f"git revision {revision!r} has no {path}; name another base")
    with tarfile.open(fileobj=io.BytesIO(archive)) as stored:
        stored.extractall(folder, filter="data")


def _git(*arguments: str) -> bytes | None:
    """What git prints; None where it fails or is missing."""
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, check=False)
    except OSError:
        return None
    return done.stdout if done.returncode == 0 else None
