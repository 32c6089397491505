"""The run folder's tables: versioned schemas, checked on write and on read.

A column is described by its type and a "?" where it may be unknown; unknown is null, never 0.
"""

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bench import telemetry

if TYPE_CHECKING:
    from pandera.pandas import DataFrameSchema

SCHEMA_VERSION = 8

_KEYS = {"schema_version": "int", "config_hash": "str", "point_id": "str", "host": "str"}
_REQUEST_KEYS = {"request_id": "int", "process_id": "int", "repeat": "int", "task": "str"}

_INTERVALS = (
    "delivered_tok_per_s",
    "system_tok_per_s",
    "decode_tok_per_s",
    "decode_tok_per_s_median",
    "generation_tok_per_s_excl_prefill",
    "slot_tok_per_s",
    "inverse_tpot_tok_per_s",
    "step_ms",
    "commit_ms",
    "fused_ms",
    "prefill_ms",
    "decode_ms",
    "first_canvas_s",
    "canvas_gap_p50_s",
    "canvas_gap_p95_s",
    "steps_per_canvas_median",
    "steps_per_canvas_p90",
    "cap_rate",
    "revised_after_accept",
    "accuracy",
    "net_correction",
    "repaired_share",
    "preserved_share",
)
"""Metrics of a point that carry `<metric>_lo` and `<metric>_hi`."""

_SINGLE = (
    "converged_rate",
    "tokens_per_forward_denoise",
    "tokens_per_forward_all",
    "slots_per_forward",
    "canvas_fill",
    "occupancy",
    "idle_tail_mean",
    "argmax_flip_rate",
    "flips_after_accept_per_token",
    "revocations_per_token",
    "monotone_share",
    "revised_direct_edit",
    "revised_revoke_rewrite",
    "return_rate",
    "never_accepted_share",
    *(
        f"{name}_{reference}"
        for reference in ("half", "accept", "parse")
        for name in ("wrong_to_right", "right_to_wrong", "lock_in_rate", "unresolved")
    ),
    "ever_right_gap",
    "repair_correct_share",
    "host_share",
    "temperature_begin_c",
    "temperature_end_c",
    "sm_clock_mean_mhz",
    "power_mean_w",
    "power_limit_w",
    "delivered_tok_per_s_per_w",
    "distinct_experts_per_layer",
    "fused_distinct_experts_per_layer",
    "weight_bytes_per_step",
    "step_context",
    "op_floor_ms",
    "op_floor_share",
    "streaming_floor_ms",
    "streaming_floor_share",
    "fused_op_floor_ms",
    "fused_op_floor_share",
    "probe_copy_bytes_per_s",
    "probe_wide_flops_per_s",
    "probe_fp8_flops_per_s",
    "joules_per_token",
    "empty_share",
    "truncated_share",
)

COLUMNS: dict[str, dict[str, str]] = {
    "points": _KEYS
    | {
        "decoding": "str",
        "precision": "str",
        "emulated": "bool",
        "vocabulary": "str?",
        "kernels": "str?",
        "execution": "str?",
        "commit_mode": "str?",
        "backend": "str",
        "model": "str",
        "weights": "str",
        "weights_sha256": "str?",
        "device": "str",
        "workload": "str",
        "eos_policy": "str",
        "max_new_tokens": "int",
        "measure": "str",
        "trace": "str",
        "timed": "str",
        "clock": "str?",
        "batch_size": "int",
        "seed": "int",
        "num_processes": "int",
        "num_repeats": "int",
        "num_prompts": "int",
        "num_requests": "int",
        "prompts_sha256": "str?",
        "template_sha256": "str?",
        "commit": "str?",
        "dirty": "bool?",
        "cpu": "str?",
        "torch": "str?",
        "cuda": "str?",
        "driver": "str?",
        "warmup_batches": "int?",
        "warmup_stable": "bool?",
        "canvas_length": "int?",
        "max_denoising_steps": "int?",
        "early_stop": "bool?",
        "min_belief": "float?",
        "num_canvases": "int?",
        "weight_passes": "int?",
        "fused_forwards": "int?",
        "correction_n": "int?",
        "repair_n": "int?",
        "peak_rss_bytes": "int?",
        "peak_device_allocated_bytes": "int?",
        "peak_device_reserved_bytes": "int?",
        "condition": "str?",
        "condition_reason": "str?",
        "connections": "int?",
        "rate_per_s": "float?",
        "arrivals_sha256": "str?",
        "server": "str?",
        "launched": "bool?",
        "drafter": "str?",
        "capabilities": "str?",
        "failed_requests": "int?",
        "server_canvases": "int?",
        "server_steps_per_canvas": "float?",
        "validity": "str",
        "validity_reason": "str?",
    }
    | {f"{name}{end}": "float?" for name in _INTERVALS for end in ("", "_lo", "_hi")}
    | dict.fromkeys(_SINGLE, "float?"),
    "requests": _KEYS
    | _REQUEST_KEYS
    | {
        "prompt": "str",
        "answer": "str?",
        "text": "str",
        "prompt_tokens": "int",
        "delivered_tokens": "int",
        "first_delivery_tokens": "int?",
        "num_canvases": "int?",
        "canvases_unknown": "str?",
        "sent_s": "float?",
        "wall_s": "float",
        "prefill_s": "float?",
        "first_canvas_s": "float",
        "last_delivery_s": "float",
        "finish_reason": "str",
        "reasoning_tokens": "int?",
        "visible_tokens": "int?",
        "well_formed": "bool?",
        "scores_finite": "bool?",
        "correct": "bool?",
        "batch_size": "int",
        "slots_committed": "int?",
        "after_eos_slots": "int?",
        "over_limit_slots": "int?",
        "row_ended_slots": "int",
        "active_row_steps": "int",
        "waiting_row_steps": "int",
        "ended_row_steps": "int",
        "correct_half": "bool?",
        "correct_accept": "bool?",
        "correct_parse": "bool?",
        "correct_ever": "bool?",
        "unchanged_half": "bool?",
        "unchanged_accept": "bool?",
        "unchanged_parse": "bool?",
    },
    "canvases": _KEYS
    | _REQUEST_KEYS
    | {
        "canvas_index": "int",
        "steps": "int?",
        "stop_reason": "str",
        "content_tokens": "int",
        "canvas_fill": "float",
        "gap_s": "float?",
        "settle_step_max": "int?",
        "idle_tail": "int?",
        "flips": "int?",
        "flip_opportunities": "int?",
        "flips_after_accept": "int?",
        "revocations": "int?",
        "revised_after_accept": "int?",
        "direct_edits": "int?",
        "revoke_rewrites": "int?",
        "returns": "int?",
        "never_accepted": "int?",
    },
    "steps": _KEYS
    | _REQUEST_KEYS
    | {
        "canvas_index": "int",
        "step": "int",
        "phase": "str",
        "accepted": "int?",
        "renoised": "int?",
        "revoked": "int?",
        "flips": "int?",
        "accepted_slots": "int?",
        "mean_entropy_nat": "float?",
        "device_ms": "float",
        "host_ms": "float?",
    },
    "positions": _KEYS
    | {
        "request_id": "int",
        "task": "str",
        "canvas_index": "int",
        "step": "int",
        "position": "int",
        "candidate": "int",
        "accepted": "bool",
        "argmax": "int",
        "argmax_text": "str",
        "entropy_nat": "float?",
        "content": "bool",
    },
    "repairs": _KEYS
    | {
        "request_id": "int",
        "task": "str",
        "corrupted": "int",
        "repaired": "int",
        "untouched": "int",
        "preserved": "int",
        "steps": "int",
        "correct": "bool",
    },
    "experts": _KEYS
    | {
        "batch_index": "int",
        "phase": "str",
        "canvas_index": "int",
        "step": "int",
        "layer": "int",
        "distinct_experts": "int",
    },
    "failed_requests": _KEYS
    | _REQUEST_KEYS
    | {
        "prompt": "str",
        "sent_s": "float",
        "ended_s": "float",
        "failure": "str",
        "failure_detail": "str",
        "text": "str",
    },
    "loads": _KEYS
    | {
        "process_id": "int",
        "repeat": "int",
        "connections": "int?",
        "rate_per_s": "float?",
        "window_s": "float",
        "num_answers": "int",
        "num_failures": "int",
        "late_s": "float?",
        "canvases": "int?",
        "tokens": "int?",
        "server_canvases": "int?",
        "server_denoise_steps": "int?",
        "server_tokens": "int?",
        "server_reason": "str?",
        "contradictions": "str?",
    },
    "reconciled": _KEYS
    | {"process_id": "int", "repeat": "int", "tool": "str", "name": "str", "value": "float?"},
    "checks": _KEYS | {"check": "str", "passed": "bool?", "detail": "str", "seconds": "float"},
    "op_groups": _KEYS
    | {
        "op_group": "str",
        "step_ms": "float",
        "launches": "float",
        "floor_ms": "float?",
        "bytes": "float?",
        "flops": "float?",
    },
    "telemetry": _KEYS | telemetry.COLUMNS,
    "windows": _KEYS
    | {"process_id": "int", "repeat": "int"}
    | telemetry.WINDOW_COLUMNS
    | {"peak_rss_bytes": "int?", "peak_device_allocated_bytes": "int?"},
    "failures": _KEYS
    | {
        "process_id": "int",
        "attempt": "int",
        "reason": "str",
        "detail": "str",
        "log_tail": "str",
        "created": "str",
    },
}
"""Every table's columns."""

# Where pandas has strings of its own (3.0 on), the same that pandera converts to.
_STRING = pd.StringDtype(na_value=np.nan) if pd.__version__ >= "3" else pd.StringDtype()

_DTYPES = {
    "int": np.dtype("int64"),
    "float": np.dtype("float64"),
    "bool": np.dtype("bool"),
    "str": _STRING,
    "int?": pd.Int64Dtype(),
    "float?": np.dtype("float64"),
    "bool?": pd.BooleanDtype(),
    "str?": _STRING,
}


_LOSSLESS = (
    pd.api.types.is_integer_dtype,
    pd.api.types.is_bool_dtype,
    pd.api.types.is_float_dtype,
    lambda dtype: isinstance(dtype, pd.StringDtype),
)
"""Kinds within which a conversion, nullable or not, alters nothing."""


@cache
def schema(table: str) -> "DataFrameSchema":
    """The pandera schema of a table; strict, so that a column too many is an error as well."""
    import pandera.pandas as pa

    return pa.DataFrameSchema(
        {
            name: pa.Column(_DTYPES[kind], nullable=kind.endswith("?"))
            for name, kind in COLUMNS[table].items()
        },
        strict=True,
        coerce=True,
        name=table,
    )


def frame(table: str, rows: list[dict[str, object]], keys: Mapping[str, str]) -> pd.DataFrame:
    """Rows as a checked table; `keys` (config_hash, point_id, host) stand in every row.

    Columns that no row knows are null.
    """
    wanted = COLUMNS[table]
    found = pd.DataFrame(rows, columns=[name for name in wanted if name not in _KEYS])
    found.insert(0, "schema_version", SCHEMA_VERSION)
    for name, value in keys.items():
        found[name] = value
    return check(table, found)


def check(table: str, found: pd.DataFrame) -> pd.DataFrame:
    """The table in its schema's types and column order.

    Raises:
        ValueError: a column is missing, unknown or of the wrong type; it is named.
    """
    different = sorted(set(COLUMNS[table]) ^ set(found.columns))
    if different:
        state = "missing" if different[0] in COLUMNS[table] else "unknown"
        raise ValueError(f"table {table}: column {different[0]!r} is {state}")
    wanted = {name: _DTYPES[kind] for name, kind in COLUMNS[table].items()}
    others = {
        str(name): wanted[str(name)]
        for name, dtype in found.dtypes.items()
        if type(dtype) is not type(wanted[str(name)]) or dtype != wanted[str(name)]
    }
    checked = _converted(table, found, others)
    if checked is None:
        checked = _judged(table, found)
    for name in others:
        _refuse_changed(table, found[name], checked[name])
    return checked[list(wanted)]


def _converted(table: str, found: pd.DataFrame, dtypes: Mapping[str, Any]) -> pd.DataFrame | None:
    """The columns in their types; None where one cannot be, or lacks what it must have.

    What pandera does with a table without faults, less the 0.4 s that importing it takes.
    """
    try:
        converted = found.astype(dtypes)
    except (TypeError, ValueError, OverflowError):
        return None
    # Whole numbers and truth values without a "?" cannot be null.
    needed = [name for name, kind in COLUMNS[table].items() if kind in ("float", "str")]
    return None if converted[needed].isna().any(axis=None) else converted


def _judged(table: str, found: pd.DataFrame) -> pd.DataFrame:
    """What pandera makes of a table that did not simply convert: most often its first fault."""
    import pandera.errors

    try:
        return schema(table).validate(found, lazy=True)
    except pandera.errors.SchemaErrors as error:
        failure = error.failure_cases.iloc[0]
        raise ValueError(
            f"table {table}: column {failure['column']!r} fails {failure['check']}, "
            f"found {failure['failure_case']!r}"
        ) from error


def _refuse_changed(table: str, given: pd.Series, coerced: pd.Series) -> None:
    """Refuses what a type conversion would alter: 1.7 as an integer, "no" as a truth value."""
    if given.dtype == coerced.dtype or any(
        same(given.dtype) and same(coerced.dtype) for same in _LOSSLESS
    ):
        return
    known = coerced.notna().to_numpy()
    before, after = given[known].to_numpy(dtype=object), coerced[known].to_numpy(dtype=object)
    changed = [old for old, new in zip(before, after, strict=True) if old != new]
    if changed:
        raise ValueError(
            f"table {table}: column {given.name!r} holds {changed[0]!r}, "
            f"which is no {COLUMNS[table][str(given.name)].rstrip('?')}"
        )
