"""A study in words: the answer, how sure it is and what would change it."""

from collections import Counter
from dataclasses import replace

from bench.digits import digits, tidy
from bench.procurement.cell import Cell, NumberClass
from bench.procurement.distribution import mean, words
from bench.procurement.fleet import SAFE_SHARE
from bench.procurement.inputs import Inputs
from bench.procurement.listing import NEEDED, ranking
from bench.procurement.page import KeyFigure, Summary
from bench.procurement.study import Finalist, Study
from bench.procurement.tables import DataTable, amount
from bench.procurement.told_certainty import certainty, fewer
from bench.procurement.told_changes import changes, missing
from bench.procurement.ways import lengths
from bench.procurement.words import short
from bench.report.style import percent, plural, span

_MOST_LEADERS = 5
_SAFE_PCT = tidy(100 * SAFE_SHARE)
_TIMES = "\N{MULTIPLICATION SIGN}"


def summary(study: Study) -> Summary:
    """The first sheet."""
    best = study.best
    if best is None:
        return Summary(
            answer="Nothing can be answered",
            lead=(f"{study.why_none[:1].upper()}{study.why_none[1:]}.",),
            figures=(),
            certainty=("No way to run an offered device is known to keep every limit.",),
            changes=missing(study),
            ranking=None,
            basis=_basis(study),
        )
    return Summary(
        answer=answer(best),
        lead=_lead(study, best),
        figures=_figures(study, best),
        certainty=certainty(study, best),
        changes=changes(study),
        ranking=_leaders(study),
        basis=_basis(study),
    )


def _leaders(study: Study) -> DataTable:
    """As much of the ranking as the first sheet has room for.

    The recommended row and the cheapest in any case, then the best of each further offer, which is
    its cheapest safe way if it has one, then the rest.
    """
    whole = ranking(study)
    chosen = whole.chosen_row or 0
    first_of: dict[str, int] = {}
    by_safety = sorted(enumerate(study.finalists), key=lambda pair: not pair[1].is_safe)
    for index, each in by_safety:
        first_of.setdefault(each.judged.way.offer.name, index)
    ahead = {study.finalists[index].judged.way.offer.name for index in (chosen, 0)}
    bests = [index for name, index in first_of.items() if name not in ahead]
    wanted = dict.fromkeys((chosen, 0, *bests, *range(len(whole.rows))))
    kept = sorted(list(wanted)[:_MOST_LEADERS])
    left = len(whole.rows) - len(kept)
    unnamed = len(first_of) - len({study.finalists[index].judged.way.offer.name for index in kept})
    columns = tuple(
        replace(column, on_page=column.on_page and column.key != NEEDED) for column in whole.columns
    )
    return replace(
        whole,
        name="leaders",
        columns=columns,
        rows=tuple(whole.rows[index] for index in kept),
        caption=(
            "The best ways to run the offers" if unnamed else "The best ways to run each offer"
        )
        + f", by cost{f'; {left:,} more in the full ranking' if left else ''}."
        + (f" {plural(unnamed, 'offer')} stand in that alone." if unnamed else ""),
        chosen_row=kept.index(chosen),
    )


def answer(best: Finalist) -> str:
    """The recommendation in one line."""
    way = best.judged.way
    point, offer = way.point, way.offer
    verb = "Rent" if offer.is_rented else "Buy"
    at_once = f"{plural(point.batch_size, 'request')} at once"
    how = f"running {point.decoding} in {point.precision}, {at_once}"
    fleet = best.fleet
    if fleet is None:
        return f"{verb} {offer.label} {how}"
    devices = fleet.devices.value
    each = "" if devices == 1 else "each "
    least = fewer(fleet)
    beside = f" ({least})" if least else ""
    return f"{verb} {tidy(devices)} {_TIMES} {offer.label}{beside}, {each}{how}"


def _lead(study: Study, best: Finalist) -> tuple[str, ...]:
    currency = study.inputs.currency
    per_mtok = (
        best.judged.cells["cost_per_mtok"] if best.fleet is None else best.fleet.cost_per_mtok
    )
    said = f"{digits(per_mtok.value)} {currency} a million delivered tokens{_between(per_mtok)}"
    if best.fleet is not None:
        month = best.fleet.cost_per_month
        said += f", {digits(month.value)} {currency} a month{_between(month)} for the stated load"
    said = f"{said}. {_limits(study, best)}"
    risk = _risk(study, best)
    return (said, risk) if risk else (said,)


def _risk(study: Study, best: Finalist) -> str:
    """What a cheaper way would have saved and risked, or that no way is safe; else empty."""
    cheapest = study.finalists[0]
    if not best.is_safe:
        safest = max(study.finalists, key=lambda each: each.share_served)
        keeps = "keeps the limits" if best.fleet is None else "serves the load within its limits"
        said = (
            f"No way {keeps} in {_SAFE_PCT} % of draws; this one, the "
            f"cheapest, misses them in {_missed_pct(best)} %"
        )
        if safest is not best:
            said += f", {safest.judged.way.name}, the safest, in {_missed_pct(safest)} %"
        return f"{said}."
    if cheapest is best:
        return ""
    saved_pct = 100 * (1 - cheapest.judged.cost / best.judged.cost)
    return (
        f"{cheapest.judged.way.name}, is {saved_pct:.2g} % cheaper and misses the limits in "
        f"{_missed_pct(cheapest)} % of draws."
    )


def _missed_pct(finalist: Finalist) -> str:
    return tidy(float(f"{100 * (1 - finalist.share_served):.3g}"))


def _between(cell: Cell) -> str:
    is_exact = cell.low is None or cell.low == cell.high
    return "" if is_exact else f" ({span(cell.low, cell.high)})"


def _limits(study: Study, best: Finalist) -> str:
    latency, floor = study.inputs.latency, study.inputs.quality.accuracy_floor
    limits = [
        f"{name} within {tidy(limit)} s"
        for name, limit in (
            ("first delivery", latency.first_canvas_s),
            ("gaps", latency.canvas_gap_s),
            ("end to end", latency.end_to_end_s),
        )
        if limit is not None
    ]
    if floor is not None and not study.inputs.quality.speed_only:
        limits.append(f"accuracy of at least {percent(floor)} %")
    if not limits:
        return "No limit was stated for latency or quality."
    if best.fleet is None and latency.is_stated:
        reply = best.judged.way.point.reply_tokens
        return (
            f"No load is stated: of a request in a full batch, with a reply of {reply:,} tokens "
            f"and no waiting, it keeps {', '.join(limits)}."
        )
    return f"Keeps what was asked, for 95 % of requests: {', '.join(limits)}."


def _figures(study: Study, best: Finalist) -> tuple[KeyFigure, ...]:
    currency = study.inputs.currency
    cells, times, fleet = best.judged.cells, best.judged.times, best.fleet
    found = []
    if fleet is not None:
        found += [
            (f"{currency} a month", fleet.cost_per_month),
            (f"{currency} a million tokens", fleet.cost_per_mtok),
        ]
    else:
        found.append((f"{currency} a million tokens", cells["cost_per_mtok"]))
    if fleet is not None or study.inputs.latency.is_stated:
        found.append(("first delivery p95, s", times.first_canvas_p95_s))
        found.append(("end to end p95, s", times.end_to_end_p95_s))
    found.append(("joules a token, device", cells["joules_per_token"]))
    correct = cells["cost_per_correct_answer"]
    if correct.value is not None:
        found.append((f"{currency} a correct answer", correct))
    return tuple(KeyFigure(label, amount(cell)) for label, cell in found)


def _basis(study: Study) -> str:
    kinds = Counter(judged.way.point.kind for judged in study.judged)
    parts = [f"{plural(kinds[kind], 'way')} {kind}" for kind in NumberClass if kinds[kind]]
    said = ", ".join(parts) or "no way to run an offered device"
    return (
        f"{_load_words(study.inputs)} Rests on {said}; "
        f"{plural(len(study.published), 'published figure')} stand beside them as "
        "a check and are part of none. Staff, network, room, interest and resale are left out."
    )


def _load_words(inputs: Inputs) -> str:
    """The load that every number is of, in a sentence."""
    load, (prompt, reply) = inputs.load, lengths(inputs)
    if load is None:
        return (
            f"No load is stated: projections are of prompts of {prompt:,} and replies of {reply:,} "
            "tokens."
        )
    parts = []
    if load.requests_per_s is not None:
        parts.append(f"{short(load.requests_per_s.value or 0)} requests a second")
    if load.concurrency is not None:
        parts.append(f"{short(mean(load.concurrency))} requests at once on average")
    parts.append(f"replies of {reply:,} tokens on average ({words(load.reply_tokens)})")
    if load.prompt_tokens is not None:
        parts.append(f"prompts of {prompt:,} ({words(load.prompt_tokens)})")
    return f"Of a load of {', '.join(parts)}."
