"""The projection: it gives back what it was made from, and its stated errors are those found."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from bench import open_run
from bench.devices import DEVICES, device
from bench.procurement import calibration_sources, projection_table
from bench.procurement.calibration import (
    SHARED,
    Forward,
    Measurements,
    Profile,
    calibrate,
    measurements,
    profiled_forward,
    shipped_measurements,
)
from bench.procurement.cell import Cell, NumberClass
from bench.procurement.crossover import crossovers
from bench.procurement.curves import projected_curves
from bench.procurement.projected_times import Setting, floor_times
from bench.procurement.projection import Projector, projected_points, projector
from bench.procurement.published import published_figures
from bench.procurement.reply_length import projected_deliveries, reply_length
from bench.procurement.transfer import TransferError, log_half_width, transfer_errors
from bench.procurement.work import released_work
from bench.roofline import Group, op_floor_s

PUBLISHED = Path(__file__).parents[3] / "results" / "published"
GIVEN = shipped_measurements()
BY = projector(released_work)
SIBLINGS = ("diffusion", "autoregressive")


def known(cell: Cell) -> tuple[float, float, float]:
    assert cell.value is not None
    assert cell.low is not None
    assert cell.high is not None
    assert cell.low <= cell.value <= cell.high
    return cell.value, cell.low, cell.high


def setting(**changed: object) -> Setting:
    found = Setting(device="h200", decoding="diffusion", precision="fp8")
    return replace(found, **changed)  # type: ignore[arg-type]


def test_the_shipped_calibration_is_what_the_runs_hold() -> None:
    collected = calibration_sources.collect(PUBLISHED)
    assert measurements(yaml.safe_load(calibration_sources.as_yaml(collected))) == GIVEN
    for profile in GIVEN.profiles:
        assert sum(profile.parts_ms.values()) == pytest.approx(profile.step_ms, abs=1e-3)
        assert set(profile.parts_ms) == {*SHARED, "fixed"}


@pytest.mark.parametrize("decoding", SIBLINGS)
@pytest.mark.parametrize("precision", ["fp8", "bf16"])
def test_the_run_it_was_made_from_is_given_back(decoding: str, precision: str) -> None:
    run = open_run(PUBLISHED / "nvidia-h200-2026-11-26" / "fixed_work")
    points = run.points.set_index(["decoding", "precision"])
    row = points.loc[(decoding, precision)]
    found = BY.project(setting(decoding=decoding, precision=precision))
    assert found.point.system_tok_per_s.value == pytest.approx(row["delivered_tok_per_s"], rel=2e-3)
    assert found.decode_tok_per_s.value == pytest.approx(row["decode_tok_per_s"], rel=8e-3)
    assert found.point.power_w.value == pytest.approx(row["power_mean_w"], rel=1e-3)
    for own in GIVEN.timed:
        if (own.decoding, own.precision) == (decoding, precision):
            step_ms = next(iter(own.forwards_ms.values()))
            assert found.step_ms.value == pytest.approx(step_ms, rel=2e-3)
            assert own.processes == row["num_processes"]


TRUTH = Forward(
    1.5,
    dict.fromkeys(("projections", "dense"), 0.4)
    | {"experts": 0.8, "attention": 0.2, "logits": 0.7, "self_conditioning": 0.9},
)


def _profile(name: str, truth: Forward) -> Profile:
    """What a profiler would have found on a device of that truth."""
    groups = released_work("diffusion", "denoise", "fp8", context=1024)
    by_group = truth.parts_ms(groups, device(name))
    parts = {"fixed": truth.fixed_ms} | {
        part: sum(by_group[group] for group in names) for part, names in SHARED.items()
    }
    commit = released_work("diffusion", "commit", "fp8", context=1024)
    return Profile(
        device=name,
        precision="fp8",
        context=1024,
        step_ms=truth.ms(groups, device(name)),
        commit_ms=truth.ms(commit, device(name)),
        parts_ms=parts,
        source="synthetic",
    )


def test_efficiencies_are_recovered_and_carry_over_to_another_device() -> None:
    found = profiled_forward([_profile("h100", TRUTH)], released_work)
    assert found.fixed_ms == pytest.approx(TRUTH.fixed_ms)
    for group, efficiency in TRUTH.efficiency.items():
        assert found.efficiency[group] == pytest.approx(efficiency), group
    groups = released_work("diffusion", "denoise", "fp8", context=1024)
    expected = TRUTH.ms(groups, device("h200"))
    assert found.ms(groups, device("h200")) == pytest.approx(expected)


def test_an_error_of_transfer_is_found_where_there_is_one() -> None:
    slower = replace(TRUTH, efficiency=dict(TRUTH.efficiency) | {"experts": 0.6})
    given = Measurements(
        (_profile("h100", TRUTH), _profile("h200", slower)), GIVEN.timed, 2.0, "synthetic"
    )
    errors = [e for e in _errors(given) if e.kind == "measured" and "denoise" in e.pair]
    to_h200 = next(e for e in errors if e.to_device == "h200")
    to_h100 = next(e for e in errors if e.to_device == "h100")
    assert to_h200.log_error < -0.1 < 0.1 < to_h100.log_error
    same = Measurements(
        (_profile("h100", TRUTH), _profile("h200", TRUTH)), GIVEN.timed, 2.0, "synthetic"
    )
    exact = [e.log_error for e in _errors(same) if e.kind == "measured"]
    assert exact == pytest.approx([0.0] * 4, abs=1e-9)


def _errors(given: Measurements) -> list[TransferError]:
    return transfer_errors(given, calibrate(given, released_work), released_work)


def test_one_device_left_out_is_found_within_the_limits_stated() -> None:
    errors = _errors(GIVEN)
    assert len(errors) == 8
    own = [abs(e.log_error) for e in errors if e.kind == "measured"]
    assert len(own) == 4
    assert max(own) < 0.05
    half = log_half_width(errors)
    assert half == pytest.approx(BY.log_half_width)
    assert all(abs(e.log_error) < half for e in errors)
    # Student's t of few pairs: wider than twice their spread.
    spread = math.sqrt(sum(e.log_error**2 for e in errors) / len(errors))
    assert 2.7 < half / spread < 2.9


@pytest.mark.parametrize("name", [n for n in DEVICES if n not in ("h100", "h200")])
def test_every_listed_device_is_projected_and_none_beats_its_floor(name: str) -> None:
    for decoding in SIBLINGS:
        found = BY.project(setting(device=name, decoding=decoding))
        value, low, high = known(found.point.system_tok_per_s)
        floor = found.point.op_floor_tok_per_s
        assert floor is not None
        assert low < value < high <= floor * (1 + 1e-9)
        is_hopper = DEVICES[name].architecture == "hopper"
        assert (high == pytest.approx(floor)) == (not is_hopper)
        assert any("nothing was measured" in note for note in found.point.notes) != is_hopper
        assert high / low > (1.3 if is_hopper else 3)
        least = floor_times(
            setting(device=name, decoding=decoding), device(name), BY.work, op_floor_s
        )
        assert known(found.step_ms)[0] > 1e3 * least.step_s
        assert found.point.kind is found.step_ms.kind is NumberClass.PROJECTED


def test_what_was_not_measured_widens_the_limits() -> None:
    def width(**changed: object) -> float:
        _, low, high = known(BY.project(setting(**changed)).point.system_tok_per_s)
        return high / low

    one = width()
    assert one == pytest.approx(math.exp(2 * BY.log_half_width), rel=1e-6)
    assert one < width(batch_size=4) < width(batch_size=32)
    assert width(prompt_tokens=32_768) > one
    notes = BY.project(setting(batch_size=2)).point.notes
    assert "no batch above 1 was measured" in notes


def test_figures_follow_from_one_another() -> None:
    found = BY.project(setting(reply_tokens=1000, steps=8))
    step, _, _ = known(found.step_ms)
    commit, _, _ = known(found.commit_ms)
    prefill, _, _ = known(found.prefill_ms)
    host_ms = 1e3 * (found.point.canvas_gap_s.value or 0) - 8 * step - commit
    assert 0 < host_ms < 1
    end_to_end_ms = prefill + 4 * (8 * step + host_ms) + 3 * commit
    assert found.point.end_to_end_s.value == pytest.approx(end_to_end_ms / 1e3, rel=1e-6)
    rate = found.point.system_tok_per_s.value
    assert rate == pytest.approx(1e6 / end_to_end_ms, rel=1e-6)
    assert found.point.joules_per_token.value == pytest.approx(
        (found.point.power_w.value or 0) / (rate or 1)
    )
    short = BY.project(setting(reply_tokens=256))
    assert short.decode_tok_per_s.value is None
    assert short.decode_tok_per_s.why_unknown == "one delivery"
    sibling = BY.project(setting(decoding="autoregressive"))
    assert sibling.commit_ms.value is None
    assert sibling.point.accuracy.why_unknown


def test_more_work_takes_longer() -> None:
    def rate(**changed: object) -> float:
        return BY.project(setting(**changed)).point.system_tok_per_s.value or 0.0

    base = rate()
    assert rate(steps=48) < base / 2
    assert rate(prompt_tokens=8192) < base
    assert rate(precision="bf16") < base
    assert rate(device="h100") < base < rate(device="b200")
    assert base < rate(batch_size=4) < 4 * base


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"device": "h300"}, "device 'h300' is not listed; valid: h100"),
        ({"decoding": "both"}, "decoding 'both' is unknown; valid: diffusion, autoregressive"),
        ({"precision": "int4"}, "precision 'int4' is not calibrated; valid: fp8, bf16"),
        ({"batch_size": 0}, "batch_size is 0; it must be >= 1"),
    ],
)
def test_bad_settings_are_refused_in_one_line(changed: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BY.project(setting(**changed))


def test_projected_curves_cross_and_say_how_little_is_known() -> None:
    points = projected_points("h200", "fp8", batch_sizes=(1, 2, 4, 8, 16, 32, 64), by=BY)
    found = {c.metric: c for c in crossovers(projected_curves(points))}
    rate = found["delivered_tok_per_s"]
    assert rate.kind is NumberClass.PROJECTED
    assert rate.outcome == "crosses"
    assert rate.batch_size.value is not None
    assert 16 < rate.batch_size.value < 64
    assert rate.is_open_above
    assert rate.no_crossing_share is not None
    assert 0.05 < rate.no_crossing_share < 0.6
    assert set(found) == {"delivered_tok_per_s", "joules_per_token"}


def test_projected_reply_lengths() -> None:
    diffusion, other = (BY.project(setting(decoding=d)).point for d in SIBLINGS)
    ones = projected_deliveries(diffusion), projected_deliveries(other)
    assert ones[0] is not None
    assert ones[1] is not None
    found = reply_length(ones[0], ones[1], canvas_length=256)
    # The first canvas takes 16 steps of 10.1 ms, an autoregressive token 2.43 ms.
    assert found.tokens.value == pytest.approx((16 * 10.13 + 0.6) / 2.43, abs=3)
    assert found.tokens.low is not None
    assert found.tokens.low < found.tokens.value


def test_the_committed_tables_are_those_the_code_makes(tmp_path: Path) -> None:
    projection_table.write(tmp_path, released_work)
    for made in sorted(tmp_path.iterdir()):
        committed = PUBLISHED / "projection" / made.name
        assert committed.read_text() == made.read_text(), made.name


def test_every_figure_of_a_listed_device_is_projected_or_says_why_not() -> None:
    text = (PUBLISHED / "projection" / "errors.csv").read_text()
    rows = {row["id"]: row for row in csv.DictReader(io.StringIO(text))}
    wanted = [f for f in published_figures() if f.device and f.num_devices == 1]
    assert list(rows) == [figure.id for figure in wanted]
    for figure in wanted:
        row = rows[figure.id]
        assert bool(row["projected"]) != bool(row["not_projected"]), figure.id
        assert float(row["published"]) == pytest.approx(figure.value, rel=1e-5)
        if row["projected"]:
            low, high = float(row["low"]), float(row["high"])
            assert row["inside_limits"] == str(low <= figure.value <= high).lower()
            error = 100 * (float(row["projected"]) / figure.value - 1)
            assert float(row["error_pct"]) == pytest.approx(error, rel=1e-3)
    assert rows["h100-vllm-16"]["projected"]
    assert rows["h200-vllm-16"]["projected"]
    assert rows["h100-recipe-delivered"]["not_projected"] == "steps a canvas not known"
    assert rows["h100-vllm-ar-mtp"]["not_projected"] == "no engine here has a drafter"


def test_a_groups_time_scales_by_its_own_efficiency() -> None:
    """Twice the efficiency of one group takes half of its time and nothing else's."""
    groups: Sequence[Group] = released_work("diffusion", "denoise", "fp8", context=1024)
    quicker = replace(TRUTH, efficiency=dict(TRUTH.efficiency) | {"experts": 1.6})
    one, other = (f.parts_ms(groups, device("h200")) for f in (TRUTH, quicker))
    assert other["experts"] == pytest.approx(one["experts"] / 2)
    assert {k: v for k, v in other.items() if k != "experts"} == {
        k: v for k, v in one.items() if k != "experts"
    }


def test_the_projector_names_what_it_rests_on() -> None:
    assert isinstance(BY, Projector)
    assert "h100, h200" in BY.source
    assert BY.calibration.architectures == {"hopper"}
