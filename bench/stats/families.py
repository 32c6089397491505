"""Many metrics or points judged together: some would differ by chance alone."""

from collections.abc import Mapping
from dataclasses import replace

import scipy

from bench.stats.checks import in_range
from bench.stats.intervals import CONFIDENCE
from bench.stats.verdict import Status, Verdict

_REJECTED = (Status.REGRESSION, Status.IMPROVEMENT, Status.CHANGED)


def benjamini_hochberg(p_values: Mapping[str, float | None]) -> dict[str, float | None]:
    """Adjusted p of each member of a family (Benjamini and Hochberg 1995), by scipy.

    Rejecting where the adjusted p is <= q keeps the expected share of false rejections among all
    rejections at q, for independent or positively dependent tests.

    Args:
        p_values: by metric or point; None is not a member and stays None.

    Raises:
        ValueError: a p outside 0 to 1.
    """
    known = {name: p for name, p in p_values.items() if p is not None}
    for name, p in known.items():
        if not 0 <= p <= 1:
            raise ValueError(f"p of {name} {p:g} must lie between 0 and 1")
    if not known:
        return dict(p_values)
    adjusted = scipy.stats.false_discovery_control(list(known.values()), method="bh")
    by_name = dict(zip(known, adjusted.tolist(), strict=True))
    return {name: by_name.get(name) for name in p_values}


def control_false_discoveries(
    verdicts: Mapping[str, Verdict], rate: float = 1 - CONFIDENCE
) -> dict[str, Verdict]:
    """The verdicts with p adjusted over the family; what no longer rejects becomes AMBIGUOUS.

    Args:
        verdicts: all metrics and points gated on together, also those without a difference: leaving
            some out afterwards breaks the guarantee.
        rate: of false discoveries.

    Raises:
        ValueError: a rate outside 0 to 1.
    """
    in_range("rate", rate, 0, 1)
    adjusted = benjamini_hochberg({name: found.p_value for name, found in verdicts.items()})
    controlled = {}
    for name, found in verdicts.items():
        p = adjusted[name]
        now = replace(found, p_value=p)
        if found.status in _REJECTED and p is not None and p > rate:
            why = f"{found.reason}; over the {len(verdicts)} of the family p = {p:.2g}"
            now = replace(now, status=Status.AMBIGUOUS, reason=why)
        controlled[name] = now
    return controlled
