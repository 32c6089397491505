"""Which errors are for the user, in one line, and which are faults that need their traceback."""

from typing import Any

import pytest

from bench.ab.commands import seconds
from bench.refusal import is_refusal


def error_of(code: str, package: str = "bench.ab") -> Exception:
    """What a function of a package raises."""
    module: dict[str, Any] = {"__package__": package}
    body = "\n".join(f"    {line}" for line in code.splitlines())
    exec(f"def run():\n{body}", module)
    with pytest.raises(Exception) as caught:  # noqa: PT011  # any error at all
        module["run"]()
    return caught.value


REWORDED = """try:
    int("x")
except ValueError as error:
    raise ValueError("x is no number") from error
"""
REFUSALS = (
    "raise ValueError('steps is 0; it must be positive')",
    "try:\n    raise ValueError('bad')\nfinally:\n    a = 1",
    "import contextlib\nwith contextlib.suppress(KeyError):\n    raise ValueError('bad')",
    "try:\n    raise ValueError('bad')\nexcept ValueError:\n    raise",
    "class Refused(ValueError): ...\nraise Refused('bad')",
    REWORDED,
)
FAULTS = (
    "a, b = [1]",
    "int('x')",
    "raise ValueError(f'bad: {int(\"x\")}')",
    "try:\n    int('x')\nexcept ValueError:\n    raise",
    "import json\njson.loads('{')",
    "import numpy\nnumpy.zeros(2).reshape(3)",
    "import enum\nenum.Enum('E', ['a'])('b')",
    "raise KeyError('bad')",
)


@pytest.mark.parametrize("code", REFUSALS)
def test_what_this_project_raises_is_for_the_user(code: str) -> None:
    assert is_refusal(error_of(code))
    assert is_refusal(error_of(code, "model"))
    assert not is_refusal(error_of(code, "numpy"))
    assert not is_refusal(error_of(code, "benchmarks"))


@pytest.mark.parametrize("code", FAULTS)
def test_what_got_past_the_checks_is_a_fault(code: str) -> None:
    assert not is_refusal(error_of(code))


def test_real_refusals_are_told() -> None:
    with pytest.raises(ValueError, match="must be a number with s, m or h") as caught:
        seconds("fast")
    assert is_refusal(caught.value)
    assert not is_refusal(ValueError("never raised"))
