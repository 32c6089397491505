"""The worked example of `results/published`: its tables still give the verdicts it states."""

import re
from pathlib import Path

import pytest

from bench import open_run
from bench.claims.dossier import Dossier, dossiers
from bench.claims.files import read_claim
from bench.claims.verdict import Outcome

FOLDER = Path(__file__).parents[3] / "results" / "published" / "claims-amd-epyc-2026-11-26"
VERDICTS = {
    "tiny-steps": Outcome.REPRODUCED,
    "tiny-accuracy": Outcome.INSUFFICIENT,
    "tiny-delivered": Outcome.NOT_REPRODUCED,
    "tiny-ar-delivered": Outcome.NOT_REPRODUCED,
    "tiny-over-ar": Outcome.INSUFFICIENT,
    "simulated-slots": Outcome.REPRODUCED,
    "simulated-steps": Outcome.REPRODUCED,
    "simulated-too-fast": Outcome.NOT_REPRODUCED,
}


@pytest.fixture(scope="module")
def judged() -> dict[str, Dossier]:
    found: list[Dossier] = []
    for name in ("tiny", "simulated"):
        files = sorted((FOLDER / "claims").glob(f"{name}-*.yaml"))
        found += dossiers(open_run(FOLDER / name), [read_claim(str(path)) for path in files])
    return {each.judgement.claim.name: each for each in found}


def test_the_stored_tables_give_the_verdicts_stated(judged: dict[str, Dossier]) -> None:
    assert {name: each.judgement.outcome for name, each in judged.items()} == VERDICTS


def test_every_verdict_was_promised_before_the_first_measurement(
    judged: dict[str, Dossier],
) -> None:
    assert {each.promise for each in judged.values()} == {
        "preregistered before the first measurement"
    }


def test_the_readme_states_what_is_found(judged: dict[str, Dossier]) -> None:
    text = (FOLDER / "README.md").read_text()
    for name, each in judged.items():
        row = re.search(rf"^\| `{name}` \| (.*) \| (.*) \| (.*) \|$", text, re.MULTILINE)
        assert row is not None, name
        published, here, verdict = row.groups()
        assert published.startswith(
            each.judgement.claim.published.split(" ")[0].rstrip("\N{MULTIPLICATION SIGN}")
        )
        assert verdict.startswith(each.judgement.outcome)
        stated = float(here.split(" ")[0])
        assert each.judgement.value == pytest.approx(stated, rel=0.005)
        if each.judgement.interval is not None and "(" in here:
            ends = [float(number) for number in re.findall(r"[\d.]+", here.split("(")[1])]
            assert each.judgement.interval == pytest.approx(ends, rel=0.01)


def test_a_tiny_model_says_nothing_of_the_released_one() -> None:
    names = ("h100-fp8", "steps-per-canvas", "card-tokens-per-forward")
    for each in dossiers(open_run(FOLDER / "tiny"), [read_claim(name) for name in names]):
        assert each.judgement.outcome is Outcome.NOT_COMPARABLE
        assert each.judgement.reasons[0].startswith("model: published diffusiongemma-26b-a4b")


def test_a_simulation_says_nothing_of_the_pair_it_plays() -> None:
    claim = read_claim(str(FOLDER / "claims" / "tiny-steps.yaml"))
    (found,) = dossiers(open_run(FOLDER / "simulated"), [claim])
    assert found.judgement.outcome is Outcome.NOT_COMPARABLE
    assert "no model ran: the point is a simulation" in found.judgement.reasons
