"""Which experts a step touches: a few prompts answered again, untimed, with the routers watched.

The number of distinct experts sets the bytes a step reads; random or degenerate text touches other
numbers than real text, so it stands beside every speed.
"""

from collections.abc import Iterator, Sequence

from bench.backends import Session
from bench.records import ExpertRecord
from bench.workloads import Prompt


def run_routing(
    session: Session, prompts: Sequence[Prompt], *, num_prompts: int, batch_size: int
) -> Iterator[ExpertRecord]:
    """Answers the first `num_prompts` prompts in batches; one record a forward and layer."""
    chosen = prompts[:num_prompts]
    for begin in range(0, len(chosen), batch_size):
        batch = chosen[begin : begin + batch_size]
        token_ids = [prompt.ids(session.encode) for prompt in batch]
        keys = [prompt.request_id for prompt in batch]
        for forward, distinct in session.touched_experts(token_ids, keys):
            for layer, count in enumerate(distinct):
                yield ExpertRecord(
                    batch_index=begin // batch_size,
                    phase=forward.phase,
                    canvas_index=forward.canvas_index,
                    step=forward.step,
                    layer=layer,
                    distinct_experts=count,
                )
