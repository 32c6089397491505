"""Order of the tests: the longest files first, so that none is left to run alone at the end.

Nothing depends on chance, on tests that ran before or on a busy machine: torch's own generator is
seeded for each test, and hypothesis takes the same examples every time and as long as they need.

Tests that take the fixture `browser` carry the marker of that name; without a Chromium they are
skipped, and the summary says how many and what to do about it.
"""

import sys
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.browser import Browser, found_chromium

_LONGEST = (
    "test_survival",
    "test_cli",
    "test_in_interpreter",
    "servers/test_transformers_serve",
    "backends/test_transformers",
    "test_campaign",
    "test_planted_faults",
    "test_tiny_pair",
    "test_launch",
    "test_notebooks",
    "claims/test_commands",
    "test_verify",
    "test_shipped_tiles",
    "golden/test_golden",
    "pytest_bridge/test_fixture",
)

settings.register_profile(
    "repeatable",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("repeatable")  # before the modules of tests, whose own settings add to it

_NO_BROWSER = "needs Chromium: `apt-get install chromium`, or Chrome on the PATH"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--vllm-python",
        default=".venv-vllm/bin/python",
        help="the Python of an environment with vLLM, for tests marked vllm",
    )


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A running Chromium, one a session."""
    executable = found_chromium()
    if executable is None:
        pytest.skip(_NO_BROWSER)
    with Browser(executable) as running:
        yield running


@pytest.hookimpl(tryfirst=True)  # before tests are chosen by their markers
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: _rank(item.nodeid))
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker("browser")


@pytest.hookimpl(tryfirst=True)  # before fixtures of the module draw
def pytest_runtest_setup() -> None:
    if (torch := sys.modules.get("torch")) is not None:
        torch.manual_seed(0)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = terminalreporter.getreports("skipped")
    number = sum(_NO_BROWSER in str(report.longrepr) for report in skipped)
    if number:
        terminalreporter.section("NO BROWSER", sep="!", red=True, bold=True)
        terminalreporter.line(
            f"Tests of pages that did NOT run: {number}. Each {_NO_BROWSER}.", red=True
        )


def _rank(nodeid: str) -> int:
    file = nodeid.partition("::")[0]
    return next((i for i, name in enumerate(_LONGEST) if f"{name}.py" in file), len(_LONGEST))
