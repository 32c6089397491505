"""Golden tables: what the tiny pair answered, and in how many steps, held against a run; no torch.

A rate hides two things: how long a model denoises and how fast its kernels are. With a table of
steps, revisions and answers by prompt, kept beside the code, the first is known by itself.
"""

from collections.abc import Sequence

from bench.golden.check import CheckedGolden, CheckedPoint, check
from bench.golden.files import Golden, collected, read_golden, write_golden
from bench.golden.show import as_json, print_checked

__all__ = [
    "CheckedGolden",
    "CheckedPoint",
    "Golden",
    "as_json",
    "check",
    "collected",
    "overrides",
    "print_checked",
    "read_golden",
    "write_golden",
]

_EXPERIMENT = ("experiment=golden",)


def overrides(given: Sequence[str], kept: Sequence[str] = _EXPERIMENT) -> list[str]:
    """Overrides of `canvasbench run`: those kept, and over them those given.

    Args:
        given: key=value; one key twice is the last.
        kept: of the golden that is checked; the experiment's alone for a new one.

    Raises:
        ValueError: something that is no override.
    """
    for each in given:
        if "=" not in each:
            raise ValueError(f"{each!r} is no override; they are key=value, as for canvasbench run")
    return list({each.partition("=")[0]: each for each in (*kept, *given)}.values())
