"""Order of the tests: the longest files first, so that none is left to run alone at the end."""

import pytest

_LONGEST = (
    "test_survival",
    "test_cli",
    "test_in_interpreter",
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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: _rank(item.nodeid))


def _rank(nodeid: str) -> int:
    file = nodeid.partition("::")[0]
    return next((i for i, name in enumerate(_LONGEST) if f"{name}.py" in file), len(_LONGEST))
