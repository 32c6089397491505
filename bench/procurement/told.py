"""A study in words: the answer, how sure it is and what would change it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from bench.procurement.capacity import Capacity
from bench.procurement.cell import Cell, NumberClass
from bench.procurement.fleet import SAFE_SHARE
from bench.procurement.listing import NEEDED, cost_unit, ranking
from bench.procurement.page import KeyFigure, Summary
from bench.procurement.study import Finalist, Study
from bench.procurement.swings import Swing
from bench.procurement.tables import DataTable, amount
from bench.procurement.ways import Way
from bench.procurement.words import key_words, unit_words, way_of
from bench.report.style import digits, percent, plural, span, tidy

_MOST_CHANGES, _MOST_HINGES, _MOST_LEADERS = 4, 2, 4
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
            changes=_missing(study),
            ranking=None,
            basis=_basis(study),
        )
    return Summary(
        answer=answer(best),
        lead=_lead(study, best),
        figures=_figures(study, best),
        certainty=_certainty(study, best),
        changes=_changes(study),
        ranking=_leaders(study),
        basis=_basis(study),
    )


def _leaders(study: Study) -> DataTable:
    """As much of the ranking as the first sheet has room for, the recommended row in any case."""
    whole = ranking(study)
    chosen = whole.chosen_row or 0
    kept = list(range(len(whole.rows)))[:_MOST_LEADERS]
    if chosen not in kept:
        kept[-1] = chosen
    left = len(whole.rows) - len(kept)
    columns = tuple(
        replace(column, on_page=column.on_page and column.key != NEEDED) for column in whole.columns
    )
    return replace(
        whole,
        name="leaders",
        columns=columns,
        rows=tuple(whole.rows[index] for index in kept),
        caption="The best ways to run each offer, by cost"
        + (f"; {left:,} more in the full ranking." if left else "."),
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
    fewer = _fewer(fleet)
    beside = f" ({fewer})" if fewer else ""
    return f"{verb} {tidy(devices)} {_TIMES} {offer.label}{beside}, {each}{how}"


def _fewer(fleet: Capacity) -> str:
    """How often the fewer devices are enough that the stated numbers ask for; else empty."""
    devices, least = fleet.devices.value, fleet.needed.value
    if devices is None or least is None or least >= devices:
        return ""
    is_are = "is" if least == 1 else "are"
    return f"{tidy(least)} {is_are} enough in {percent(fleet.share_enough(least))} % of draws"


def _lead(study: Study, best: Finalist) -> tuple[str, ...]:
    currency = study.inputs.currency
    per_mtok = (
        best.judged.cells["cost_per_mtok"] if best.fleet is None else best.fleet.cost_per_mtok
    )
    said = f"{digits(per_mtok.value)} {currency} a million delivered tokens{_between(per_mtok)}"
    if best.fleet is not None:
        month = best.fleet.cost_per_month
        said += f", {digits(month.value)} {currency} a month{_between(month)} for the stated load"
    said = f"{said}. {_limits(study)}"
    risk = _risk(study, best)
    return (said, risk) if risk else (said,)


def _risk(study: Study, best: Finalist) -> str:
    """What a cheaper way would have saved and risked, or that no way is safe; else empty."""
    cheapest = study.finalists[0]
    if not best.is_safe:
        safest = max(study.finalists, key=lambda each: each.share_served or 0)
        said = (
            f"No way serves the load within its limits in {_SAFE_PCT} % of draws; this one, the "
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
    return tidy(float(f"{100 * (1 - (finalist.share_served or 0)):.3g}"))


def _between(cell: Cell) -> str:
    is_exact = cell.low is None or cell.low == cell.high
    return "" if is_exact else f" ({span(cell.low, cell.high)})"


def _limits(study: Study) -> str:
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
    if times is not None:
        found.append(("first delivery p95, s", times.first_canvas_p95_s))
        found.append(("end to end p95, s", times.end_to_end_p95_s))
    found.append(("joules a token, device", cells["joules_per_token"]))
    correct = cells["cost_per_correct_answer"]
    if correct.value is not None:
        found.append((f"{currency} a correct answer", correct))
    return tuple(KeyFigure(label, amount(cell)) for label, cell in found)


def _certainty(study: Study, best: Finalist) -> tuple[str, ...]:
    found = []
    others = [each for each in study.finalists if each is not best]
    if best.share_cheapest is not None:
        of = "Of the safe ways the" if best.is_safe else "The"
        said = (
            f"{of} cheapest in {percent(best.share_cheapest)} % of {study.draws.count:,} draws of "
            "prices, load and speeds"
        )
        rivals = sorted(others, key=lambda each: -(each.share_cheapest or 0))
        if rivals and rivals[0].share_cheapest:
            rival = rivals[0]
            said += f"; {rival.judged.way.name}, in {percent(rival.share_cheapest)} %"
        found.append(f"{said}.")
    if best.fleet is not None:
        found.append(_served(best, best.fleet))
    kind = best.judged.way.point.kind
    found.append(
        "Its speed was measured."
        if kind is NumberClass.MEASURED
        else "Its speed is projected: nobody measured this way to run it. Measure it before buying."
    )
    notes = [f"{_first_up(note)}." for note in best.judged.way.point.notes]
    return (*found, *notes)


def _served(best: Finalist, fleet: Capacity) -> str:
    """How often the fleet serves the load in time, and what fewer or more devices would."""
    devices = fleet.devices.value
    they = "It serves" if devices == 1 else f"{tidy(devices)} devices serve"
    said = f"{they} the load within its limits in {percent(best.share_served)} % of draws"
    least = fleet.needed.value
    if _fewer(fleet) and least is not None:
        said += f", the {tidy(least)} that the stated numbers ask for in "
        said += f"{percent(fleet.share_enough(least))} %"
    if not best.is_safe:
        said += f"; no number of devices does in more than {percent(fleet.share_possible)} %"
    return f"{said}."


def _changes(study: Study) -> tuple[str, ...]:
    """What moves the choice to another way, nearest first; else what moves its cost most."""
    turning = [swing for swing in study.swings if swing.bar.switches_at is not None]
    turning.sort(key=_distance)
    said = list(dict.fromkeys(_turn(study, swing) for swing in _one_a_way(study, turning)))
    found = said[:_MOST_CHANGES]
    if not found:
        found.append("No single number, moved within its range, makes another way the choice.")
        found += [_move(study, swing) for swing in study.swings[:3]]
    found += _hinges(study)
    if study.inputs.quality.speed_only or study.inputs.quality.accuracy_floor is None:
        found.append("Answers that are not good enough: nothing was asked of them here.")
    return tuple(found)


def _hinges(study: Study) -> list[str]:
    """What the recommended fleet's size hangs on: so much is saved by knowing it."""
    fleet = None if study.best is None else study.best.fleet
    found = []
    for each in () if fleet is None else fleet.hinges[:_MOST_HINGES]:
        name = key_words(each.name, study.inputs, _ways(study))
        is_own = way_of(each.name, _ways(study)) is not None
        name, unit = (f"its {name.partition(':')[0]}", " s") if is_own else (name, "")
        found.append(
            f"{_first_up(name)} below {_short(each.low)}{unit}: "
            f"{plural(int(each.devices_low), 'device')} would do; above "
            f"{_short(each.high)}{unit}: {tidy(each.devices_high)}."
        )
    return found


def _one_a_way(study: Study, turning: Sequence[Swing]) -> list[Swing]:
    """Every input, and of each way's own times the one that turns first."""
    seen, kept = set(), []
    for swing in turning:
        way = way_of(swing.bar.key, _ways(study))
        name = swing.bar.key if way is None else way.name
        if name not in seen:
            seen.add(name)
            kept.append(swing)
    return kept


def _distance(swing: Swing) -> float:
    bar = swing.bar
    assert bar.switches_at is not None
    return abs(bar.switches_at / bar.value - 1) if bar.value else float("inf")


def _turn(study: Study, swing: Swing) -> str:
    bar = swing.bar
    assert bar.switches_at is not None
    then = f"{swing.becomes} becomes the choice" if swing.becomes else "no safe way serves the load"
    name = key_words(bar.key, study.inputs, _ways(study))
    way = way_of(bar.key, _ways(study))
    if way is not None and bar.value:
        change = 100 * (bar.switches_at / bar.value - 1)
        side = "more" if change > 0 else "less"
        than = f"than {way.point.kind}"
        return f"{_first_up(name)}, {digits(abs(change))} % {side} {than}: {then}."
    side = "above" if bar.switches_at > bar.value else "below"
    return (
        f"{_first_up(name)} {side} {_short(bar.switches_at)}{unit_words(bar.unit)} (here "
        f"{_short(bar.value)}): {then}."
    )


def _move(study: Study, swing: Swing) -> str:
    bar = swing.bar
    name = key_words(bar.key, study.inputs, _ways(study))
    return (
        f"{_first_up(name)} from {_short(bar.low)} to {_short(bar.high)}{unit_words(bar.unit)}: "
        f"{digits(bar.cost_low)} to {digits(bar.cost_high)} {cost_unit(study.inputs)}."
    )


def _ways(study: Study) -> list[Way]:
    return [finalist.judged.way for finalist in study.finalists]


def _short(value: float) -> str:
    return tidy(float(f"{value:.3g}"))


def _first_up(text: str) -> str:
    return text[:1].upper() + text[1:]


def _missing(study: Study) -> tuple[str, ...]:
    """The reasons that stand most often in the way."""
    reasons = Counter(reason for judged in study.judged for reason in judged.reasons)
    found = [f"{reason} ({plural(count, 'way')})" for reason, count in reasons.most_common(5)]
    return tuple(found) or ("Runs of an offered device, or a listed device that can be projected.",)


def _basis(study: Study) -> str:
    kinds = Counter(judged.way.point.kind for judged in study.judged)
    parts = [f"{plural(kinds[kind], 'way')} {kind}" for kind in NumberClass if kinds[kind]]
    said = ", ".join(parts) or "no way to run an offered device"
    return (
        f"Rests on {said}; {plural(len(study.published), 'published figure')} stand beside them as "
        "a check and are part of none. Staff, network, room, interest and resale are left out."
    )
