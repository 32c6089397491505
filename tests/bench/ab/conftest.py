"""The fake harness: its shards once for all tests, its repository anew for each."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.bench.ab.fake import Repository, Variant, make_repository, make_shards
from tests.bench.ab.measured import Done, done_of
from tests.bench.comparison.command import Command
from tests.bench.comparison.made import BASE, TIMING

_SMALL = np.exp(np.random.default_rng(1).normal(0, 0.003, 12))
_OTHER = np.exp(np.random.default_rng(2).normal(0, 0.003, 12))


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a dozen processes a variant."""
    folder = tmp_path_factory.mktemp("shards")
    slower = replace(TIMING, denoise_s=1.1 * TIMING.denoise_s)
    longer = replace(BASE, steps=[6, 10])
    variants = {
        "plain": Variant(pace=lambda i: float(_SMALL[i]), is_older=True),
        "same": Variant(pace=lambda i: float(_OTHER[i])),
        "slow": Variant(
            timing=slower, pace=lambda i: float(_OTHER[i]), peak_rss_bytes=int(1.1 * 2**20)
        ),
        "longer": Variant(config=longer, pace=lambda i: float(_OTHER[i])),
    }
    make_shards(folder, variants, 12)
    return folder


@pytest.fixture(scope="session")
def same(tmp_path_factory: pytest.TempPathFactory, shards: Path) -> Done:
    return done_of("same", tmp_path_factory.mktemp("same"), shards)


@pytest.fixture(scope="session")
def slow(tmp_path_factory: pytest.TempPathFactory, shards: Path) -> Done:
    return done_of("slow", tmp_path_factory.mktemp("slow"), shards)


@pytest.fixture
def repository(tmp_path: Path, shards: Path) -> Repository:
    return make_repository(tmp_path, shards)


@pytest.fixture
def canvasbench(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)
