"""The harness. Reading results needs no torch: `bench.open_run(path)` gives a run's tables, and
`bench.compare(a, b)` holds one run against another."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.comparison import compare
    from bench.store import open_run

__all__ = ["compare", "open_run"]


def __getattr__(name: str) -> Any:
    # Imported on first use: the command line's --help must not wait for pandas.
    if name == "open_run":
        from bench.store import open_run

        return open_run
    if name == "compare":
        from bench.comparison import compare

        return compare
    raise AttributeError(f"module 'bench' has no attribute {name!r}")
