"""Order of the tests: the longest file first, so that none is left to run alone at the end."""

import pytest

_LONGEST = "test_in_interpreter"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: _LONGEST not in item.nodeid)
