"""`transformers serve` for both siblings of the tiny pair, started at once and once a file."""

import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from bench.servers import Engine, LaunchConfig, Running, launched
from bench.servers.export import export

DECODINGS = ("diffusion", "autoregressive")


@pytest.fixture(scope="session")
def checkpoints() -> Iterator[dict[str, Path]]:
    """Both siblings as folders that servers load, by decoding."""
    with tempfile.TemporaryDirectory() as folder:
        yield {each: export(f"tiny-{each}", Path(folder) / f"tiny-{each}") for each in DECODINGS}


@pytest.fixture(scope="module")
def served(
    checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Running]]:
    """Both siblings behind HTTP, by decoding."""
    logs = tmp_path_factory.mktemp("servers")
    with ExitStack() as open_, ThreadPoolExecutor() as pool:
        starting = [
            pool.submit(
                open_.enter_context,
                launched(
                    LaunchConfig(
                        engine=Engine.transformers,
                        model=str(checkpoints[decoding]),
                        args=["--device", "cpu"],
                        ready_s=120.0,
                    ),
                    log=logs / f"{decoding}.log",
                    say=print,
                ),
            )
            for decoding in DECODINGS
        ]
        yield dict(zip(DECODINGS, (each.result() for each in starting), strict=True))
