"""From what a repeat measured to its checked tables, and what has to be known beside them."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd

from bench import rows
from bench.backends import AnySession, Backend, LoadSession
from bench.backends.openai import TIMED as SERVED_TIMED
from bench.backends.simulated import SimulatedSession
from bench.requests import TIMED
from bench.runner import PointRun, Repeat
from bench.tables import frame
from bench.telemetry import Sample, sample_rows, window_row
from bench.thought import visible


def repeat_tables(run: PointRun, found: Repeat, host: str) -> dict[str, pd.DataFrame]:
    """The tables of one repeat; positions come from the first repeat of the first process.

    Args:
        host: the machine it ran on (`bench.provenance.host`).
    """
    judge, requests = _judge(run), found.requests
    first = [r for r in requests if r.repeat == 0 and r.process_id == 0]
    named: dict[str, list[rows.Row]] = {
        "requests": [rows.request_row(request, judge) for request in requests],
        "canvases": [row for request in requests for row in rows.canvas_rows(request)],
        "steps": [row for request in requests for row in rows.step_rows(request)],
        "positions": rows.position_rows(first, judge, whole=run.point.config.trace.name == "full"),
        "repairs": [asdict(repair) for repair in found.repairs],
        "experts": [asdict(record) for record in found.experts],
        "failed_requests": [asdict(failed) for failed in found.failed],
        "loads": [] if found.load is None else [asdict(found.load)],
        "reconciled": [asdict(figure) for figure in found.reconciled],
    }
    keys = {
        "config_hash": run.point.config_hash,
        "point_id": run.point.point_id,
        "host": host,
    }
    return {name: frame(name, table, keys) for name, table in named.items() if table}


def telemetry_tables(
    run: PointRun,
    repeat: int,
    window_s: tuple[float, float],
    samples: Sequence[Sample],
    host: str,
) -> dict[str, pd.DataFrame]:
    """What the machine did during a repeat: every sample, and the timed window's summary."""
    place = {"process_id": run.process_id, "repeat": repeat}
    gpu = run.point.config.device.startswith("cuda")
    if isinstance(run.session, SimulatedSession):
        observed = run.session.observed(samples, window_s)
        samples, window_s, gpu = observed.samples, observed.window_s, observed.gpu
    begin_s, end_s = window_s
    found = {
        "telemetry": sample_rows(samples, origin_s=begin_s, **place),
        "windows": [place | window_row(samples, begin_s, end_s, gpu=gpu)],
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
    return {
        "decoding": identity.decoding,
        "precision": config.precision.name,
        "emulated": identity.emulated,
        "kernels": config.kernels.name if ours else None,
        "execution": config.execution.name if ours else None,
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
    } | _timed(session)


def _timed(session: AnySession) -> rows.Row:
    """What the clock covers, and what a server's row says besides."""
    if isinstance(session, LoadSession):
        return {"timed": SERVED_TIMED, "clock": "host"} | session.note()
    return {"timed": TIMED, "clock": session.stopwatch().clock}
