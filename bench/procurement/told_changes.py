"""What would change the answer of a study, in words; without an answer, what stands in its way."""

from collections import Counter
from collections.abc import Sequence

from bench.digits import digits, tidy
from bench.procurement.listing import cost_unit
from bench.procurement.study import Study
from bench.procurement.swings import Swing
from bench.procurement.ways import Way
from bench.procurement.words import first_up, key_words, short, unit_words, way_of
from bench.report.style import percent, plural

_MOST_CHANGES, _MOST_HINGES = 4, 2


def changes(study: Study) -> tuple[str, ...]:
    """What moves the choice to another way, nearest first; else what moves its cost most."""
    turning = [swing for swing in study.swings if swing.bar.switches_at is not None]
    turning.sort(key=_distance)
    said = list(dict.fromkeys(_turn(study, swing) for swing in _one_a_way(study, turning)))
    found = said[:_MOST_CHANGES]
    if not found:
        found.append("No single number, moved within its range, makes another way the choice.")
        found += [_move(study, swing) for swing in study.swings[:3]]
    found += _hinges(study)
    quality = study.inputs.quality
    if quality.accuracy_floor is None:
        found.append("Answers that are not good enough: nothing was asked of them here.")
    elif quality.speed_only:
        found.append(
            f"Answers of which fewer than {percent(quality.accuracy_floor)} % are right: asked, "
            "and set aside by quality.speed_only."
        )
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
            f"{first_up(name)} below {short(each.low)}{unit}: "
            f"{plural(int(each.devices_low), 'device')} would do; above "
            f"{short(each.high)}{unit}: {tidy(each.devices_high)}."
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
    nobody = "serves the load" if study.inputs.load else "keeps the limits"
    then = f"{swing.becomes} becomes the choice" if swing.becomes else f"no safe way {nobody}"
    name = key_words(bar.key, study.inputs, _ways(study))
    way = way_of(bar.key, _ways(study))
    if way is not None and bar.value:
        change = 100 * (bar.switches_at / bar.value - 1)
        side = "more" if change > 0 else "less"
        than = f"than {way.point.kind}"
        return f"{first_up(name)}, {digits(abs(change))} % {side} {than}: {then}."
    side = "above" if bar.switches_at > bar.value else "below"
    return (
        f"{first_up(name)} {side} {short(bar.switches_at)}{unit_words(bar.unit)} (here "
        f"{short(bar.value)}): {then}."
    )


def _move(study: Study, swing: Swing) -> str:
    bar = swing.bar
    name = key_words(bar.key, study.inputs, _ways(study))
    return (
        f"{first_up(name)} from {short(bar.low)} to {short(bar.high)}{unit_words(bar.unit)}: "
        f"{digits(bar.cost_low)} to {digits(bar.cost_high)} {cost_unit(study.inputs)}."
    )


def _ways(study: Study) -> list[Way]:
    return [finalist.judged.way for finalist in study.finalists]


def missing(study: Study) -> tuple[str, ...]:
    """What stands in the way, and what can be done about it."""
    latency, quality = study.inputs.latency, study.inputs.quality
    found = []
    for name, key, limit_s in (
        ("First deliveries", "first_canvas_p95_s", latency.first_canvas_s),
        ("Gaps", "canvas_gap_p95_s", latency.canvas_gap_s),
        ("End to end", "end_to_end_p95_s", latency.end_to_end_s),
    ):
        known = [v for j in study.judged if (v := getattr(j.times, key).value) is not None]
        late = 0 if limit_s is None else sum(value > limit_s for value in known)
        if late:
            found.append(
                f"{name} over {short(limit_s or 0)} s: {plural(late, 'way')} of {len(known):,}; "
                f"the quickest takes {short(min(known))} s."
            )
    asked = quality.accuracy_floor is not None and not quality.speed_only
    if asked and any(judged.way.point.accuracy.value is None for judged in study.judged):
        found.append(
            "Accuracy that nobody measured: give runs of real weights with answers (--runs), or "
            "ask for speed alone (quality.speed_only: true)."
        )
    others = Counter(
        reason for judged in study.judged for reason in judged.reasons if " s > " not in reason
    )
    found += [f"{first_up(why)} ({plural(n, 'way')})." for why, n in others.most_common(5)]
    return tuple(found) or ("Runs of an offered device, or a listed device that can be projected.",)
