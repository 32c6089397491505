"""Gate files: what they may say, their hash, and bounds they cannot hold."""

import json
import textwrap
from pathlib import Path

import pytest
import yaml

from bench.gate import OnAmbiguous, declaration, read_gate

PLAIN = {"metrics": {"delivered_tok_per_s": {"bound": 0.05}, "accuracy": {"bound": 0.02}}}


def written(folder: Path, **changed: object) -> Path:
    path = folder / "gate.yaml"
    path.write_text(yaml.safe_dump(PLAIN | changed))
    return path


def test_defaults(tmp_path: Path) -> None:
    gate = read_gate(written(tmp_path))
    assert dict(gate.bounds) == {"delivered_tok_per_s": 0.05, "accuracy": 0.02}
    assert (gate.name, gate.points, gate.may_differ) == ("gate", None, ())
    assert (gate.min_processes, gate.min_prompts) == (8, 8)
    assert gate.on_ambiguous is OnAmbiguous.FAIL


def test_the_example_of_the_documentation_is_a_gate(tmp_path: Path) -> None:
    assert declaration.__doc__ is not None
    example = textwrap.dedent(declaration.__doc__.split("\n\n", 2)[2])
    (tmp_path / "gate.yaml").write_text(example)
    (tmp_path / "baselines").mkdir()
    pairs = {"log_ratios": {"step_ms": [0.01, -0.01] * 10}}
    (tmp_path / "baselines" / "build-machine-aa.json").write_text(json.dumps(pairs))
    gate = read_gate(tmp_path / "gate.yaml")
    assert dict(gate.bounds) == {
        "delivered_tok_per_s": 0.05,
        "step_ms": 0.03,
        "peak_rss_bytes": 0.05,
        "steps_per_canvas": 0.01,
        "accuracy": 0.02,
    }
    assert gate.points == ("diffusion-bf16", "autoregressive-bf16")
    assert gate.may_differ == ("driver",)


def test_the_hash_is_of_what_it_says_not_of_how(tmp_path: Path) -> None:
    first = read_gate(written(tmp_path)).sha256
    path = tmp_path / "again.yaml"
    path.write_text(
        "# a comment\nmetrics:\n  accuracy: {bound: 0.02}\n"
        "  delivered_tok_per_s:\n    bound: 0.05\n"
    )
    assert read_gate(path).sha256 == first
    looser = {"metrics": PLAIN["metrics"] | {"accuracy": {"bound": 0.5}}}
    assert read_gate(written(tmp_path, **looser)).sha256 != first


def test_another_gate_than_the_agreed_one_is_refused(tmp_path: Path) -> None:
    agreed = read_gate(written(tmp_path)).sha256
    assert read_gate(written(tmp_path), agreed[:16]).sha256 == agreed
    with pytest.raises(ValueError, match="was changed after it was agreed on"):
        read_gate(written(tmp_path, min_processes=9), agreed)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"metric": {}}, "key 'metric' is unknown; valid: name, metrics"),
        ({"metrics": {}}, "metrics must name at least one metric"),
        ({"metrics": {"speed": {"bound": 0.1}}}, "metric 'speed' is unknown; valid: delivered"),
        ({"metrics": {"step_ms": 0.1}}, "metric step_ms is 0.1; it must be {bound: SHARE}"),
        ({"metrics": {"step_ms": {"bound": 5}}}, "with a share above 0 and below 1"),
        ({"metrics": {"step_ms": {"bound": 0}}}, "with a share above 0 and below 1"),
        ({"metrics": {"step_ms": {"bound": True}}}, "with a share above 0 and below 1"),
        ({"min_processes": 3}, "min_processes is 3; it must be at least 8"),
        ({"on_ambiguous": "ignore"}, "on_ambiguous is 'ignore'; valid: fail, warn, pass"),
        ({"may_differ": ["weather"]}, "may_differ names 'weather'; valid: device, driver"),
        ({"points": "all"}, "points is 'all'; it must be a list of names"),
        ({"aa": "nowhere.json"}, "is no recording of A/A pairs"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, changed: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said) as error:
        read_gate(written(tmp_path, **changed))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["metrics: [", "- a list", "", "1: 2"])
def test_no_gate_file_at_all(tmp_path: Path, text: str) -> None:
    path = tmp_path / "gate.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"gate .*gate\.yaml"):
        read_gate(path)
    with pytest.raises(ValueError, match="cannot be read: No such file"):
        read_gate(tmp_path / "missing.yaml")


@pytest.mark.parametrize(("spread", "holds"), [(0.02, True), (0.06, False)])
def test_a_bound_tighter_than_recorded_pairs_allow_is_refused(
    tmp_path: Path, spread: float, holds: bool
) -> None:
    pairs = [spread, -spread] * 12
    (tmp_path / "aa.json").write_text(
        json.dumps({"log_ratios": {"delivered_tok_per_s": pairs, "step_ms": pairs}})
    )
    path = written(tmp_path, aa="aa.json")
    if holds:
        assert len(read_gate(path).aa["delivered_tok_per_s"]) == 24
        return
    with pytest.raises(ValueError, match="bound 5 % is tighter than the minimum detectable effect"):
        read_gate(path)


def test_the_baseline_lies_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "stored").mkdir()
    assert read_gate(written(tmp_path, baseline="stored")).baseline == str(tmp_path / "stored")
    assert read_gate(written(tmp_path, baseline="main:run")).baseline == "main:run"
