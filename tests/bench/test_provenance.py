"""A result names the code it was made with, also from an exported tree."""

import itertools
import uuid
from pathlib import Path

import pytest

from bench.provenance import git_state, host

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_an_exported_tree_names_its_commit(tmp_path: Path) -> None:
    (tmp_path / ".git_archival.txt").write_text(f"node: {COMMIT}\n")
    assert git_state(tmp_path) == {"commit": COMMIT, "dirty": None}


def test_without_git_nothing_is_claimed(tmp_path: Path) -> None:
    assert git_state(tmp_path) == {"commit": None, "dirty": None}
    (tmp_path / ".git_archival.txt").write_text("node: $Format:%H$\n")
    assert git_state(tmp_path) == {"commit": None, "dirty": None}


def test_a_host_keeps_its_name_without_a_network_card(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = itertools.count(1 << 40)
    monkeypatch.setattr(uuid, "getnode", lambda: next(drawn))
    assert host() == host()
