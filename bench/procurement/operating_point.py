"""One way to run a device: a sibling, a precision, a batch; measured or projected alike."""

from dataclasses import dataclass

from bench.procurement.cell import Cell, NumberClass


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """What one device does when it is run in one way.

    Attributes:
        device: a name in `bench.devices`, or a run's own device name where that is not listed.
        decoding: diffusion | autoregressive.
        prompt_tokens, reply_tokens: of each request.
        steps: denoise steps a canvas; None when autoregressive.
        kind: measured or projected; its cells' own classes never are stronger.
        source: the run's folder, or what the projection rests on.
        system_tok_per_s: delivered tokens of the whole batch a second, prefill included.
        first_canvas_s, canvas_gap_s, end_to_end_s: of one request in the batch.
        power_w: mean over the timed window; joules_per_token: of delivered tokens.
        accuracy: unknown with random weights and in a projection.
        op_floor_tok_per_s, streaming_floor_tok_per_s: what the batch could deliver at most.
        notes: how far the figures reach.
        model: the preset or checkpoint; empty where unknown.
        tokens_per_delivery: of a full delivery: a canvas, or one token.
        first_canvas_p95_s, canvas_gap_p95_s: None where the spread over requests is unknown; the
            means then stand for them.
        tokens_per_correct_answer: delivered tokens of all answers over the right ones; None where
            that is unknown.
        definition: which rate `system_tok_per_s` is.
        work: what was asked of it, in words that are equal for equal work; empty unknown.
    """

    device: str
    label: str
    decoding: str
    precision: str
    batch_size: int
    prompt_tokens: int
    reply_tokens: int
    steps: float | None
    kind: NumberClass
    source: str
    system_tok_per_s: Cell
    first_canvas_s: Cell
    canvas_gap_s: Cell
    end_to_end_s: Cell
    power_w: Cell
    joules_per_token: Cell
    accuracy: Cell
    op_floor_tok_per_s: float | None
    streaming_floor_tok_per_s: float | None
    notes: tuple[str, ...] = ()
    model: str = ""
    tokens_per_delivery: float = 1.0
    first_canvas_p95_s: Cell | None = None
    canvas_gap_p95_s: Cell | None = None
    tokens_per_correct_answer: Cell | None = None
    definition: str = "delivered_tok_per_s"
    work: str = ""
