"""From records to table rows: counting what each canvas and each answer did.

Content metrics need the trace level `positions`; without it their columns are null.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench.metrics import answer_outcome, canvas_revision, step_counts
from bench.phases import DENOISING
from bench.records import CanvasRecord, RequestRecord, StepRecord

_SAMPLES_A_TASK = 2

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Judge:
    """What turns tokens into text and text into a verdict.

    Attributes:
        decode: what a reader sees of the tokens.
        check, parses: take a request id and a text; None where the workload has no checker.
    """

    decode: Callable[[Sequence[int]], str]
    token_text: Callable[[int], str]
    eos_token_ids: frozenset[int]
    check: Callable[[int, str], bool] | None
    parses: Callable[[int, str], bool]


def request_row(request: RequestRecord, judge: Judge) -> Row:
    """A request's row; its self-correction columns come from its first repeat's trace."""
    own = [c for c in request.canvases if not c.row_ended]
    row: Row = {
        name: getattr(request, name)
        for name in (
            "request_id",
            "process_id",
            "repeat",
            "task",
            "prompt",
            "answer",
            "text",
            "prompt_tokens",
            "delivered_tokens",
            "wall_s",
            "prefill_s",
            "sent_s",
            "canvases_unknown",
            "finish_reason",
            "reasoning_tokens",
            "visible_tokens",
            "well_formed",
            "scores_finite",
            "correct",
            "batch_size",
            "active_row_steps",
            "waiting_row_steps",
            "ended_row_steps",
        )
    }
    row |= {
        "first_delivery_tokens": request.deliveries[0][1],
        "first_canvas_s": request.deliveries[0][0],
        "last_delivery_s": request.deliveries[-1][0],
        "row_ended_slots": sum(c.row_ended for c in request.canvases),
    }
    if request.canvases_unknown is None:
        row |= {
            "num_canvases": len(request.canvases),
            "slots_committed": sum(len(c.slots) for c in request.canvases)
            or request.delivered_tokens,
            "after_eos_slots": sum(c.after_eos for c in request.canvases),
            "over_limit_slots": sum(c.over_limit for c in request.canvases),
        }
    if request.repeat == 0 and own and request.correct is not None and judge.check is not None:
        row |= _correction(request, own, judge)
    return row


def _correction(request: RequestRecord, own: list[CanvasRecord], judge: Judge) -> Row:
    last, check = own[-1], judge.check
    if last.argmax is None or last.accepted is None or check is None:
        return {}
    before = [int(token) for canvas in own[:-1] for token in canvas.tokens]
    outcome = answer_outcome(
        before,
        last.accepted,
        last.argmax,
        num_content(last),
        eos_token_ids=judge.eos_token_ids,
        decode=judge.decode,
        check=lambda text: check(request.request_id, text),
        parses=lambda text: judge.parses(request.request_id, text),
    )
    row: Row = {f"correct_{name}": value for name, value in outcome.correct_at.items()}
    row |= {f"unchanged_{name}": value for name, value in outcome.unchanged_from.items()}
    return row | {"correct_ever": outcome.ever_correct}


def num_content(canvas: CanvasRecord) -> int:
    """Content positions: up to and including the first EOS, whatever the limit cut off."""
    return len(canvas.slots) - canvas.after_eos


def canvas_rows(request: RequestRecord) -> list[Row]:
    """One row for every canvas the request was active in."""
    rows = []
    previous_s = None
    for canvas in request.canvases:
        if canvas.row_ended:
            continue
        row: Row = _keys(request) | {
            "canvas_index": canvas.canvas_index,
            "steps": canvas.steps,
            "stop_reason": canvas.stop_reason,
            "content_tokens": num_content(canvas),
            "canvas_fill": num_content(canvas) / len(canvas.slots),
            "gap_s": None if previous_s is None else canvas.delivered_s - previous_s,
        }
        if canvas.accepted is not None and canvas.argmax is not None:
            content = slice(num_content(canvas))
            revision = canvas_revision(canvas.accepted[:, content], canvas.argmax[:, content])
            row |= asdict(revision)
        rows.append(row)
        previous_s = canvas.delivered_s
    return rows


def step_rows(request: RequestRecord) -> list[Row]:
    """One row for every forward the request took part in."""
    counts: dict[tuple[int, int], dict[str, int]] = {}
    for canvas in request.canvases:
        if canvas.accepted is None or canvas.argmax is None or canvas.row_ended:
            continue
        content = slice(num_content(canvas))
        for index, found in enumerate(
            step_counts(canvas.accepted[:, content], canvas.argmax[:, content])
        ):
            counts[canvas.canvas_index, index + 1] = found
    return [_step_row(request, step, counts) for step in request.steps]


def _step_row(
    request: RequestRecord, step: StepRecord, counts: dict[tuple[int, int], dict[str, int]]
) -> Row:
    row = _keys(request) | asdict(step)
    if step.phase in DENOISING:
        row |= counts.get((step.canvas_index, step.step), {})
    return row


def position_rows(
    requests: Sequence[RequestRecord], judge: Judge, *, whole: bool = False
) -> list[Row]:
    """Sample canvases of the first repeat by position: the longest denoised of each task.

    Args:
        whole: all canvases of their requests, so that answers can be replayed from the beginning.
    """
    traced = [
        (request, canvas)
        for request in requests
        if request.repeat == 0
        for canvas in request.canvases
        if canvas.argmax is not None and not canvas.row_ended
    ]
    traced.sort(key=lambda pair: (-(pair[1].steps or 0), pair[0].request_id, pair[1].canvas_index))
    taken: dict[str, list[tuple[int, int]]] = {}
    for request, canvas in traced:
        own = taken.setdefault(request.task, [])
        if len(own) < _SAMPLES_A_TASK:
            own.append((request.request_id, canvas.canvas_index))
    sampled = {place for own in taken.values() for place in own}
    requests_sampled = {request_id for request_id, _ in sampled}
    return [
        row
        for request, canvas in traced
        if (request.request_id, canvas.canvas_index) in sampled
        or (whole and request.request_id in requests_sampled)
        for row in _canvas_positions(request, canvas, judge)
    ]


def _canvas_positions(request: RequestRecord, canvas: CanvasRecord, judge: Judge) -> list[Row]:
    assert canvas.argmax is not None
    assert canvas.accepted is not None
    assert canvas.candidate is not None
    assert canvas.entropy_nat is not None
    content = num_content(canvas)
    return [
        {
            "request_id": request.request_id,
            "task": request.task,
            "canvas_index": canvas.canvas_index,
            "step": step + 1,
            "position": position,
            "candidate": int(canvas.candidate[step, position]),
            "accepted": bool(canvas.accepted[step, position]),
            "argmax": int(token),
            "argmax_text": judge.token_text(int(token)),
            "entropy_nat": float(canvas.entropy_nat[step, position]),
            "content": position < content,
        }
        for step, row in enumerate(canvas.argmax)
        for position, token in enumerate(row)
    ]


def _keys(request: RequestRecord) -> Row:
    return {
        "request_id": request.request_id,
        "process_id": request.process_id,
        "repeat": request.repeat,
        "task": request.task,
    }
