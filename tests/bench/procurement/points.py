"""Operating points with stated numbers, for tests of what is made of them."""

from dataclasses import replace
from typing import Any

from bench.procurement.cell import Cell, NumberClass
from bench.procurement.operating_point import OperatingPoint


def cell(value: float | None, low: float | None = None, high: float | None = None) -> Cell:
    """A measured number; without limits it is taken as exact."""
    return Cell(value, low, high, NumberClass.MEASURED, "", "", why_unknown="not measured")


def point(**other: Any) -> OperatingPoint:
    """Batch 4, canvases of 256 at 1 s for the first and 0.5 s for the next: 1,000 tok/s, 0.6 J."""
    return replace(
        OperatingPoint(
            device="h200",
            label="diffusion fp8, batch 4",
            decoding="diffusion",
            precision="fp8",
            batch_size=4,
            prompt_tokens=1024,
            reply_tokens=1024,
            steps=16,
            kind=NumberClass.MEASURED,
            source="run",
            system_tok_per_s=cell(1000.0),
            first_canvas_s=cell(1.0),
            canvas_gap_s=cell(0.5),
            end_to_end_s=cell(2.5),
            power_w=cell(600.0),
            joules_per_token=cell(0.6),
            accuracy=cell(0.8),
            op_floor_tok_per_s=None,
            streaming_floor_tok_per_s=None,
            tokens_per_delivery=256,
            tokens_per_correct_answer=cell(500.0),
        ),
        **other,
    )
