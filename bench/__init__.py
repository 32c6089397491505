"""The harness. Reading results needs no torch: `bench.open_run(path)` gives a run's tables,
`bench.compare(a, b)` holds one run against another, `bench.judge_claims(path)` one against
published figures."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.claims.commands import judge_claims
    from bench.comparison import compare
    from bench.store import open_run

__all__ = ["compare", "judge_claims", "open_run"]


def __getattr__(name: str) -> Any:
    # Imported on first use: the command line's --help must not wait for pandas.
    if name == "open_run":
        from bench.store import open_run

        return open_run
    if name == "compare":
        from bench.comparison import compare

        return compare
    if name == "judge_claims":
        from bench.claims.commands import judge_claims

        return judge_claims
    raise AttributeError(f"module 'bench' has no attribute {name!r}")
