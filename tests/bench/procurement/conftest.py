"""What several files of these tests ask: the worked example's study, made once."""

from pathlib import Path

import pytest

from bench.procurement.command import study_of
from bench.procurement.inputs import read_inputs
from bench.procurement.projection import Projector, projector
from bench.procurement.study import Study
from bench.procurement.work import released_work

PUBLISHED = Path(__file__).parents[3] / "results" / "published"
EXAMPLE = PUBLISHED / "procurement-example"


@pytest.fixture(scope="session")
def by() -> Projector:
    return projector(released_work)


@pytest.fixture(scope="session")
def example() -> Study:
    return study_of(read_inputs(EXAMPLE / "inputs.yaml"), [])
