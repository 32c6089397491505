"""Third-party measurements, each with its source: a dataset of its own, never mixed with ours."""

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

import yaml

from bench.procurement.cell import Cell, NumberClass

Tag = Literal["V", "S", "D"]
UNDRAFTED = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedFigure:
    """One published number as its source states it; what the source does not say is None.

    Attributes:
        device: a name in `bench.devices`, None for hardware that is not listed there.
        device_label: as written.
        precision: bf16, fp8, nvfp4, int4, ... as written.
        drafter: how tokens are drafted for verification, "none" without.
        batch_size: requests at once.
        definition: what was counted, in one phrase.
        metric: the name in `bench.metrics` of the same definition, None where it is another one or
            not stated.
        steps: denoise steps a canvas; is_forced: every canvas took as many.
        autoregressive: the sibling's figure, same source and definition.
        tag: V read in the primary artefact, S a secondary page, D derived from V by arithmetic.
        source: where it stands.
    """

    id: str
    device_label: str
    engine: str
    decoding: str
    workload: str
    definition: str
    value: float
    unit: str
    tag: Tag
    source: str
    device: str | None = None
    num_devices: int = 1
    precision: str | None = None
    drafter: str = UNDRAFTED
    prompt_tokens: int | None = None
    reply_tokens: int | None = None
    batch_size: int | None = None
    metric: str | None = None
    steps: float | None = None
    is_forced: bool = False
    autoregressive: float | None = None
    note: str = ""

    @property
    def cell(self) -> Cell:
        """The number with its class, definition and source."""
        published = NumberClass.PUBLISHED
        return Cell(self.value, None, None, published, self.unit, self.definition, self.source)


@cache
def published_figures() -> tuple[PublishedFigure, ...]:
    """Every figure that ships, in the file's order."""
    text = (files("bench.procurement") / "published.yaml").read_text(encoding="utf-8")
    document = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    sources: dict[str, str] = document["sources"]
    return tuple(
        PublishedFigure(**(row | {"source": sources[row["source"]]})) for row in document["figures"]
    )
