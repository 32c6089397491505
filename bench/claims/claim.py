"""A published claim: a value, its definition, and the conditions it was measured under."""

import math
import re
from dataclasses import asdict, dataclass, field
from typing import Any

from bench.metrics import RATES
from bench.summary import CONTENT

RELATIONS = ("at_least", "equal", "between")
SPEEDS = ("decode_tok_per_s_median", *RATES)
TOKENS_PER_FORWARD = ("tokens_per_forward_denoise", "tokens_per_forward_all", "slots_per_forward")
STEPS = ("steps_per_canvas_median", "steps_per_canvas_p90")
FAMILIES = (SPEEDS, TOKENS_PER_FORWARD, STEPS, ("accuracy",))
"""Definitions that are mistaken for one another, a family each."""
DEFINITIONS = tuple(name for family in FAMILIES for name in family)
"""What a claim's figure may be: columns of `points`."""
DISCLOSED = (
    "engine and version",
    "driver",
    "torch",
    "weights",
    "prompts",
    "precision emulated",
    "commit fused with a step",
    "commit after the last canvas",
    "vocabulary scores in a commit",
    "sliding window in a step",
    "distinct experts a layer and step",
    "validity",
    "state of the machine",
)
"""Conditions that a verdict states and does not hang on."""
_CHOICES = {
    "decoding": ("diffusion", "autoregressive"),
    "precision": ("fp32", "bf16", "fp8"),
    "eos_policy": ("stop", "ignore"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What must be as published for a verdict; None where the source does not say.

    Attributes:
        model: a preset's name; a folder of the released weights begins with it.
        device: a name in `bench.devices`, a processor's own name, or simulated.
        workload: the prompts, where the figure is about these and no others.
        steps: "forced N", or "up to N" where a canvas may stop earlier; diffusion only.
        drafter: how tokens are drafted for verification, "none" without.

    Raises:
        ValueError: a value that is none of the choices.
    """

    decoding: str
    model: str | None = None
    device: str | None = None
    precision: str | None = None
    batch_size: int | None = None
    workload: str | None = None
    prompt_tokens: int | None = None
    max_new_tokens: int | None = None
    eos_policy: str | None = None
    steps: str | None = None
    drafter: str | None = None

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            value = getattr(self, name)
            if value is not None and value not in choices:
                raise ValueError(f"{name} {value!r} is unknown; valid: {', '.join(choices)}")
        for name in ("batch_size", "prompt_tokens", "max_new_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; must be >= 1")
        if self.steps is not None:
            if self.decoding != "diffusion":
                raise ValueError("steps belong to decoding diffusion, and to it alone")
            if not re.fullmatch(r"(forced|up to) [1-9]\d*", self.steps):
                raise ValueError(f"steps are {self.steps!r}; valid: forced N, up to N")

    @property
    def forced_steps(self) -> int | None:
        """Denoise steps of every canvas, None where they are not forced or not stated."""
        kind, _, count = (self.steps or "").rpartition(" ")
        return int(count) if kind == "forced" else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Over:
    """The denominator of a claim about a ratio: the same metric of another point.

    Attributes:
        published: the denominator's own published figure, where there is one.
    """

    decoding: str
    model: str | None = None
    drafter: str = "none"
    published: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a claim stands, and how its definition was learnt."""

    title: str
    date: str
    where: str = ""
    read: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A figure that a run can be judged by.

    Attributes:
        value: the published figure; for `between`, the lower end of the published range.
        upper: the range's other end.
        tolerance: share of the value by which it may be missed (`bench.claims.verdict`).
        metric: one of `DEFINITIONS`.
        over: what the metric is divided by, for a claim about a ratio.
        min_requests: fewer make the verdict INSUFFICIENT; prompts, for a metric of contents.
        disclosed: what the source says of conditions in `DISCLOSED`.
        open: what the source leaves unsaid.

    Raises:
        ValueError: a value out of range or none of the choices; it is named with what is valid.
    """

    name: str
    title: str
    value: float
    unit: str
    relation: str
    metric: str
    conditions: Conditions
    source: Source
    upper: float | None = None
    tolerance: float = 0.05
    over: Over | None = None
    min_requests: int = 10
    disclosed: dict[str, str] = field(default_factory=dict)
    open: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for key, choices in (("relation", RELATIONS), ("metric", DEFINITIONS)):
            if getattr(self, key) not in choices:
                raise ValueError(
                    f"{key} {getattr(self, key)!r} is unknown; valid: {', '.join(choices)}"
                )
        for key, valid, rule in (
            ("value", 0 < self.value < math.inf, "> 0 and finite"),
            ("tolerance", 0 <= self.tolerance < 1, ">= 0 and < 1"),
            ("min_requests", self.min_requests >= 1, ">= 1"),
        ):
            if not valid:
                raise ValueError(f"{key} is {getattr(self, key)}; must be {rule}")
        if (self.relation == "between") != (self.upper is not None):
            raise ValueError("upper belongs to relation between, and to it alone")
        if self.upper is not None and self.upper < self.value:
            raise ValueError(f"upper {self.upper} is below value {self.value}")
        unknown = sorted(set(self.disclosed) - set(DISCLOSED))
        if unknown:
            raise ValueError(
                f"disclosed: key {unknown[0]!r} is unknown; valid: {', '.join(DISCLOSED)}"
            )

    @property
    def depends_on_content(self) -> bool:
        """Whether random weights could not tell: what is counted, or how long it takes, is text's.

        Derived from the definition and the conditions, so no file can claim otherwise.
        """
        own = self.conditions
        drafters = [own.drafter, None if self.over is None else self.over.drafter]
        return (
            self.metric in CONTENT
            or own.eos_policy != "ignore"
            or (own.decoding == "diffusion" and own.forced_steps is None)
            or any(drafter and not _drafts_blindly(drafter) for drafter in drafters)
        )

    @property
    def kind(self) -> str:
        """What the figure hangs on, in words."""
        return "content-dependent" if self.depends_on_content else "fixed work"

    @property
    def is_speed(self) -> bool:
        """Whether the figure is a rate; a ratio of rates is none."""
        return self.metric in SPEEDS and self.over is None

    @property
    def family(self) -> tuple[str, ...]:
        """The definitions its figure may be mistaken for, its own among them."""
        return next(family for family in FAMILIES if self.metric in family)

    @property
    def published(self) -> str:
        """The figure as a reader knows it."""
        ends = [self.value] if self.upper is None else [self.value, self.upper]
        unit = "\N{MULTIPLICATION SIGN}" if self.over is not None else f" {self.unit}"
        return " to ".join(f"{end:,}" for end in ends) + unit

    def plain(self) -> dict[str, Any]:
        """For JSON: the fields, and what is derived from them."""
        return asdict(self) | {"published": self.published, "kind": self.kind}


def _drafts_blindly(drafter: str) -> bool:
    """Whether what a drafter has accepted is nobody's text: none at all, or a set share."""
    return drafter == "none" or "synthetic" in drafter
