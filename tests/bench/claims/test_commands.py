"""`canvasbench claims` as a user meets it: exit codes, JSON and nothing else, preregistration."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from bench import open_run
from bench.claims.dossier import dossiers, interval_kind
from bench.claims.files import read_claim, shipped_names
from bench.claims.judge import judge
from bench.claims.observed import observe
from bench.cli import main
from bench.preregistration import State, digest, standing
from tests.bench.claims.rerun import rerun

CONFIGS = Path(__file__).parents[3] / "configs"


@pytest.fixture(autouse=True)
def _small_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.report.figures.DPI", 60)


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rerun().write(tmp_path_factory.mktemp("claims") / "rerun")


class Command:
    """Runs a command line in this process."""

    def __init__(self, patch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[str]) -> None:
        self._patch, self._capture = patch, capture

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        self._patch.setattr("sys.argv", ["canvasbench", "claims", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = self._capture.readouterr()
        return int(ended.value.code or 0), out, err


@pytest.fixture
def claims(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)


def test_list_names_every_claim_in_100_columns(claims: Command) -> None:
    code, out, _ = claims("list")
    assert code == 0
    assert all(name in out for name in shipped_names())
    assert "\N{HORIZONTAL ELLIPSIS}" not in out
    assert max(map(len, out.splitlines())) <= 100
    for word in ("1,008 tok/s", "at_least", "h200", "fixed work", "content", "2026-06-10"):
        assert word in out
    code, out, _ = claims("list", "--json")
    assert [claim["name"] for claim in json.loads(out)] == shipped_names()


def test_list_needs_no_torch() -> None:
    script = (
        "import sys; sys.argv = ['canvasbench', 'claims', 'list']\n"
        "from bench.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code\n"
        "found = {'torch', 'matplotlib', 'hydra'} & set(sys.modules)\n"
        "assert not found, found"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_positive_verdict_is_0_and_stands_first(claims: Command, run_folder: Path) -> None:
    code, out, _ = claims("judge", str(run_folder), "h100-fp8")
    assert code == 0
    lines = out.splitlines()
    assert lines[0].startswith("REPRODUCED")
    assert "h100-fp8" in lines[0]
    assert "1,135 tok/s (95 %: 1,120 to 1,148) by this engine" in out
    assert max(map(len, lines)) <= 100
    words = "inverse_tpot_tok_per_s", "closest", "forwards", "op floor", "request 46"
    for word in (*words, "by its data sheet: op "):
        assert word in out
    assert lines[-1] == f"page: {run_folder / 'claims.html'}"


def test_json_is_all_there_is_and_all_there_is_to_know(claims: Command, run_folder: Path) -> None:
    code, out, _ = claims("judge", str(run_folder), "h100-fp8", "--json")
    found = json.loads(out)
    assert code == found["exit_code"] == 0
    (own,) = found["claims"]
    assert own["verdict"] == "REPRODUCED"
    assert own["claim"]["value"] == 1008
    assert own["interval"][0] < own["value"] < own["interval"][1]
    n = {"processes": 1, "repeats": 1, "prompts": 100, "requests": 100, "canvases": 400}
    assert own["n"] == n | {"needed": 10}
    assert own["decomposition"]["published"]["forward_ms"] == pytest.approx(14.94, abs=0.01)
    assert own["promise"] == "not preregistered: judged after the fact"
    for part in ("conditions", "definitions", "baselines", "oddities", "floors", "reasons"):
        assert own[part], part
    kept = json.loads((run_folder / "claims.json").read_text())
    assert kept["claims"] == found["claims"]


def test_preregistered_claims_stay_in_sight(
    claims: Command, run_folder: Path, tmp_path: Path
) -> None:
    """Also where a run is judged again by the one that came out."""
    folder = shutil.copytree(run_folder, tmp_path / "run")
    (folder / "report.html").write_text("")
    info = json.loads((folder / "run.json").read_text())
    names = ("h100-ar-fp8", "other", "h100-fp8")
    info["preregistration"] = {"claims": [{"name": name} for name in names]}
    (folder / "run.json").write_text(json.dumps(info))
    claims("judge", str(folder), "h100-fp8", "h100-ar-fp8")
    left_out = {"h100-ar-fp8": "NOT COMPARABLE", "other": None}
    for _ in range(2):
        code, out, _ = claims("judge", str(folder), "h100-fp8", "--json")
        assert code == 0
        assert json.loads(out)["preregistered_besides"] == left_out
    _, out, _ = claims("judge", str(folder), "h100-fp8")
    said = "not shown here: h100-ar-fp8 (NOT COMPARABLE), other (not judged)."
    assert said in " ".join(out.split())
    assert said in (folder / "claims.html").read_text()
    assert said in (folder / "report.html").read_text()


def test_a_verdict_says_in_what_state_the_run_was(
    claims: Command, run_folder: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(run_folder, tmp_path / "run")
    points = pd.read_parquet(folder / "points.parquet")
    reason = "others used 12.0 to 76.0 % of the processor"
    state: dict[str, Any] = {
        "condition": "shared",
        "condition_reason": reason,
        "dirty": True,
        "commit": "f" * 40,
    }
    state["backend"] = "native"
    points.assign(**state).to_parquet(folder / "points.parquet")
    info = json.loads((folder / "run.json").read_text())
    said = info | {"interrupted": True, "finished": False, "git": {}}
    (folder / "run.json").write_text(json.dumps(said))
    code, out, _ = claims("judge", str(folder), "h100-fp8")
    assert code == 0
    printed = " ".join(out.split())
    assert printed.index("REPRODUCED") < printed.index("Unfinished.")
    page = (folder / "claims.html").read_text()
    for shown in (printed, page):
        for title in ("Unfinished", "Shared machine", "Uncommitted code"):
            assert title in shown
        assert reason in shown
    assert "commit ffffffffffff, changed since" in page
    assert f"shared: {reason}" in page
    _, out, _ = claims("judge", str(folder), "h100-fp8", "--json")
    assert "Uncommitted code" in json.loads(out)["limits"]


def test_an_interval_says_what_it_is_between(run_folder: Path) -> None:
    run = open_run(run_folder)
    found = judge(read_claim("h100-fp8"), observe(run))
    assert found.point is not None
    assert interval_kind(found) == "95 %, within the one process"
    row = {**found.point.row, "num_processes": 5, "num_prompts": 150}
    found = replace(found, point=replace(found.point, row=row))
    assert interval_kind(found) == "95 %, between 5 processes"
    content = replace(found, claim=replace(found.claim, metric="accuracy"))
    assert interval_kind(content) == "95 %, over 150 prompts of the first repeat"


def test_every_claim_of_the_device_is_judged_when_none_is_named(
    claims: Command, run_folder: Path
) -> None:
    code, out, err = claims("judge", str(run_folder), "--json")
    named = [own["claim"]["name"] for own in json.loads(out)["claims"]]
    assert named == [n for n in shipped_names() if not n.startswith("h200")]
    assert "h100" in err
    assert code == 3  # the run holds no autoregressive point and no contents


def test_exit_codes_follow_the_verdict(claims: Command, run_folder: Path, tmp_path: Path) -> None:
    def judged(**changed: Any) -> int:
        document = yaml.safe_load((CONFIGS / "claim" / "h100-fp8.yaml").read_text()) | changed
        own = tmp_path / "own.yaml"
        own.write_text(yaml.safe_dump(document))
        return claims("judge", str(run_folder), str(own), "--json")[0]

    assert judged() == 0
    assert judged(value=2000) == 1
    assert judged(value=1180) == 3  # the interval holds the limit
    assert judged(min_requests=101) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("judge", "RUN", "h300-fp8"), "claim 'h300-fp8' is unknown; valid: card-1100"),
        (("judge", "nowhere"), "run nowhere is not a folder"),
        (("judge", "RUN", "none.yaml"), "claim none.yaml cannot be read"),
        (("run", "precision=fp8"), "no claim was named"),
        (("run", "h100-fp8"), "the claim is about device h100; this machine has no GPU"),
        (("run", "steps-per-canvas"), "give the released ones as weights=PATH"),
    ],
)
def test_bad_input_is_one_line_and_2(
    claims: Command,
    run_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    code, out, err = claims(*(str(run_folder) if each == "RUN" else each for each in arguments))
    assert code == 2
    assert not out
    assert message in err
    assert len(err.strip().splitlines()) == 1


def test_a_run_that_lost_its_requests_is_bad_input(
    claims: Command, run_folder: Path, tmp_path: Path
) -> None:
    lost = shutil.copytree(run_folder, tmp_path / "lost")
    (lost / "requests.parquet").unlink()
    code, _, err = claims("judge", str(lost), "h100-fp8")
    assert (code, err) == (
        2,
        f"error: run {lost} has no table requests, by which claims are judged\n",
    )


def test_a_drafted_claim_is_3_and_measures_nothing(claims: Command) -> None:
    code, out, _ = claims("run", "h200-mtp-fp8", "--json")
    (own,) = json.loads(out)["claims"]
    assert code == 3
    assert own["verdict"] == "NOT COMPARABLE"
    assert "no engine here has one" in own["reasons"][0]
    assert own["promise"] == "nothing was measured"
    code, out, _ = claims("run", "h200-mtp-fp8")
    assert code == 3
    assert "NOT COMPARABLE" in out


SIMULATED = """
title: a simulation's slots
value: {value}
unit: slots/s
relation: at_least
metric: slot_tok_per_s
conditions:
  decoding: diffusion
  model: tiny-diffusion
  device: simulated
  precision: bf16
source:
  title: the simulation's own times
  date: "2026-11-26"
"""


def test_run_preregisters_measures_judges_and_writes_the_pages(
    claims: Command, tmp_path: Path
) -> None:
    own = tmp_path / "slots.yaml"
    own.write_text(SIMULATED.format(value=600))
    folder = tmp_path / "run"
    options = ("measure=screening", "backend.clock=virtual", "workload.num_prompts=10")
    code, out, _ = claims("run", str(own), "--json", f"run_dir={folder}", "trace=counts", *options)
    assert code == 0
    (found,) = json.loads(out)["claims"]
    assert found["verdict"] == "REPRODUCED"
    assert found["value"] == pytest.approx(640)
    assert found["promise"] == "preregistered before the first measurement"
    run = open_run(folder)
    (planned,) = run.info["preregistration"]["claims"]
    assert planned["name"] == "slots"
    assert planned["metric"] == "slot_tok_per_s"
    assert planned["bound"] == {
        "relation": "at_least",
        "value": 600,
        "upper": None,
        "tolerance": 0.05,
    }
    assert planned["n"] == 10
    assert "slot_tok_per_s" in run.info["preregistration"]["metrics"]
    assert standing(run.info).state is State.KEPT
    assert "Published claims" in (folder / "report.html").read_text()
    assert "REPRODUCED" in (folder / "claims.html").read_text()

    own.write_text(SIMULATED.format(value=500))
    (easier,) = dossiers(run, [read_claim(str(own))])
    assert easier.promise == "the claim is not the one that was preregistered"
    run.info["preregistration"]["claims"][0]["bound"]["value"] = 500
    (moved,) = dossiers(run, [read_claim(str(own))])
    assert moved.promise == "the run's preregistration was changed after the start"
    run.info["preregistration_sha256"] = digest(run.info["preregistration"])
    run.info["preregistration"]["n"]["diffusion-bf16"]["prompts"] = 4
    assert standing(run.info).state is State.CHANGED
