"""A calibration as Markdown, to be printed and committed, and as JSON."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from bench.ab.aa_blocks import Recorded
from bench.ab.calibrate import (
    DETECTABLE,
    MAX_FALSE_ALARMS,
    MIN_EQUIVALENT,
    MIN_POWER,
    SLOWDOWN,
    Calibrated,
    Part,
    RuleFound,
)


def markdown(recorded: Recorded, found: Sequence[Calibrated]) -> str:
    """Batches, then a metric after the other: by batch, and beside other rules."""
    first = found[0].parts[0].rates
    lines = [
        "# How far a comparison on this machine can be trusted",
        "",
        f"{len(recorded.batches)} independent batches of A/A blocks, one tree in both arms. The"
        " first half of every batch chose the bound, the second half is reported: runs of"
        f" contiguous blocks with labels swapped inside them ({first.comparisons} comparisons of at"
        f" most {found[0].parts[0].num_pairs} pairs, as many as half of the batch has; they share"
        " blocks, so only the batches are independent, and each counts by its blocks)."
        f" Slowed: the candidate's times x {SLOWDOWN:g}. Told from none: the minimum detectable"
        " effect, found with power 0.8; a REGRESSION must lie beyond the bound as well, so the"
        " smallest slowdown that is called one is larger.",
        "",
        *_table(
            ("batch", "condition", "UTC", "blocks", "commit"),
            [
                (
                    row["batch"],
                    row["condition"] or "not said",
                    f"{row['started'][:16]} to {row['ended'][11:16]}",
                    row["blocks"],
                    row["commit"][:12] + (" with changes" if row["dirty"] else ""),
                )
                for row in recorded.batches.to_dict("records")
            ],
        ),
        "",
        f"What a gate is to keep: false alarms <= {_share(MAX_FALSE_ALARMS)}, EQUIVALENT >="
        f" {_share(MIN_EQUIVALENT)}; a slowdown is caught in >= {_share(MIN_POWER)} where at most"
        f" {_share(DETECTABLE)} is detectable, and nowhere else let through silently; no rule of"
        " equal power has fewer false alarms.",
    ]
    for each in found:
        lines += ["", *_metric(each)]
    return "\n".join(lines) + "\n"


def _metric(found: Calibrated) -> list[str]:
    bound = (
        f"bound {_share(found.bound)}, chosen on the first halves"
        if found.tuned is not None
        else f"no bound tried was enough on the first halves; shown at {_share(found.bound)}"
    )
    return [
        f"## {found.metric} of {found.point}: {'kept' if found.holds else 'not kept'}",
        "",
        f"{bound}.",
        "",
        *_table(
            (
                "batch",
                "pairs at most",
                "comparisons",
                "false alarms",
                "EQUIVALENT",
                "slowed: caught",
                "slowed: let through",
                "told from none",
                "called REGRESSION",
            ),
            [_part(part) for part in found.parts],
        ),
        "",
        *_table(
            ("rule", "false alarms", "slowed: caught", "slowed: let through"),
            [_rule(rule) for rule in found.rules],
        ),
    ]


def _part(part: Part) -> tuple[str, ...]:
    rates = part.rates
    return (
        part.batch or "all",
        str(part.num_pairs),
        str(rates.comparisons),
        _share(rates.false_alarms),
        _share(rates.equivalent),
        _share(rates.power),
        _share(rates.silent),
        *(
            "n/a" if each is None else f"{100 * each:.2g} %"
            for each in (part.detectable, part.called_regression)
        ),
    )


def _rule(rule: RuleFound) -> tuple[str, ...]:
    rates = rule.rates
    return rule.name, _share(rates.false_alarms), _share(rates.power), _share(rates.silent)


def _share(value: float) -> str:
    return f"{100 * value:.3g} %"


def _table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    lines = [header, ["---"] * len(header), *rows]
    return ["| " + " | ".join(str(cell) for cell in line) + " |" for line in lines]


def calibration_json(recorded: Recorded, found: Sequence[Calibrated]) -> dict[str, Any]:
    """The same in plain types; effects and rates are shares."""
    return {
        "batches": recorded.batches.to_dict("records"),
        "slowdown": SLOWDOWN,
        "metrics": [
            {**asdict(each), "holds": each.holds, "beats_equals": each.beats_equals}
            for each in found
        ],
    }
