"""The code of an arm: the checkout as it is, or a revision in a git worktree of its own."""

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.code_state import content, is_dirty
from bench.interruption import ended_like_interrupted


@dataclass(frozen=True, slots=True)
class Source:
    """A tree of code.

    Attributes:
        name: as it was asked for, or `the checkout`.
        dirty: whether its code holds changes that the commit does not (`bench.code_state`), or
            git does not tell.
    """

    name: str
    tree: Path
    commit: str
    dirty: bool

    def content(self) -> str:
        """A hash of the code as it is now."""
        return content(self.tree)

    def __str__(self) -> str:
        changed = ", with uncommitted changes" if self.dirty else ""
        return f"{self.name} ({self.commit[:12]}{changed})"


def checkout(start: Path) -> Path:
    """The top of the git checkout around a folder.

    Raises:
        ValueError: there is none, or git is missing.
    """
    top = _git(start, "rev-parse", "--show-toplevel")
    if isinstance(top, Refused):
        raise ValueError(f"{start} is in no git checkout that can be read: {top.why}")
    return Path(top)


@contextlib.contextmanager
def source(top: Path, revision: str | None) -> Iterator[Source]:
    """The checkout at `top`, or a worktree of a revision that is removed whatever happens.

    Meanwhile SIGTERM, which ends a cancelled job, unwinds like Ctrl-C.

    Args:
        revision: anything that git takes for a commit; None is the checkout as it is.

    Raises:
        ValueError: the revision is not in the repository, or git cannot make a worktree.
    """
    commit = commit_of(top, "HEAD" if revision is None else revision)
    with ended_like_interrupted():
        if revision is None:
            yield Source("the checkout", top, commit, dirty=is_dirty(top) is not False)
            return
        with _worktree(top, revision, commit) as tree:
            yield Source(revision, tree, commit, dirty=False)


@contextlib.contextmanager
def _worktree(top: Path, revision: str, commit: str) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="canvasbench-ab-"))
    tree = folder / commit[:12]
    try:
        made = _git(top, "worktree", "add", "--detach", "--quiet", str(tree), commit)
        if isinstance(made, Refused):
            raise ValueError(f"git cannot make a worktree of {revision!r}: {made.why}")
        yield tree
    finally:
        _git(top, "worktree", "remove", "--force", str(tree))
        shutil.rmtree(folder, ignore_errors=True)


def commit_of(top: Path, revision: str) -> str:
    """The commit that a revision names.

    Raises:
        ValueError: there is none.
    """
    named = f"{revision}^{{commit}}"
    found = _git(top, "rev-parse", "--verify", "--quiet", "--end-of-options", named)
    if not isinstance(found, Refused):
        return found
    if _git(top, "rev-parse", "--is-shallow-repository") == "true":
        raise ValueError(
            f"git revision {revision!r} is not in this shallow clone: fetch it (`git fetch"
            " --unshallow`; in GitHub's checkout action fetch-depth: 0), or name another base"
        )
    raise ValueError(
        f"git revision {revision!r} is not in this repository (misspelt, never fetched, or its"
        " history was rewritten): fetch it, or name another base"
    )


@dataclass(frozen=True, slots=True)
class Refused:
    """Why git did not do it, in its own last line."""

    why: str


def _git(top: Path, *arguments: str) -> str | Refused:
    try:
        done = subprocess.run(
            ["git", "-C", str(top), *arguments], capture_output=True, text=True, check=False
        )
    except OSError as error:
        return Refused(f"git cannot be run: {error.strerror}")
    if done.returncode:
        return Refused((done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1])
    return done.stdout.strip()
