"""The plan of a run: written before the first measurement, hashed, held against what was done."""

import copy
import inspect
import json
import re
from pathlib import Path
from typing import Any

import pytest

from bench import open_run
from bench.cli import main
from bench.metrics import ledger
from bench.preregistration import (
    EXCLUSIONS,
    HEADLINE_METRICS,
    State,
    deviations,
    digest,
    planned_counts,
    preregister,
    standing,
    verify,
)
from bench.sweep import resume_sweep, run_sweep
from bench.tables import COLUMNS

SMALL = [
    "backend=simulated",
    "model=tiny-diffusion",
    "precision=bf16",
    "workload.num_prompts=3",
    "measure.num_repeats=1",
    "measure.max_repairs=0",
    "measure.num_routing_prompts=0",
    "measure.min_warmup_prompts=0",
    "measure.max_warmup_prompts=0",
    "threads=1",
]


def info() -> dict[str, Any]:
    counts = {"num_processes": 8, "num_repeats": 2}
    configs = {
        name: {"measure": counts, "workload": {"num_prompts": 50}, "seed": 0} for name in ("a", "b")
    }
    hashes = {"a": "a" * 12, "b": "b" * 12}
    return {
        "config": configs,
        "config_hashes": hashes,
        "prompts_sha256": "cd",
        **preregister(configs, hashes, "cd"),
    }


def measured(**changed: Any) -> dict[str, dict[str, Any]]:
    row = {"prompts_sha256": "cd", "num_processes": 8, "num_repeats": 2, "num_prompts": 50}
    rows = {name: row | {"config_hash": name * 12} for name in ("a", "b")}
    rows["a"] |= changed
    return rows


def test_the_plan_says_what_is_to_be_measured() -> None:
    plan = info()["preregistration"]
    assert plan["metrics"] == list(HEADLINE_METRICS)
    assert set(HEADLINE_METRICS) <= set(COLUMNS["points"])
    assert plan["bound"] == 0.02
    assert plan["n"]["a"] == {"processes": 8, "repeats": 2, "prompts": 50}
    assert plan["config_hashes"] == {"a": "a" * 12, "b": "b" * 12}
    assert plan["prompts_sha256"] == "cd"
    assert planned_counts(info()).keys() == {"a", "b"}


def test_every_code_of_the_validity_rules_is_declared() -> None:
    source = inspect.getsource(ledger)
    codes = re.findall(r"""(?:append\(|return \[)"(\w+)""", source)
    assert len(codes) >= 9
    assert set(codes) <= set(EXCLUSIONS)


def test_the_hash_survives_the_file_and_its_order() -> None:
    kept = json.loads(json.dumps(info(), sort_keys=True))
    assert standing(kept).state is State.KEPT
    verify(kept, ["a" * 12], ["cd"])


def test_an_older_run_is_not_preregistered_and_may_go_on() -> None:
    assert standing({"finished": False}).state is State.ABSENT
    verify({"finished": False}, ["anything"], ["anything"])
    assert deviations({}, measured()) == []


def edited(path: tuple[str, ...], value: Any, *, rehash: bool = False) -> dict[str, Any]:
    found = copy.deepcopy(info())
    at = found
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    if rehash:
        found["preregistration_sha256"] = digest(found["preregistration"])
    return found


@pytest.mark.parametrize(
    "changed",
    [
        edited(("preregistration", "bound"), 0.1),
        edited(("preregistration", "metrics"), ["step_ms"]),
        edited(("preregistration", "exclusions"), []),
        edited(("preregistration", "n", "a", "processes"), 3, rehash=True),
        edited(("preregistration", "prompts_sha256"), "ef", rehash=True),
        edited(("config", "a", "measure", "num_repeats"), 1),
        edited(("config",), None),
        edited(("preregistration",), None),
        edited(("preregistration_sha256",), None),
    ],
)
def test_any_change_is_noticed(changed: dict[str, Any]) -> None:
    assert standing(changed).state is State.CHANGED
    with pytest.raises(ValueError, match="was changed after the start") as error:
        verify(changed)
    assert "\n" not in str(error.value)


def test_another_configuration_or_other_prompts_are_another_run() -> None:
    with pytest.raises(ValueError, match="configuration ffffffffffff is not what"):
        verify(info(), ["a" * 12, "f" * 12])
    with pytest.raises(ValueError, match="prompts ef is not what the run preregistered"):
        verify(info(), (), ["ef"])


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (measured(), []),
        (measured(num_processes=5), ["a: 5 of 8 processes"]),
        (measured(num_prompts=None), []),
        (measured(config_hash="f" * 12), ["a was measured with another configuration"]),
        (measured(prompts_sha256="ef"), ["a was asked other prompts"]),
        (measured() | {"c": {}}, ["c was measured and not planned"]),
        ({"b": measured()["b"]}, ["a was planned and not measured"]),
    ],
)
def test_what_was_measured_is_held_against_the_plan(rows: Any, expected: list[str]) -> None:
    assert deviations(info(), rows) == expected


def test_a_run_is_preregistered_and_a_changed_plan_ends_its_resumption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("bench.report.page._SECTIONS", ())  # plots take seconds
    folder = tmp_path / "run"
    run_sweep([*SMALL, f"run_dir={folder}"], default_sweep=False)
    found = open_run(folder)
    assert standing(found.info).state is State.KEPT
    rows = {row["point_id"]: row for row in found.points.to_dict("records")}
    assert deviations(found.info, rows) == []
    assert "as planned" in (folder / "report.html").read_text()
    resume_sweep(folder)

    changed = found.info | {"finished": False}
    changed["preregistration"]["n"]["diffusion-bf16"]["prompts"] = 2
    (folder / "run.json").write_text(json.dumps(changed))
    monkeypatch.setattr("sys.argv", ["canvasbench", "resume", str(folder)])
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    error = capsys.readouterr().err.strip()
    assert "preregistration was changed after the start" in error
    assert len(error.splitlines()) == 1
    monkeypatch.setattr("sys.argv", ["canvasbench", "report", str(folder)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    assert "changed after the start" in (folder / "report.html").read_text()
