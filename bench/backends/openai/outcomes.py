"""From a server's outcome to the harness's records: an answered request, or a failed one.

Tokens that were counted and whose ids nobody was shown are `UNSEEN`; nothing reads them.
"""

from functools import cache
from itertools import accumulate

import numpy as np

from bench.backends.openai.session import Outcome
from bench.records import CanvasRecord, FailedRequest, RequestRecord
from bench.workloads import Prompt

UNSEEN = -1
UNKNOWN_TOKENS = "tokens_unknown"
"""A complete answer whose tokens neither the server nor a tokenizer can count."""


def was_measured(outcome: Outcome) -> bool:
    """Whether it is an answer whose tokens are known; any other is a failed request."""
    return outcome.failure is None and outcome.count.delivered is not None


def failed_request(outcome: Outcome, prompt: Prompt, process_id: int, repeat: int) -> FailedRequest:
    """The record of a request without an answer that could be measured."""
    failure, count = outcome.failure, outcome.count
    if failure is not None:
        reason, detail = failure.reason, failure.detail
    else:
        said = "nothing" if count.reported is None else f"{count.reported}, {count.usage.value}"
        reason, detail = UNKNOWN_TOKENS, f"the server reported {said}; no tokenizer counts the text"
    return FailedRequest(
        request_id=prompt.request_id,
        process_id=process_id,
        repeat=repeat,
        task=prompt.task,
        prompt=prompt.text,
        sent_s=outcome.answer.sent_s,
        ended_s=outcome.ended_s,
        failure=reason,
        failure_detail=detail,
        text=outcome.answer.text,
    )


def answered_request(
    outcome: Outcome,
    prompt: Prompt,
    process_id: int,
    repeat: int,
    *,
    prompt_tokens: int,
    canvas_length: int | None,
) -> RequestRecord:
    """The record of an answer.

    Args:
        prompt_tokens: by the client's tokenizer, where the server reports none.
    """
    answer, delivered = outcome.answer, outcome.count.delivered
    assert delivered is not None
    assert outcome.finish_reason is not None
    usage, text = answer.usage, answer.text
    reported = None if usage is None else usage.prompt_tokens
    canvases, unknown = _canvases(outcome, canvas_length)
    deliveries = _deliveries(outcome, canvases)
    return RequestRecord(
        request_id=prompt.request_id,
        process_id=process_id,
        repeat=repeat,
        task=prompt.task,
        prompt=prompt.text,
        answer=prompt.answer,
        text=text,
        prompt_tokens=prompt_tokens if reported is None else reported,
        delivered_tokens=delivered,
        wall_s=deliveries[-1][0],
        prefill_s=None,
        finish_reason=outcome.finish_reason,
        correct=prompt.is_correct(text),
        deliveries=deliveries,
        sent_s=answer.sent_s,
        canvases_unknown=unknown,
        well_formed=None if prompt.form is None else prompt.parses(text),
        canvases=canvases,
    )


def _canvases(outcome: Outcome, canvas_length: int | None) -> tuple[list[CanvasRecord], str | None]:
    """An answer's canvases, or why it cannot be cut into them.

    A canvas's slots without a token that was shown lie after the EOS where one ended the answer,
    and over the limit otherwise.
    """
    if canvas_length is None:
        return [], None
    ledger, count = outcome.ledger, outcome.count
    assert ledger is not None
    if ledger.canvases is None:
        return [], ledger.reason
    total = (count.delivered or 0) + count.over_limit
    shown = [canvas.tokens for canvas in ledger.canvases]
    # What the server counted and did not show came at the end.
    shown[-1:] = [total - sum(shown[:-1])] if shown else []
    if not shown or not 0 <= shown[-1] <= canvas_length:
        return [], "tokens_do_not_fit_the_canvases"
    ended = outcome.finish_reason == "eos"
    records = []
    for index, (tokens, room) in enumerate(_within(shown, count.delivered or 0)):
        rest = canvas_length - tokens
        records.append(
            CanvasRecord(
                canvas_index=index,
                steps=None,
                stop_reason="unknown",
                tokens=_unseen(room),
                slots=_unseen(canvas_length),
                after_eos=rest if ended else 0,
                over_limit=tokens - room + (0 if ended else rest),
                row_ended=0,
                delivered_s=ledger.canvases[index].at_s,
            )
        )
    return records, None


def _deliveries(outcome: Outcome, canvases: list[CanvasRecord]) -> list[tuple[float, int | None]]:
    """Canvases where they can be told, else what each chunk brought; they sum to the delivered."""
    if canvases:
        return [(canvas.delivered_s, len(canvas.tokens)) for canvas in canvases]
    count, answer = outcome.count, outcome.answer
    delivered = count.delivered or 0
    if not count.deliveries:  # an end and no text
        return [(answer.chunks[-1].at_s if answer.chunks else answer.ended_s, delivered)]
    times = [each.at_s for each in count.deliveries]
    tokens = [each.tokens for each in count.deliveries]
    known = [each for each in tokens if each is not None]
    if len(known) < len(tokens):
        return [(at_s, None) for at_s in times]
    within = [room for _, room in _within(known, delivered)]
    within[-1] += delivered - sum(within)
    return list(zip(times, within, strict=True))


def _within(tokens: list[int], limit: int) -> list[tuple[int, int]]:
    """Each count, and as much of it as lies within the first `limit` tokens."""
    before = [0, *accumulate(tokens)]
    return [
        (count, max(0, min(count, limit - begin)))
        for count, begin in zip(tokens, before, strict=False)
    ]


@cache
def _unseen(count: int) -> np.ndarray:
    """So many unknown ids in the memory of one, and once for all: a long load keeps many."""
    return np.broadcast_to(np.int64(UNSEEN), (count,))
