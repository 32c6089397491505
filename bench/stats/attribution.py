"""Why a run became slower: an exact split of the change of log(D / W), delivered over wall seconds.

W = sum over phases p of F_p s_p, plus host (F_p forwards of a batch, s_p mean seconds). Between two
runs (' the later), with L the logarithmic mean and w_p = L(W_p, W_p') / L(W, W'),

    change of log(D/W) = change of log D
                         - sum over p of w_p (change of log F_p + change of log s_p)
                         - w_h change of log host

holds exactly: the additive logarithmic mean Divisia index, LMDI-I (Ang 2005, Energy Policy 33). A
phase or a host time that is 0 in one run takes the limit: the whole of -(W_p' - W_p) / L(W, W') is
its forwards' (Ang and Liu 2007). So slower kernels, longer denoising, shorter answers and more host
time are never confused. Every term is signed as it moves the speed: below 0 slowed it down.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bench.phases import DENOISING

DENOISE = "denoise"
_LEDGER_TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """Forwards of one phase (prefill, denoise, commit, fused) in a run.

    Attributes:
        forwards: F_p, of the whole batch.
        mean_s: s_p, mean seconds of one; None without a forward.
    """

    forwards: float
    mean_s: float | None

    @property
    def seconds(self) -> float:
        """W_p = F_p s_p."""
        return self.forwards * (self.mean_s or 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTime:
    """Where the wall time of a run went, and what it delivered.

    Attributes:
        delivered_tokens: D.
        phases: by name; one that is missing had no forward.
        host_s: wall seconds in none of the phases.
        canvases: committed; None where there are none (autoregressive) or where it is unknown.
        denoise_row_steps: active row-steps, a step of one canvas each, those fused with a commit
            among them; None where unknown.
        batch_size: rows of the batch; None where unknown.

    Raises:
        ValueError: a count or a time is negative or not finite, forwards without a time, nothing
            delivered, no wall time, or more active row-steps than forwards x batch.
    """

    delivered_tokens: float
    phases: Mapping[str, Phase]
    host_s: float
    canvases: float | None = None
    denoise_row_steps: float | None = None
    batch_size: float | None = None

    def __post_init__(self) -> None:
        _check("host_s", self.host_s)
        _check("delivered_tokens", self.delivered_tokens, above_zero=True)
        for name, phase in self.phases.items():
            _check(f"{name} forwards", phase.forwards)
            if phase.mean_s is not None:
                _check(f"{name} mean_s", phase.mean_s)
            elif phase.forwards > 0:
                raise ValueError(f"{name} has {phase.forwards:g} forwards but mean_s None")
        _check("wall seconds", self.wall_s, above_zero=True)
        for name in ("canvases", "denoise_row_steps", "batch_size"):
            value = getattr(self, name)
            if value is not None:
                _check(name, value, above_zero=True)
        if self.occupancy is not None and self.occupancy > 1 + _LEDGER_TOLERANCE:
            raise ValueError(
                f"occupancy {self.occupancy:g} must be at most 1: {self.denoise_row_steps:g} active"
                f" row-steps are more than forwards x batch"
            )

    @property
    def wall_s(self) -> float:
        """W."""
        return sum(phase.seconds for phase in self.phases.values()) + self.host_s

    @property
    def denoising_forwards(self) -> float:
        """Forwards that were a denoise step, alone or fused with a commit."""
        return sum(self.phases[name].forwards for name in DENOISING if name in self.phases)

    @property
    def occupancy(self) -> float | None:
        """Active row-steps / (denoising forwards x batch)."""
        if self.denoise_row_steps is None or self.batch_size is None:
            return None
        slots = self.denoising_forwards * self.batch_size
        return self.denoise_row_steps / slots if slots > 0 else None

    @property
    def plain_share(self) -> float | None:
        """Of the denoising forwards, those that commit nothing; None where none is like that."""
        denoise = self.phases.get(DENOISE)
        if denoise is None or denoise.forwards == 0:
            return None
        return denoise.forwards / self.denoising_forwards

    @property
    def steps_per_canvas(self) -> float | None:
        """Mean active denoise steps of a canvas."""
        if self.canvases is None or self.denoise_row_steps is None:
            return None
        return self.denoise_row_steps / self.canvases


@dataclass(frozen=True, slots=True)
class Attribution:
    """Terms of a change of log(D / W), in nats; 0.01 is about 1 % of the speed.

    Attributes:
        change: of log(D / W), their sum.
        terms: `delivered_tokens`, `<phase>_forwards` and `<phase>_s` of each phase, `host_s`.
        details: terms split further, by the term's name. `delivered_tokens` = canvases x delivered
            a canvas; `denoise_forwards` = canvases x steps / occupancy / batch, x the share of
            steps that no commit is fused with where some have one. Each sums to its term; missing
            where either run lacks what it needs.
    """

    change: float
    terms: dict[str, float]
    details: dict[str, dict[str, float]]


@dataclass(frozen=True, slots=True)
class Cause:
    """A term that made much of a change.

    Attributes:
        name: of the term.
        effect: nats of log(D / W); below 0 it slowed the run down.
        share: of all movement, up and down: |effect| / sum of |terms|.
        text: for a person, the speed it alone would have cost or gained.
    """

    name: str
    effect: float
    share: float
    text: str


def attribute(baseline: RunTime, candidate: RunTime) -> Attribution:
    """Splits the change of delivered tokens per second from the baseline to the candidate.

    The terms sum to the change to within rounding (1e-12).
    """
    whole = _log_mean(baseline.wall_s, candidate.wall_s)
    terms = {"delivered_tokens": _log_change(baseline.delivered_tokens, candidate.delivered_tokens)}
    names = list(dict.fromkeys([*baseline.phases, *candidate.phases]))
    absent = Phase(forwards=0, mean_s=None)
    for name in names:
        before, after = baseline.phases.get(name, absent), candidate.phases.get(name, absent)
        by_forwards, by_time = _phase_terms(before, after, whole)
        terms |= {f"{name}_forwards": by_forwards, f"{name}_s": by_time}
    terms["host_s"] = _seconds_term(baseline.host_s, candidate.host_s, whole)
    change = terms["delivered_tokens"] - _log_change(baseline.wall_s, candidate.wall_s)
    return Attribution(change, terms, _details(baseline, candidate, terms))


def leading_causes(
    attribution: Attribution, share: float = 0.8, smallest: float = 0.005
) -> tuple[Cause, ...]:
    """The fewest terms that make up at least `share` of all movement, the largest first.

    Movement counts up and down alike, so that slower kernels hidden by fewer steps are both named.

    Args:
        share: of sum of |terms|, above 0 and at most 1.
        smallest: nats; a smaller term is no cause.

    Raises:
        ValueError: a share outside its range, or `smallest` negative.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share {share:g} must be above 0 and at most 1")
    _check("smallest", smallest)
    movement = sum(abs(effect) for effect in attribution.terms.values())
    causes: list[Cause] = []
    reached = 0.0
    for name, effect in sorted(attribution.terms.items(), key=lambda item: -abs(item[1])):
        if abs(effect) < smallest or effect == 0 or reached >= share * movement:
            break
        reached += abs(effect)
        text = f"{name}: {100 * np.expm1(effect):+.1f} % of delivered tokens per second"
        causes.append(Cause(name, effect, abs(effect) / movement, text))
    return tuple(causes)


def _phase_terms(before: Phase, after: Phase, whole: float) -> tuple[float, float]:
    """Of its forwards and of its mean seconds."""
    total = _seconds_term(before.seconds, after.seconds, whole)
    if before.forwards == 0 or after.forwards == 0:
        return total, 0.0
    by_forwards = 0.0
    if before.seconds > 0 and after.seconds > 0:
        weight = _log_mean(before.seconds, after.seconds) / whole
        by_forwards = -weight * _log_change(before.forwards, after.forwards)
    return by_forwards, total - by_forwards


def _seconds_term(before: float, after: float, whole: float) -> float:
    """-w change of log seconds, w = L(before, after) / L(W, W'): as L says, a difference."""
    return -(after - before) / whole


def _details(
    baseline: RunTime, candidate: RunTime, terms: dict[str, float]
) -> dict[str, dict[str, float]]:
    details: dict[str, dict[str, float]] = {}
    if baseline.canvases is None or candidate.canvases is None:
        return details
    by_canvases = _log_change(baseline.canvases, candidate.canvases)
    details["delivered_tokens"] = {
        "canvases": by_canvases,
        "delivered_per_canvas": terms["delivered_tokens"] - by_canvases,
    }
    term = f"{DENOISE}_forwards"
    factors = [
        (baseline.steps_per_canvas, candidate.steps_per_canvas, "steps_per_canvas", 1),
        (baseline.occupancy, candidate.occupancy, "occupancy", -1),
        (baseline.batch_size, candidate.batch_size, "batch_size", -1),
        (baseline.plain_share, candidate.plain_share, "plain_share", 1),
    ]
    logs = {"canvases": by_canvases}
    for before, after, name, power in factors:
        if before is None or after is None:
            return details
        logs[name] = power * _log_change(before, after)
    if baseline.plain_share == candidate.plain_share == 1:
        del logs["plain_share"]
    seconds = baseline.phases[DENOISE].seconds, candidate.phases[DENOISE].seconds
    weight = _log_mean(*seconds) / _log_mean(baseline.wall_s, candidate.wall_s)
    details[term] = {name: -weight * log for name, log in logs.items()}
    return details


def _log_change(before: float, after: float) -> float:
    return float(np.log(after / before))


def _log_mean(a: float, b: float) -> float:
    """Logarithmic mean (a - b) / (log a - log b); a where they are equal, 0 where one is 0."""
    if a == 0 or b == 0:
        return 0.0
    ratio = np.log(b / a)
    return a if ratio == 0 else float(a * np.expm1(ratio) / ratio)


def _check(name: str, value: float, above_zero: bool = False) -> None:
    if not np.isfinite(value) or value < 0 or (above_zero and value == 0):
        least = "above 0" if above_zero else "at least 0"
        raise ValueError(f"{name} {value} must be finite and {least}")
