"""Runs one batch of prompts against a session and keeps the time.

Timed: from handing token ids to the engine to the last text (token ids) in host memory, prefill
included. Not timed: tokenisation, detokenisation, checking, and everything between requests. A
forward's `device_ms` and `host_ms` are the times between two marks of `bench.timing`'s clocks, so
the stop check after a step counts towards the next one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from bench.backends import Delivery, Forward, RowBlock, Session, Trace
from bench.phases import DENOISING
from bench.records import CanvasRecord, RequestRecord, StepRecord
from bench.thought import visible
from bench.workloads import Prompt

TIMED = (
    "token ids handed to the engine until the last token ids in host memory, prefill included; "
    "tokenisation and detokenisation excluded; host clock"
)


@dataclass(slots=True)
class _Row:
    """What a row of the batch has gathered so far."""

    tokens: list[int] = field(default_factory=list)
    deliveries: list[tuple[float, int | None]] = field(default_factory=list)
    canvases: list[CanvasRecord] = field(default_factory=list)
    steps: list[StepRecord] = field(default_factory=list)
    finish_reason: str = "length"
    scores_finite: bool | None = None
    active: int = 0
    waiting: int = 0
    ended: int = 0


def run_batch(
    session: Session,
    prompts: Sequence[Prompt],
    *,
    process_id: int,
    repeat: int,
) -> list[RequestRecord]:
    """Answers a batch once; one record a prompt, in order."""
    token_ids = [prompt.ids(session.encode) for prompt in prompts]
    keys = [prompt.request_id for prompt in prompts]
    watch = session.stopwatch()
    watch.start()
    events = list(session.answer(token_ids, keys, mark=watch.mark))
    laps = watch.laps()
    timed = list(zip(laps.host_s, laps.device_s, events, strict=True))
    wall_s = laps.host_s[-1]
    rows = [_Row() for _ in prompts]
    prefill_s = _collect(timed, rows)
    return [
        _record(session, prompt, ids, row, wall_s, prefill_s, process_id, repeat, len(prompts))
        for prompt, ids, row in zip(prompts, token_ids, rows, strict=True)
    ]


def _collect(timed: list[tuple[float, float, Forward | Delivery]], rows: list[_Row]) -> float:
    """Sorts events into rows; returns the seconds the prefill took, on the device's clock."""
    previous, previous_device, prefill_s = 0.0, 0.0, 0.0
    forwards: list[StepRecord] = []
    for at, at_device, event in timed:
        if isinstance(event, Forward):
            forwards.append(
                StepRecord(
                    event.phase,
                    event.canvas_index,
                    event.step,
                    device_ms=(at_device - previous_device) * 1e3,
                    host_ms=(at - previous) * 1e3,
                )
            )
            if event.phase == "prefill":
                prefill_s = at_device
        else:
            _deliver(at, event, forwards, rows)
            forwards = []
        previous, previous_device = at, at_device
    return prefill_s


def _deliver(at: float, event: Delivery, forwards: list[StepRecord], rows: list[_Row]) -> None:
    num_denoise = sum(f.phase in DENOISING for f in forwards)
    for index, (row, block) in enumerate(zip(rows, event.rows, strict=True)):
        if num_denoise:
            row.canvases.append(_canvas(at, event, block, index))
        if event.top_score is not None:
            row.scores_finite = bool(np.isfinite(event.top_score[:, index]).all())
        if block.row_ended:
            row.ended += num_denoise
            continue
        row.tokens += block.tokens
        row.deliveries.append((at, len(block.tokens)))
        row.finish_reason = block.finish_reason or row.finish_reason
        if num_denoise:
            row.active += block.steps
            row.waiting += num_denoise - block.steps
        for forward in forwards:
            if forward.phase not in DENOISING or forward.step <= block.steps:
                row.steps.append(_with_trace(forward, event.trace, index))


def _with_trace(forward: StepRecord, trace: Trace | None, row: int) -> StepRecord:
    if trace is None or forward.phase not in DENOISING:
        return forward
    step = forward.step - 1
    return replace(
        forward,
        accepted_slots=int(trace.accepted_slots[step, row]),
        mean_entropy_nat=float(trace.mean_entropy_nat[step, row]),
    )


def _canvas(at: float, event: Delivery, block: RowBlock, row: int) -> CanvasRecord:
    def own(name: str) -> np.ndarray | None:
        values = getattr(event.trace, name, None)
        return None if values is None else values[: block.steps, row]

    return CanvasRecord(
        canvas_index=event.canvas_index,
        steps=block.steps,
        stop_reason=block.stop_reason or "ended",
        tokens=np.asarray(block.tokens),
        slots=np.asarray(block.slots),
        after_eos=block.after_eos,
        over_limit=block.over_limit,
        row_ended=block.row_ended,
        delivered_s=at,
        candidate=own("candidate"),
        accepted=own("accepted"),
        argmax=own("argmax"),
        entropy_nat=own("entropy_nat"),
    )


def _record(
    session: Session,
    prompt: Prompt,
    token_ids: list[int],
    row: _Row,
    wall_s: float,
    prefill_s: float,
    process_id: int,
    repeat: int,
    batch_size: int,
) -> RequestRecord:
    thought = session.identity.thought
    shown = visible(thought, row.tokens)
    text = session.decode(shown)
    return RequestRecord(
        request_id=prompt.request_id,
        process_id=process_id,
        repeat=repeat,
        task=prompt.task,
        prompt=prompt.text,
        answer=prompt.answer,
        text=text,
        prompt_tokens=len(token_ids),
        delivered_tokens=len(row.tokens),
        wall_s=wall_s,
        prefill_s=prefill_s,
        finish_reason=row.finish_reason,
        scores_finite=row.scores_finite,
        correct=prompt.is_correct(text),
        reasoning_tokens=None if thought is None else len(row.tokens) - len(shown),
        visible_tokens=None if thought is None else len(shown),
        well_formed=None if prompt.form is None else prompt.parses(text),
        deliveries=row.deliveries,
        batch_size=batch_size,
        canvases=row.canvases,
        steps=row.steps,
        active_row_steps=row.active,
        waiting_row_steps=row.waiting,
        ended_row_steps=row.ended,
    )
