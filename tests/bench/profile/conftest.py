"""Profiles that more than one file of tests looks at, each recorded once."""

import io
import time
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from bench.profile.command import profile, record_point
from bench.profile.folder import TRACE, Profile, open_profile
from model.folded import FoldedBlock

SLEEP_S = 0.005
SMALL = ("threads=1", "workload=fixed_work", "weights=dummy", "workload.prompt_tokens=9")


def recorded(folder: Path, *overrides: str, steps: int = 2, as_executed: bool = False) -> Profile:
    """What `canvasbench profile` records of a point; tables and page are still to be written."""
    given = [*SMALL, *overrides]
    return open_profile(record_point(given, folder, steps=steps, as_executed=as_executed))


@pytest.fixture(scope="session")
def small_pictures() -> Iterator[None]:
    """Figures as small as they may be, for quick tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bench.report.figures.DPI", 60)
        yield


@pytest.fixture(scope="session")
def diffusion(tmp_path_factory: pytest.TempPathFactory) -> Profile:
    """The tiny diffusion model in bf16, emulated."""
    folder = tmp_path_factory.mktemp("profiles") / "diffusion"
    return recorded(folder, "model=tiny-diffusion", "precision=bf16", "sampler=forced")


@pytest.fixture(scope="session")
def autoregressive(tmp_path_factory: pytest.TempPathFactory) -> Profile:
    """Its sibling in fp32, whose blocks are folded and whose floors are known."""
    folder = tmp_path_factory.mktemp("profiles") / "autoregressive"
    return recorded(folder, "model=tiny-autoregressive", "precision=fp32", steps=4)


@pytest.fixture(scope="session")
def reported(
    autoregressive: Profile, tmp_path_factory: pytest.TempPathFactory, small_pictures: None
) -> Path:
    """The page that the command made of what was recorded of the sibling, in its own folder."""
    folder = tmp_path_factory.mktemp("reported")
    for name in ("profile.json", TRACE):
        (folder / name).symlink_to(autoregressive.path / name)
    out = io.StringIO()
    with redirect_stdout(out):
        profile(["report", str(folder)], out=None, steps=None, as_executed=False)
    page = folder / "profile.html"
    assert out.getvalue().endswith(f"profile: {page}\n")
    return page


@pytest.fixture(scope="session")
def slowed(tmp_path_factory: pytest.TempPathFactory) -> Profile:
    """The sibling asleep for `SLEEP_S` in every attention; its point asks for a compiled step."""
    own = FoldedBlock.attend

    def slower(self: FoldedBlock, *args: Any) -> Any:
        time.sleep(SLEEP_S)
        return own(self, *args)

    folder = tmp_path_factory.mktemp("profiles") / "slowed"
    asked = ("model=tiny-autoregressive", "precision=fp32", "execution=compiled")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FoldedBlock, "attend", slower)
        return recorded(folder, *asked)
