"""Drives a simulated session through the harness: batches, records, tables, the point's row."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from bench import rows
from bench.backends.simulated import Recording, SimulatedSession
from bench.experts import run_routing
from bench.records import RequestRecord
from bench.repair import run_repairs
from bench.requests import run_batch
from bench.summary import point_row
from bench.tables import COLUMNS, SCHEMA_VERSION, frame
from bench.workloads import Prompt

POINT = "simulated"
_KEYS = {"config_hash": "abcdefabcdef", "point_id": POINT, "host": "here"}

Tables = dict[str, pd.DataFrame]


def prompts_of(recording: Recording) -> list[Prompt]:
    return [
        Prompt(r.request_id, r.task, r.prompt, r.answer, r.answer.__eq__)
        for r in recording.requests
    ]


def answers(
    session: SimulatedSession,
    prompts: Sequence[Prompt],
    *,
    batch_size: int = 1,
    repeats: int = 1,
    process_id: int = 0,
) -> list[RequestRecord]:
    """Every prompt in every repeat, timed on the session's clock."""
    return [
        record
        for repeat in range(repeats)
        for begin in range(0, len(prompts), batch_size)
        for record in run_batch(
            session,
            prompts[begin : begin + batch_size],
            process_id=process_id,
            repeat=repeat,
        )
    ]


def tables_of(
    session: SimulatedSession,
    prompts: Sequence[Prompt],
    records: Sequence[RequestRecord],
    *,
    batch_size: int = 1,
) -> Tables:
    """The point's tables, repairs and experts included."""
    by_id = {prompt.request_id: prompt for prompt in prompts}
    judge = rows.Judge(
        decode=session.decode,
        token_text=session.vocabulary,
        eos_token_ids=frozenset(session.identity.eos_token_ids),
        check=lambda i, text: bool(by_id[i].is_correct(text)),
        parses=lambda i, text: by_id[i].parses(text),
    )
    first = [record for record in records if record.repeat == 0]
    repairs = []
    if session.identity.canvas_length is not None:
        repairs = list(run_repairs(session, prompts, first, max_repairs=9, seed=0))
    routing = run_routing(session, prompts, num_prompts=2, batch_size=batch_size)
    found = {
        "requests": [rows.request_row(record, judge) for record in records],
        "canvases": [row for record in records for row in rows.canvas_rows(record)],
        "steps": [row for record in records for row in rows.step_rows(record)],
        "positions": rows.position_rows(first, judge),
        "repairs": [asdict(repair) for repair in repairs],
        "experts": [asdict(experts) for experts in routing],
        "windows": [],
        "failed_requests": [],
        "loads": [],
    }
    return {name: frame(name, table, _keys(name)) for name, table in found.items()}


def point_of(session: SimulatedSession, tables: Tables, **more: Any) -> dict[str, Any]:
    knobs = {
        "decoding": session.identity.decoding,
        "canvas_length": session.identity.canvas_length,
        "eos_policy": session.knobs.eos_policy,
        "max_denoising_steps": session.knobs.max_denoising_steps,
        "early_stop": session.knobs.early_stop,
    }
    return point_row(tables, knobs | more)


def measured(
    session: SimulatedSession, recording: Recording, *, batch_size: int = 1, repeats: int = 1
) -> tuple[Tables, dict[str, Any]]:
    """Tables and point of a whole pass over a recording's prompts."""
    prompts = prompts_of(recording)
    records = answers(session, prompts, batch_size=batch_size, repeats=repeats)
    tables = tables_of(session, prompts, records, batch_size=batch_size)
    return tables, point_of(session, tables)


def write_run(folder: Path, session: SimulatedSession, tables: Tables, **known: Any) -> Path:
    """A run folder with the tables of one point."""
    identity = session.identity
    row: dict[str, Any] = dict.fromkeys(COLUMNS["points"])
    row |= {name: "-" for name, kind in COLUMNS["points"].items() if kind == "str"}
    row |= {name: 1 for name, kind in COLUMNS["points"].items() if kind == "int"}
    row |= point_of(session, tables) | {
        "emulated": False,
        "model": identity.model,
        "eos_policy": session.knobs.eos_policy,
        "max_new_tokens": session.knobs.max_new_tokens,
        "trace": session.knobs.trace,
        "schema_version": SCHEMA_VERSION,
    }
    points = pd.DataFrame([row | _keys("points") | known])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(json.dumps({"schema_version": SCHEMA_VERSION}))
    for name, table in (tables | {"points": points}).items():
        if len(table):
            table.to_parquet(folder / f"{name}.parquet", index=False)
    return folder


def _keys(table: str) -> dict[str, str]:
    return {name: value for name, value in _KEYS.items() if name in COLUMNS[table]}
