"""The gate on runs that were really measured (`results/published/ab-amd-epyc-2-cores`)."""

from pathlib import Path

import pytest

from tests.bench.comparison.command import Command

RECORDED = Path(__file__).parents[3] / "results" / "published" / "ab-amd-epyc-2-cores"


@pytest.mark.parametrize(
    ("kind", "code", "words"),
    [
        ("same", 0, "gate passed"),
        ("slowed", 1, "seconds a denoise forward"),
    ],
)
def test_one_commit_passes_and_its_slowed_copy_fails_for_its_cause(
    kind: str, code: int, words: str, tmp_path: Path, canvasbench: Command
) -> None:
    runs = (RECORDED / kind / "baseline", RECORDED / kind / "candidate")
    done = canvasbench("gate", RECORDED / "gate.yaml", *runs, cwd=tmp_path)
    assert done.returncode == code, done.stdout + done.stderr
    assert words in " ".join(done.stdout.split())
