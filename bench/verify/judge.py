"""Checks: what was compared, the figures, and whether they are within what precision allows.

In fp32 both engines do the same arithmetic and everything must agree. In bf16 they round at the
same places but sum in other orders; in fp8 ours besides quantises activations, which upstream,
given dequantised weights, does not. A single token that differs then sends the rest of a canvas
another way, so only its first step, whose inputs are the same, is judged; the rest is told.

Rounded logits tie, so a best token counts as the same where theirs scores it almost as high as
their own. The limits for bf16 and fp8 were set with room on the trained tiny pair (errors of 0.006
and 0.02 there); nobody has run them on the released weights.
"""

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor

from bench.verify.observed import Observed


class Status(StrEnum):
    """`not run` for want of a package or because an earlier check failed; `n/a` never applies."""

    PASS = "PASS"
    FAIL = "FAIL"
    NOT_RUN = "not run"
    NOT_APPLICABLE = "n/a"


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the verdict."""

    name: str
    status: Status
    detail: str

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Limits:
    """How far the engines may differ.

    Attributes:
        error: of logits, the median over positions of |ours - theirs| / |theirs| (lengths).
        slack: how far below their best logit theirs may score our best token.
        same_best_pct: positions of which that must hold.
        first_step_pct: positions whose best token and acceptance must be equal in a trajectory's
            first step; None: in all its steps.
    """

    error: float
    slack: float
    same_best_pct: float
    first_step_pct: float | None


LIMITS = {
    "fp32": Limits(error=1e-4, slack=1e-3, same_best_pct=100.0, first_step_pct=None),
    "bf16": Limits(error=0.05, slack=0.25, same_best_pct=95.0, first_step_pct=80.0),
    "fp8": Limits(error=0.15, slack=1.0, same_best_pct=95.0, first_step_pct=60.0),
}


def judged(name: str, passed: bool, detail: str) -> Check:
    return Check(name, Status.PASS if passed else Status.FAIL, detail)


def judge_logits(ours: Observed, theirs: Observed, limits: Limits) -> Check:
    """The first denoise step's, or the prompt's."""
    length = theirs.logits_LV.norm(dim=-1)
    error = float(((ours.logits_LV - theirs.logits_LV).norm(dim=-1) / length).median())
    scores_LV = theirs.logits_LV
    of_ours = scores_LV.gather(-1, ours.logits_LV.argmax(-1, keepdim=True))[:, 0]
    same = _percent(of_ours >= scores_LV.amax(-1) - limits.slack)
    return judged(
        "first-step logits",
        bool(torch.isfinite(ours.logits_LV).all())
        and error <= limits.error
        and same >= limits.same_best_pct,
        f"relative error {error:.2e} (at most {limits.error:g}), "
        f"best token within {limits.slack:g} of theirs at {same:.1f} % of positions (at least "
        f"{limits.same_best_pct:g})",
    )


def judge_trajectory(ours: Observed, theirs: Observed, limits: Limits) -> Check:
    """One canvas with the same noise on both sides, or greedy tokens."""
    if theirs.argmax_NL is None:
        return _judge_tokens(ours, theirs, limits)
    assert ours.argmax_NL is not None
    assert ours.accepted_NL is not None
    assert theirs.accepted_NL is not None
    argmax = _same_steps(ours.argmax_NL, theirs.argmax_NL)
    accepted = _same_steps(ours.accepted_NL, theirs.accepted_NL)
    equal_steps = _leading(argmax.all(-1) & accepted.all(-1))
    steps = len(ours.argmax_NL), len(theirs.argmax_NL)
    final = _percent(ours.argmax_NL[-1] == theirs.argmax_NL[-1])
    first = _percent(argmax[0]), _percent(accepted[0])
    if limits.first_step_pct is None:
        passed = steps[0] == steps[1] == equal_steps
    else:
        passed = min(first) >= limits.first_step_pct
    return judged(
        "canvas trajectory",
        passed,
        f"{equal_steps} of {steps[1]} steps equal, {steps[0]} steps ours; first step: same best "
        f"token {first[0]:.1f} %, same acceptance {first[1]:.1f} %; last: {final:.1f} %",
    )


def judge_answer(ours: str, theirs: str | None, expected: str) -> Check:
    """Whether the known question is answered; only ours is judged, theirs may not be there."""
    told = "not run" if theirs is None else _short(theirs)
    return judged(
        "known question",
        expected.casefold() in ours.casefold(),
        f"expected {expected!r}; ours {_short(ours)}; transformers {told}",
    )


def _judge_tokens(ours: Observed, theirs: Observed, limits: Limits) -> Check:
    length = min(len(ours.tokens), len(theirs.tokens))
    same = torch.tensor(ours.tokens[:length]) == torch.tensor(theirs.tokens[:length])
    equal = _leading(same)
    exact = limits.first_step_pct is None
    needed = len(theirs.tokens) if exact else 1
    return judged(
        "greedy tokens",
        ours.tokens == theirs.tokens if exact else equal >= needed,
        f"the first {equal} of {len(theirs.tokens)} tokens equal (at least {needed})",
    )


def _same_steps(ours_NL: Tensor, theirs_NL: Tensor) -> Tensor:
    """Equality [steps both took, L]."""
    num_steps = min(len(ours_NL), len(theirs_NL))
    return ours_NL[:num_steps] == theirs_NL[:num_steps]


def _leading(flags: Tensor) -> int:
    """How many hold before the first that does not."""
    return int(flags.long().cumprod(0).sum())


def _percent(flags: Tensor) -> float:
    return 100.0 * float(flags.float().mean())


def _short(text: str) -> str:
    text = " ".join(text.split())
    return repr(text if len(text) <= 60 else f"{text[:57]}...")
