"""Which files of a checkout a result depends on, and whether they still are as committed."""

import hashlib
import subprocess
from pathlib import Path

CODE = ("bench", "model", "configs", "pyproject.toml")
"""A run folder, a page or a note beside these changes no result."""
_TIMEOUT_S = 30.0


def is_dirty(top: Path) -> bool | None:
    """Whether the code differs from the checkout's commit, new files included.

    Returns:
        None where git does not tell.
    """
    changes = git(top, "status", "--porcelain", "--untracked-files=normal", "--", *CODE)
    return None if changes is None else bool(changes)


def content(top: Path) -> str:
    """A hash of the commit and of everything by which the code differs from it."""
    told: list[object] = [git(top, "rev-parse", "HEAD")]
    told.append(git(top, "diff", "--binary", "HEAD", "--", *CODE))
    new = git(top, "ls-files", "--others", "--exclude-standard", "-z", "--", *CODE) or ""
    told += [(name, _bytes(top / name)) for name in new.split("\0") if name]
    return hashlib.sha256(repr(told).encode()).hexdigest()


def git(top: Path, *arguments: str) -> str | None:
    """What git prints about a checkout; None where it fails, hangs or is missing."""
    try:
        done = subprocess.run(
            ["git", "-C", str(top), *arguments],
            capture_output=True,
            text=True,
            errors="surrogateescape",  # of a diff, and of names
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _bytes(path: Path) -> bytes | None:
    """What a file holds; None where it is gone meanwhile, or is none."""
    try:
        return path.read_bytes()
    except OSError:
        return None
