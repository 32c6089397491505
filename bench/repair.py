"""The repair test: corrupt a right canvas, resume denoising, see what comes back.

A quarter of the content tokens (at least one, the EOS never) is replaced by other random tokens and
the canvas is denoised again from there. Comparable across models whose own canvases are seldom
wrong.
"""

import random
from collections.abc import Iterator, Sequence

from bench.backends import Delivery, Session
from bench.records import RepairRecord, RequestRecord
from bench.workloads import Prompt

_CORRUPTED_SHARE = 0.25


def run_repairs(
    session: Session,
    prompts: Sequence[Prompt],
    answered: Sequence[RequestRecord],
    *,
    max_repairs: int,
    seed: int,
) -> Iterator[RepairRecord]:
    """Repairs the first canvas of the first `max_repairs` requests that were answered rightly."""
    by_id = {prompt.request_id: prompt for prompt in prompts}
    right = [r for r in answered if r.correct and len(r.canvases[0].tokens) > 1]
    for request in right[:max_repairs]:
        yield _repair(session, by_id[request.request_id], request, seed)


def _repair(session: Session, prompt: Prompt, request: RequestRecord, seed: int) -> RepairRecord:
    original = request.canvases[0]
    num_content = len(original.tokens)
    eos = set(session.identity.eos_token_ids)
    positions = [i for i in range(num_content) if int(original.slots[i]) not in eos]
    rng = random.Random(f"{seed}/{request.request_id}")
    chosen = rng.sample(positions, max(1, int(len(positions) * _CORRUPTED_SHARE)))
    canvas = original.slots.tolist()
    vocab_size = session.identity.vocab_size
    for position in chosen:
        canvas[position] = rng.choice([t for t in range(vocab_size) if t != canvas[position]])
    events = session.answer(
        [prompt.ids(session.encode)],
        [request.request_id],
        first_canvas=[canvas],
        max_new_tokens=len(canvas),
    )
    delivery = next(event for event in events if isinstance(event, Delivery))
    final = delivery.rows[0].slots
    same = {i for i in range(num_content) if final[i] == original.slots[i]}
    untouched = num_content - len(chosen)
    repaired = len(same & set(chosen))
    return RepairRecord(
        request_id=request.request_id,
        task=request.task,
        corrupted=len(chosen),
        repaired=repaired,
        untouched=untouched,
        preserved=len(same) - repaired,
        steps=delivery.rows[0].steps,
        correct=len(same) == num_content,
    )
