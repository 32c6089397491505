"""From what a repeat measured to its checked tables, and what has to be known beside them."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from typing import Any, TypeVar

import pandas as pd

from bench import rows
from bench.backends import AnySession, Backend, LoadSession
from bench.backends.openai import TIMED as SERVED_TIMED
from bench.backends.simulated import SimulatedSession
from bench.records import RequestRecord
from bench.requests import TIMED
from bench.runner import PointRun, Repeat
from bench.schema import RunConfig
from bench.tables import frame
from bench.telemetry import Sample, sample_rows, window_row
from bench.thought import visible

_Record = TypeVar("_Record")
_PART = 500
"""Requests a part of the tables."""


def repeat_parts(run: PointRun, found: Repeat, host: str) -> Iterator[dict[str, pd.DataFrame]]:
    """The tables of one repeat in parts, of so many requests each that a long load's fit in memory.

    Positions come from the first repeat of the first process.

    Args:
        host: the machine it ran on (`bench.provenance.host`).
    """
    judge = _judge(run)
    keys = {"config_hash": run.point.config_hash, "point_id": run.point.point_id, "host": host}

    def frames(**named: list[rows.Row]) -> dict[str, pd.DataFrame]:
        return {name: frame(name, table, keys) for name, table in named.items() if table}

    traced: list[RequestRecord] = []
    for part in _parts(found.requests):
        traced += [r for r in part if (r.repeat, r.process_id) == (0, 0) and _is_traced(r)]
        yield frames(
            requests=[rows.request_row(request, judge) for request in part],
            canvases=[row for request in part for row in rows.canvas_rows(request)],
            steps=[row for request in part for row in rows.step_rows(request)],
        )
    for failed in _parts(found.failed):
        yield frames(failed_requests=[asdict(each) for each in failed])
    yield frames(
        positions=rows.position_rows(traced, judge, whole=run.point.config.trace.name == "full"),
        repairs=[asdict(repair) for repair in found.repairs],
        experts=[asdict(record) for record in found.experts],
        loads=[] if found.load is None else [asdict(found.load)],
        reconciled=[asdict(figure) for figure in found.reconciled],
    )


def repeat_tables(run: PointRun, found: Repeat, host: str) -> dict[str, pd.DataFrame]:
    """The tables of one repeat, whole."""
    parts: dict[str, list[pd.DataFrame]] = {}
    for part in repeat_parts(run, found, host):
        for name, table in part.items():
            parts.setdefault(name, []).append(table)
    return {name: pd.concat(tables, ignore_index=True) for name, tables in parts.items()}


def _parts(records: Iterable[_Record]) -> Iterator[list[_Record]]:
    left = iter(records)
    while part := list(islice(left, _PART)):
        yield part


def _is_traced(request: RequestRecord) -> bool:
    return any(canvas.argmax is not None for canvas in request.canvases)


def telemetry_tables(
    run: PointRun,
    repeat: int,
    window_s: tuple[float, float],
    samples: Sequence[Sample],
    host: str,
    peaks: Mapping[str, int | None] | None = None,
) -> dict[str, pd.DataFrame]:
    """What the machine did during a repeat: every sample, and the timed window's summary.

    Args:
        peaks: the columns of `windows` that tell the most memory the process has held so far.
    """
    place = {"process_id": run.process_id, "repeat": repeat}
    gpu = run.point.config.device.startswith("cuda")
    if isinstance(run.session, SimulatedSession):
        observed = run.session.observed(samples, window_s)
        samples, window_s, gpu = observed.samples, observed.window_s, observed.gpu
    begin_s, end_s = window_s
    found = {
        "telemetry": sample_rows(samples, origin_s=begin_s, **place),
        "windows": [place | window_row(samples, begin_s, end_s, gpu=gpu) | dict(peaks or {})],
    }
    keys = {
        "config_hash": run.point.config_hash,
        "point_id": run.point.point_id,
        "host": host,
    }
    return {name: frame(name, rows, keys) for name, rows in found.items() if rows}


def point_note(run: PointRun) -> dict[str, Any]:
    """What a shard says about its point: the columns of `points` that no table can tell."""
    session = run.session
    weights = None
    if not isinstance(session, LoadSession):
        none, one = session.weight_bytes(0), session.weight_bytes(1)
        weights = {"fixed": none, "per_expert": one - none}
    return {"point_id": run.point.point_id, "knobs": _knobs(run), "weight_bytes": weights}


def _judge(run: PointRun) -> rows.Judge:
    by_id = {prompt.request_id: prompt for prompt in run.workload.prompts}
    has_answers = any(prompt.check is not None for prompt in run.workload.prompts)
    session, thought = run.session, run.session.identity.thought
    return rows.Judge(
        decode=lambda tokens: session.decode(visible(thought, tokens)),
        token_text=session.vocabulary,
        eos_token_ids=frozenset(session.identity.eos_token_ids),
        check=(lambda i, text: bool(by_id[i].is_correct(text))) if has_answers else None,
        parses=lambda i, text: by_id[i].parses(text),
    )


def _knobs(run: PointRun) -> rows.Row:
    """What the point was configured with and what really ran."""
    config, session = run.point.config, run.session
    identity = session.identity
    ours = config.backend.name in (Backend.native, Backend.simulated)
    served = isinstance(session, LoadSession)
    return {
        "decoding": identity.decoding,
        "precision": config.precision.name,
        "emulated": identity.emulated,
        "kernels": config.kernels.name if ours else None,
        "execution": config.execution.name if ours else None,
        "commit_mode": _commit_mode(config, session),
        "vocabulary": None if served else config.vocabulary.name,
        "backend": config.backend.name.name,
        "model": identity.model,
        "weights": identity.weights,
        "weights_sha256": identity.weights_sha256,
        "device": identity.device,
        "workload": config.workload.tasks,
        "prompts_sha256": run.workload.sha256,
        "template_sha256": identity.template_sha256,
        "eos_policy": config.workload.eos_policy.name,
        "max_new_tokens": config.workload.max_new_tokens,
        "measure": config.measure.name.name,
        "trace": config.trace.name,
        "batch_size": config.batch_size,
        "seed": config.seed,
        "canvas_length": identity.canvas_length,
        "capabilities": json.dumps(session.capabilities.plain(), sort_keys=True),
        "max_denoising_steps": getattr(config.sampler, "max_denoising_steps", None),
        "early_stop": getattr(config.sampler, "early_stop", None),
        "min_belief": None if served else getattr(config.sampler, "min_belief", None),
    } | _timed(session)


def _commit_mode(config: RunConfig, session: AnySession) -> str | None:
    """How canvases are committed; None without canvases, and of a server, which does not tell."""
    if isinstance(session, LoadSession) or session.identity.decoding != "diffusion":
        return None
    return config.commit.name


def _timed(session: AnySession) -> rows.Row:
    """What the clock covers, and what a server's row says besides."""
    if isinstance(session, LoadSession):
        return {"timed": SERVED_TIMED, "clock": "host"} | session.note()
    return {"timed": TIMED, "clock": session.stopwatch().clock}
