"""Comparisons of the fake harness, made once for several tests."""

from dataclasses import dataclass
from pathlib import Path

from bench.ab.run import Found, Wanted, run_ab
from tests.bench.ab.fake import Repository, make_repository


@dataclass(frozen=True)
class Done:
    """A comparison and where it was made."""

    repository: Repository
    found: Found


def done_of(variant: str, folder: Path, shards: Path) -> Done:
    """A variant against `plain`."""
    repository = make_repository(folder, shards)
    repository.commit(variant)
    return Done(repository, found_of(repository, folder / "out"))


def found_of(
    repository: Repository,
    out: Path,
    base: str = "HEAD~1",
    candidate: str | None = None,
    budget_s: float = 600,
) -> Found:
    wanted = Wanted(base=base, candidate=candidate, bound=0.02, budget_s=budget_s, out=out)
    return run_ab(repository.path, wanted, lambda line: None)
