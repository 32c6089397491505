"""The pytest plugin: one fixture, `canvasbench_point`; nothing is loaded until a test calls it.

    def test_generation(canvasbench_point, benchmark):
        point = canvasbench_point(["model=tiny-diffusion", "workload.num_prompts=8"])
        benchmark(point)

A round answers every prompt of the workload once and ends when the device has finished. What was
timed, where and by which definitions goes to `benchmark.extra_info["canvasbench"]`.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from bench.refusal import is_refusal

if TYPE_CHECKING:
    from bench.pytest_bridge.point import BenchmarkedPoint

_INSTALL = "pip install 'canvasbench[pytest]'"


@pytest.fixture
def canvasbench_point(
    request: pytest.FixtureRequest,
) -> "Iterator[Callable[[Sequence[str]], BenchmarkedPoint]]":
    """Loads and warms up the point that overrides describe, to be called under `benchmark`.

    The factory takes overrides as `canvasbench run -m` does and is for one point a test. The test
    fails in one line where they are no point, where the measurement is invalid, and afterwards
    where the timed rounds answered otherwise than the harness's own pass before them.
    """
    try:
        benchmark = request.getfixturevalue("benchmark")
    except pytest.FixtureLookupError:
        pytest.fail(f"canvasbench_point needs pytest-benchmark: {_INSTALL}", pytrace=False)
    made: list[BenchmarkedPoint] = []

    def make(overrides: Sequence[str]) -> "BenchmarkedPoint":
        from bench.pytest_bridge.point import open_point

        if made:
            pytest.fail("canvasbench_point was called twice; a test times one point", pytrace=False)
        try:
            made.append(open_point(overrides))
        except ValueError as error:
            _refuse(benchmark, error)
        benchmark.extra_info["canvasbench"] = made[0].facts
        return made[0]

    yield make
    for point in made:
        try:
            point.close()
        except ValueError as error:
            _refuse(benchmark, error)


def _refuse(benchmark: Any, error: ValueError) -> NoReturn:
    """Fails the test in one line, and keeps its times out of pytest-benchmark's JSON.

    Raises:
        ValueError: a fault of canvasbench, with its traceback.
    """
    benchmark.has_error = True
    if not is_refusal(error):
        raise error
    raise pytest.fail.Exception(f"canvasbench_point: {error}", pytrace=False) from None
