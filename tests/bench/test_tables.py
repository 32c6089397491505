"""From records to checked tables to a point's row, on two requests worked out by hand."""

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench import open_run
from bench.parquet import write_table
from bench.records import CanvasRecord, ExpertRecord, RepairRecord, RequestRecord, StepRecord
from bench.rows import (
    Judge,
    canvas_rows,
    position_rows,
    request_row,
    step_rows,
)
from bench.stats import process_interval
from bench.store import RunFolder
from bench.summary import point_row
from bench.tables import COLUMNS, SCHEMA_VERSION, check, frame, schema

EOS, LENGTH = 1, 3
KEYS = {"config_hash": "abcdefabcdef", "point_id": "diffusion-bf16", "host": "0a1b2c3d"}
KNOBS = {"decoding": "diffusion", "canvas_length": LENGTH, "eos_policy": "stop"}
JUDGE = Judge(
    decode=lambda ids: "".join(str(int(i)) for i in ids if i != EOS),
    token_text=str,
    eos_token_ids=frozenset({EOS}),
    check=lambda request_id, text: text == {0: "56", 1: "7"}[request_id],
    parses=lambda request_id, text: bool(text),
)
EXPERTS = [
    ExpertRecord(0, phase, 0, 1, layer, count)
    for phase, counts in (("prefill", (8, 8)), ("denoise", (3, 4)))
    for layer, count in enumerate(counts)
]
ARGMAX = {0: [[5, 4, 1], [5, 6, 1]], 1: [[7, 1, 8], [3, 1, 8]]}
ACCEPTED = {0: [[1, 1, 0], [1, 1, 1]], 1: [[1, 0, 0], [0, 1, 0]]}


def request(request_id: int, repeat: int = 0, **changes: object) -> RequestRecord:
    """Request 0 ends in "56", right, with position 1 edited; request 1 turns from "7" to "3"."""
    argmax, accepted = np.array(ARGMAX[request_id]), np.array(ACCEPTED[request_id], dtype=bool)
    slots = argmax[-1]
    content = int((slots == EOS).argmax()) + 1
    text = JUDGE.decode(slots[:content].tolist())
    canvas = CanvasRecord(
        canvas_index=0,
        steps=2,
        stop_reason="cap" if request_id else "converged",
        tokens=slots[:content],
        slots=slots,
        after_eos=LENGTH - content,
        over_limit=0,
        row_ended=0,
        delivered_s=0.5,
        candidate=argmax,
        accepted=accepted,
        argmax=argmax,
        entropy_nat=np.full(argmax.shape, 0.25),
    )
    steps = [StepRecord("prefill", 0, 1, 7.0)]
    steps += [StepRecord("denoise", 0, t, float(t), 3, 0.25) for t in (1, 2)]
    known = {
        "request_id": request_id,
        "process_id": 0,
        "repeat": repeat,
        "task": "sort",
        "prompt": "p",
        "answer": None,
        "text": text,
        "prompt_tokens": 4,
        "delivered_tokens": content,
        "wall_s": 0.5,
        "prefill_s": 0.1,
        "finish_reason": "eos",
        "correct": text == "56",
        "deliveries": [(0.5, content)],
        "canvases": [canvas],
        "steps": steps,
        "active_row_steps": 2,
    }
    return RequestRecord(**(known | changes))  # type: ignore[arg-type]


def tables(requests: list[RequestRecord]) -> dict[str, pd.DataFrame]:
    repairs = [RepairRecord(0, "sort", 2, 1, 4, 4, 3, False)]
    found = {
        "requests": [request_row(r, JUDGE) for r in requests],
        "canvases": [row for r in requests for row in canvas_rows(r)],
        "steps": [row for r in requests for row in step_rows(r)],
        "positions": position_rows(requests, JUDGE),
        "repairs": [asdict(r) for r in repairs],
        "experts": [asdict(e) for e in EXPERTS],
        "windows": [],
        "failed_requests": [],
        "loads": [],
    }
    return {name: frame(name, rows, KEYS) for name, rows in found.items()}


def both() -> list[RequestRecord]:
    return [request(i, repeat) for repeat in (0, 1) for i in (0, 1)]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("num_requests", 4),
        ("num_prompts", 2),
        ("num_repeats", 2),
        ("delivered_tok_per_s", 5 / 1.0),
        ("generation_tok_per_s_excl_prefill", 5 / 0.8),
        ("slot_tok_per_s", 6 / 1.0),
        ("decode_tok_per_s", None),
        ("decode_tok_per_s_median", None),
        ("step_ms", 1.5),
        ("prefill_ms", 7.0),
        ("commit_ms", None),
        ("steps_per_canvas_median", 2.0),
        ("cap_rate", 0.5),
        ("tokens_per_forward_denoise", 5 / 4),
        ("tokens_per_forward_all", 5 / 6),
        ("slots_per_forward", 6 / 4),
        ("canvas_fill", (3 / 3 + 2 / 3) / 2),
        ("occupancy", 1.0),
        # Content: 3 and 2 positions, one flip each over (2 - 1) steps, both after acceptance.
        ("argmax_flip_rate", 2 / 5),
        ("flips_after_accept_per_token", 2 / 5),
        ("revocations_per_token", 1 / 5),
        ("monotone_share", 0.5),
        ("revised_after_accept", 2 / 5),
        ("revised_direct_edit", 1 / 5),
        ("revised_revoke_rewrite", 1 / 5),
        ("return_rate", 0.0),
        ("never_accepted_share", 0.0),
        ("idle_tail_mean", 0.0),
        # Request 0 goes wrong to right, request 1 right to wrong.
        ("accuracy", 0.5),
        ("correction_n", 2),
        ("wrong_to_right_half", 0.5),
        ("right_to_wrong_half", 0.5),
        ("net_correction", 0.0),
        ("unresolved_accept", 0.0),
        ("ever_right_gap", 0.5),
        ("repair_n", 1),
        ("repaired_share", 0.5),
        ("distinct_experts_per_layer", 3.5),
        ("preserved_share", 1.0),
        ("empty_share", 0.0),
        ("truncated_share", 0.0),
        ("validity", "valid"),
        ("validity_reason", None),
    ],
)
def test_a_point_by_hand(name: str, expected: object) -> None:
    found = point_row(tables(both()), KNOBS)
    assert name in COLUMNS["points"]
    assert found.get(name) == (pytest.approx(expected) if expected is not None else None)


def test_a_point_has_no_column_its_table_lacks() -> None:
    found = point_row(tables(both()), KNOBS)
    assert set(found) <= set(COLUMNS["points"])
    assert not [name for name, value in found.items() if value in (np.inf, -np.inf)]


def test_the_stored_tables_give_the_same_point(tmp_path: Path) -> None:
    own = tables(both())
    for name, table in own.items():
        write_table(tmp_path / f"{name}.parquet", table)
    RunFolder(tmp_path, {"schema_version": SCHEMA_VERSION}).note()
    run = open_run(tmp_path)
    stored = {name: run.table(name) for name in own}
    for name, table in own.items():
        assert table.equals(stored[name]), name
    assert point_row(stored, KNOBS) == point_row(own, KNOBS)  # type: ignore[arg-type]


def test_without_a_trace_content_is_unknown_but_speed_is_not() -> None:
    bare = [
        request(i, canvases=[_without_trace(request(i).canvases[0])], correct=None) for i in (0, 1)
    ]
    own = tables(bare)
    assert own["canvases"]["flips"].isna().all()
    assert own["steps"]["flips"].isna().all()
    found = point_row(own, KNOBS)
    assert found["delivered_tok_per_s"] == pytest.approx(5.0)
    assert found["steps_per_canvas_median"] == 2
    assert {"argmax_flip_rate", "net_correction"}.isdisjoint(found)


def _without_trace(canvas: CanvasRecord) -> CanvasRecord:
    return replace(canvas, candidate=None, accepted=None, argmax=None, entropy_nat=None)


@pytest.mark.parametrize(
    ("changes", "eos_policy", "validity", "reason"),
    [
        ({"delivered_tokens": 9}, "stop", "invalid", "ledger_does_not_sum"),
        ({"active_row_steps": 3}, "stop", "invalid", "steps_do_not_sum"),
        ({"finish_reason": "length"}, "stop", "low_validity", "50% of answers truncated"),
        ({"finish_reason": "length"}, "ignore", "valid", None),
        ({"text": ""}, "stop", "low_validity", "50% of answers empty"),
    ],
)
def test_validity(
    changes: dict[str, object], eos_policy: str, validity: str, reason: str | None
) -> None:
    other = request(0, finish_reason="length" if eos_policy == "ignore" else "eos")
    found = point_row(tables([other, request(1, **changes)]), KNOBS | {"eos_policy": eos_policy})
    assert (found["validity"], found["validity_reason"]) == (validity, reason)


def test_logits_that_are_not_finite_invalidate_the_point() -> None:
    broken = [StepRecord("denoise", 0, t, 1.0, 3, float("nan")) for t in (1, 2)]
    found = point_row(tables([request(0), request(1, steps=broken)]), KNOBS)
    assert (found["validity"], found["validity_reason"]) == ("invalid", "entropy_not_finite")


def test_an_autoregressive_point_never_revises() -> None:
    deliveries = [(0.1 * k, 1) for k in range(1, 6)]
    steps = [StepRecord("decode", k, 1, 2.0) for k in range(5)]
    plain = request(
        0,
        canvases=[],
        steps=steps,
        deliveries=deliveries,
        active_row_steps=0,
        delivered_tokens=5,
        wall_s=0.5,
    )
    own = tables([plain])
    knobs = KNOBS | {"decoding": "autoregressive", "canvas_length": None}
    found = point_row(own, knobs)
    assert found["validity"] == "valid"
    assert found["decode_tok_per_s"] == pytest.approx(4 / 0.4)
    assert found["decode_ms"] == pytest.approx(2.0)
    assert found["step_ms"] is None
    assert found["revised_after_accept"] == 0.0
    assert "steps_per_canvas_median" not in found
    assert own["canvases"].empty


def test_positions_sample_two_canvases_a_task() -> None:
    own = tables(both())["positions"]
    assert len(own) == 2 * 2 * LENGTH
    last = own[(own["request_id"] == 1) & (own["step"] == 2)]
    assert last["argmax"].tolist() == [3, 1, 8]
    assert last["content"].tolist() == [True, True, False]


def test_whole_requests_are_kept_where_they_are_asked_for() -> None:
    """Three answers of two canvases, the second one longer: two samples, or four canvases."""
    long = request(0).canvases[0]
    twice = {
        name: np.concatenate([getattr(long, name)] * 2)
        for name in ("candidate", "accepted", "argmax", "entropy_nat")
    }
    longer = replace(long, canvas_index=1, steps=4, **twice)
    answers = [replace(request(0, canvases=[long, longer]), request_id=i) for i in range(3)]
    for whole, kept in ((False, {(0, 1), (1, 1)}), (True, {(0, 0), (0, 1), (1, 0), (1, 1)})):
        rows = position_rows(answers, JUDGE, whole=whole)
        assert {(row["request_id"], row["canvas_index"]) for row in rows} == kept
        assert len(rows) == LENGTH * sum(4 if index else 2 for _, index in kept)


@pytest.mark.parametrize("table", COLUMNS)
def test_every_table_has_a_schema_with_its_keys(table: str) -> None:
    assert {"schema_version", "config_hash", "point_id"} <= set(schema(table).columns)


REPAIR = {
    "request_id": 3,
    "task": "sort",
    "corrupted": 2,
    "repaired": 1,
    "untouched": 5,
    "preserved": 5,
    "steps": 4,
    "correct": False,
}


@pytest.mark.parametrize(
    ("column", "value"),
    [("steps", 1.7), ("steps", "4"), ("steps", None), ("correct", "no"), ("task", 5)],
)
def test_a_value_of_another_type_is_refused_not_converted(column: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"table repairs: column '{column}'"):
        frame("repairs", [REPAIR | {column: value}], KEYS)


@pytest.mark.parametrize(
    "changes",
    [{}, {"steps": np.int32(4), "corrupted": 2.0, "correct": np.bool_(True)}, {"task": "µ"}],
)
@pytest.mark.parametrize("rows", [0, 1, 2])
def test_a_table_without_faults_is_as_pandera_would_make_it(
    changes: dict[str, object], rows: int
) -> None:
    given = pd.DataFrame([KEYS | {"schema_version": 1} | REPAIR | changes] * rows, dtype=object)
    given = given.reindex(columns=list(COLUMNS["repairs"]))
    pd.testing.assert_frame_equal(check("repairs", given), schema("repairs").validate(given))


def test_whole_floats_and_numpy_values_are_taken() -> None:
    row = REPAIR | {"steps": np.int32(4), "corrupted": 2.0, "correct": np.bool_(True)}
    found = check("repairs", frame("repairs", [row], KEYS))
    assert found[["steps", "corrupted", "correct"]].iloc[0].tolist() == [4, 2, True]


def test_the_median_rate_s_interval_is_between_processes() -> None:
    """Many requests of two processes that differ say no more of a third than two values do."""
    pace = (1.0, 1.1)
    found = [
        request(
            i, 0, process_id=p, delivered_tokens=3, deliveries=[(0.1 * slow, 1), (0.3 * slow, 2)]
        )
        for p, slow in enumerate(pace)
        for i in (0, 1)
    ]
    row = point_row(tables(found), KNOBS)
    low, high = row["decode_tok_per_s_median_lo"], row["decode_tok_per_s_median_hi"]
    rates = [2 / (0.2 * slow) for slow in pace]
    expected = process_interval(rates)
    assert expected is not None
    assert (low, high) == pytest.approx(expected)
    assert high / low > 1.2
