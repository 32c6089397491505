"""Monte Carlo: numbers made of uncertain numbers, with the interval that follows from theirs.

An input that a person states as a range is drawn from it, a measured number from the Student t of
its processes and prompts, a projection or a published figure from its stated limits. All draws are
by stream (`laws.Draws`), so that options are compared under equal prices and equal load.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.procurement.cell import Cell, NumberClass, weakest
from bench.procurement.laws import TAILS, Draws, Limits

Numbers = Mapping[str, Any]
"""By name: floats for one evaluation, arrays of draws for a Monte Carlo."""


_IN_WORDS = {
    "system_tok_per_s": "tokens a second",
    "joules_per_token": "joules a token",
    "tokens_per_correct_answer": "tokens a correct answer",
    "first_canvas_s": "first delivery",
    "first_canvas_p95_s": "first delivery",
    "canvas_gap_s": "gap",
    "canvas_gap_p95_s": "gap",
    "power_price_per_kwh": "power price",
    "price_per_hour": "price of an hour",
    "amortisation_years": "years of use",
    "requests_per_s": "requests a second",
    "power_w": "power under load",
    "idle_power_w": "idle power",
    "host_power_w": "host power",
    "pue": "PUE",
}


def in_words(name: str) -> str:
    """What a buyer calls a number of `Numbers`."""
    return _IN_WORDS.get(name, name.replace("_", " "))


@dataclass(frozen=True, slots=True)
class Parameter:
    """An uncertain number.

    Attributes:
        key: names it: the path of an input's key, or a point's source and what it is.
        shared: the stream it is drawn from where others vary with it; by default its own.
    """

    cell: Cell
    key: str
    shared: str = ""

    def draw(self, draws: Draws) -> np.ndarray:
        """(count,) values; all the same for an exact number.

        A number without a law of its own is drawn by its limits.
        """
        cell = self.cell
        assert cell.value is not None, f"{self.key} is unknown"
        law = cell.law
        if law is None and cell.low is not None and cell.high is not None and cell.low < cell.high:
            law = Limits(cell.value, cell.low, cell.high)
        stream = self.shared or self.key
        return np.full(draws.count, cell.value) if law is None else law.draw(draws, stream)


@dataclass(frozen=True, slots=True)
class Metric:
    """A number as a formula of others.

    Attributes:
        key: its name with the unit.
        needs: names that the formula reads.
        formula: of floats or of arrays alike.
    """

    key: str
    unit: str
    definition: str
    needs: tuple[str, ...]
    formula: Callable[[Numbers], Any]


def at_values(metric: Metric, parameters: Mapping[str, Parameter]) -> float:
    """The formula at every parameter's own value."""
    return float(metric.formula({name: parameters[name].cell.value for name in metric.needs}))


def drawn(metric: Metric, parameters: Mapping[str, Parameter], draws: Draws) -> np.ndarray:
    """(count,) values of the metric, one a draw of its parameters."""
    return np.asarray(metric.formula({name: parameters[name].draw(draws) for name in metric.needs}))


def evaluated(metric: Metric, parameters: Mapping[str, Parameter], draws: Draws) -> Cell:
    """The metric with its 95 % interval and the weakest class of what it is made of.

    The value is the formula at the parameters' own values. The limits are quantiles of the draws,
    moved out to the value where a parameter's mode lies at the end of its range. No limits where
    the spread of a parameter is not known. Unknown where a parameter is missing or unknown.
    """
    kind, why = NumberClass.ASSUMED, lacking(metric.needs, parameters)
    if why:
        return Cell(None, None, None, kind, metric.unit, metric.definition, why_unknown=why)
    used = {name: parameters[name] for name in metric.needs}
    value = at_values(metric, used)
    kind = weakest(parameter.cell.kind for parameter in used.values())
    why = no_interval(used)
    found = np.array([]) if why else drawn(metric, used, draws)
    return from_draws(value, found, kind, metric.unit, metric.definition, why)


def no_interval(parameters: Mapping[str, Parameter]) -> str:
    """Why nothing made of these has an interval: reasons, and names; empty where it has one."""
    reasons: dict[str, list[str]] = {}
    for name, parameter in parameters.items():
        if parameter.cell.why_no_interval:
            reasons.setdefault(parameter.cell.why_no_interval, []).append(name)
    return "; ".join(
        f"{reason} ({', '.join(dict.fromkeys(in_words(name) for name in names))})"
        for reason, names in reasons.items()
    )


def from_draws(
    value: float,
    found: np.ndarray,
    kind: NumberClass,
    unit: str,
    definition: str,
    why_no_interval: str = "",
) -> Cell:
    """A cell whose limits are quantiles of draws; those may be infinite where nothing serves.

    Args:
        why_no_interval: why there are no draws to be believed; empty where there are.
    """
    low = high = None
    if not why_no_interval:
        least, most = (float(limit) for limit in np.quantile(found, TAILS, method="nearest"))
        if np.isfinite(most):
            low, high = min(least, value), max(most, value)
        else:
            share = float(np.isinf(found).mean())
            why_no_interval = f"out of reach in {share:.0%} of draws"
    return Cell(value, low, high, kind, unit, definition, why_no_interval=why_no_interval)


def lacking(needs: Iterable[str], parameters: Mapping[str, Parameter]) -> str:
    """The first name without a known number, and why; empty where all are known."""
    for name in needs:
        if name not in parameters:
            return f"{in_words(name)} is not given"
        cell = parameters[name].cell
        if cell.value is None:
            return f"{in_words(name)}: {cell.why_unknown or 'unknown'}"
    return ""


def share_cheapest(options: Sequence[np.ndarray]) -> list[float]:
    """Share of draws in which each option costs least; a draw's ties are split.

    Args:
        options: (count,) draws each, aligned: draw i of all options is of the same prices and the
            same load; infinite where an option cannot serve the load.
    """
    if not options:
        return []
    costs = np.stack(options)
    best = (costs == costs.min(axis=0)) & np.isfinite(costs)
    shares = best / np.maximum(best.sum(axis=0), 1)
    return [float(share) for share in shares.mean(axis=1)]
