"""What limits a study, and what its words mean: notices and definitions of the report."""

from bench.digits import tidy
from bench.procurement.cell import NumberClass
from bench.procurement.fleet import SAFE_SHARE
from bench.procurement.measured import MEASURED_TOO
from bench.procurement.page import Notice
from bench.procurement.study import Study
from bench.report.style import percent, plural


def notices(study: Study) -> tuple[Notice, ...]:
    """Limits that a reader must know of before anything is signed."""
    found = []
    kinds = {judged.way.point.kind for judged in study.judged}
    if study.judged and kinds == {NumberClass.PROJECTED}:
        found.append(
            Notice(
                "Nothing here was measured",
                "Every speed is projected by a roofline calibrated on other points. It can choose "
                "what to measure; it cannot stand in for a measurement.",
                serious=True,
            )
        )
    elif NumberClass.PROJECTED in kinds:
        found.append(
            Notice(
                "Measured and projected ways stand side by side",
                "Each number says which it is. Where a batch was measured, it is not projected.",
            )
        )
    inputs = study.inputs
    if study.best is not None and not study.best.is_safe:
        found.append(
            Notice(
                "Nothing is safe to buy",
                f"No way serves the load within its limits in {tidy(100 * SAFE_SHARE)} % of draws. "
                "The cheapest is named all the same, and it is a bet: measure it, relax a limit, "
                "or offer other devices.",
                serious=True,
            )
        )
    if inputs.quality.speed_only:
        found.append(
            Notice(
                "Answers were not judged",
                "The inputs ask for speed alone (quality.speed_only); whether answers reach "
                f"{percent(inputs.quality.accuracy_floor)} % is not known."
                if inputs.quality.accuracy_floor is not None
                else "The inputs ask for speed alone (quality.speed_only).",
                serious=True,
            )
        )
    if inputs.load is None or inputs.load.steps_per_canvas is None:
        found.append(
            Notice(
                "Diffusion was not projected",
                "load.steps_per_canvas is not stated, and the speed of diffusion hangs on it.",
                serious=True,
            )
        )
    random = [j for j in study.judged if any("random weights" in n for n in j.way.point.notes)]
    if random:
        found.append(
            Notice(
                "Random weights",
                f"{plural(len(random), 'way')} were measured with random weights: speeds of a "
                "shape, not of answers.",
                serious=True,
            )
        )
    twice = [j for j in study.judged if any(MEASURED_TOO in n for n in j.way.point.notes)]
    if twice:
        found.append(
            Notice(
                "Ways measured more than once",
                f"{plural(len(twice), 'row')} are of ways that several points measured. They are "
                "not pooled, and the cheapest of them is ranked: that flatters it. Their notes "
                "say where the others stand.",
                serious=True,
            )
        )
    if inputs.load is None and inputs.latency.is_stated:
        found.append(
            Notice(
                "No load is stated",
                "Latency limits are judged of a request in a full batch that waits for nobody. "
                "Whether requests wait, and how many devices it takes, is not known: state "
                "load.requests_per_s, reply_tokens and prompt_tokens.",
                serious=True,
            )
        )
    idle = without_effect(study)
    if idle:
        found.append(Notice("Stated, and without effect on some or all ways", " ".join(idle)))
    if study.left_out:
        found.append(Notice("Left out", "; ".join(study.left_out)))
    return tuple(found)


def without_effect(study: Study) -> list[str]:
    """Inputs that were stated and that some ways, or all, do without, a sentence each."""
    inputs, found = study.inputs, []
    load = inputs.load
    if load is not None and load.requests_per_s is None:
        found.append(
            "Utilisation: with a concurrency alone every request has a slot, so that it enters "
            "neither the fleet nor its price."
        )
    measured = [j for j in study.judged if j.way.point.kind is NumberClass.MEASURED]
    for offer in inputs.offers:
        own = [j for j in measured if j.way.offer is offer]
        known = [j for j in own if j.way.point.joules_per_token.value or j.way.point.power_w.value]
        if offer.power_w is not None and known:
            found.append(
                f"Power under load of {offer.label}: {plural(len(known), 'way')} stand with the "
                "energy that was measured."
            )
    is_rented = all(offer.is_rented for offer in inputs.offers)
    if is_rented and inputs.power_price_per_kwh is not None:
        found.append("Power price: every offer is rented, power included.")
    if inputs.pue is not None and all(offer.host_power_w is None for offer in inputs.offers):
        found.append("PUE: no offer states its host's power, so that no energy of a site is told.")
    stated = [] if load is None else [load.prompt_tokens, load.steps_per_canvas]
    if measured and any(each is not None for each in stated):
        found.append(
            f"Prompt lengths and steps a canvas: {plural(len(measured), 'way')} stand with those "
            "that were measured."
        )
    return found


def definitions() -> tuple[tuple[str, str], ...]:
    """What the page's words mean."""
    return (
        (
            "Way",
            "An offer run in one decoding, precision and batch. A way is allowed where it keeps "
            "every stated limit at its own numbers; the best of each offer and decoding is ranked.",
        ),
        (
            "Recommended",
            "The cheapest way whose fleet serves the load within its limits in at least "
            f"{tidy(100 * SAFE_SHARE)} % of draws: a safe way. The cheapest of all where none is "
            "safe. Without a load a way is safe that keeps the latency limits in as many draws, of "
            "a request in a full batch that waits for nobody. Of ways that cost the same, the one "
            "that serves in more draws.",
        ),
        (
            "Delivered tokens",
            "Tokens up to and including the first end token: what a user received. Rates count "
            "prefill and the first canvas.",
        ),
        (
            "Fleet",
            "The fewest devices that serve the load in time in "
            f"{tidy(100 * SAFE_SHARE)} % of draws. Where no number of them does, the fewest that "
            f"do in {tidy(100 * SAFE_SHARE)} % of the draws in which some number does. Their price "
            "is paid whatever the load turns out to be.",
        ),
        (
            "Waiting",
            "Every device has as many slots as its batch, on average no more of them in use than "
            "the stated utilisation. Requests come at random (Poisson) and wait in one line for a "
            "free slot: M/G/c by the approximation of Lee and Longton (1959). A request takes its "
            "first delivery and then a gap for each further one, at the speed of a full batch. "
            "Where only a concurrency is stated, its 95th percentile has slots and none waits. "
            "Arrivals in bursts wait longer; a half-empty batch is quicker and takes more energy a "
            "token; no device fails.",
        ),
        (
            "Cost a million tokens",
            "The fleet's price over what it delivers of the load's tokens; without a load, one "
            "device's price over its tokens at the stated utilisation.",
        ),
        (
            "Cheapest in a share of draws",
            "Prices, load, utilisation and speeds are drawn together many times; a draw's prices "
            "are the same for every way. Only safe ways are compared where there are any, and a "
            "fleet that is too small in a draw is not its cheapest. "
            "Speeds of one device err together, those of different "
            "devices independently.",
        ),
        (
            "What would change the answer",
            "One number is moved at a time, over its stated range or its interval, or a tenth "
            "either way where neither is known; all others stay, and so does the fleet, to which "
            "devices are added where the number asks for them. How many devices would do is told "
            "of the draws in which a number is in its lowest, or highest, tenth. The recommended "
            "way is held against the other safe ones. All times of a projected way move together.",
        ),
        (
            "Floors",
            "The rate of forwards that take no longer than their bytes and products at the data "
            "sheet's rates (op floor), or than reading the weights once (streaming floor).",
        ),
        (
            "Interval",
            "95 %. Of a measured number: other processes and, where content decides the work, "
            "other prompts. Of a projected one: its own limits and the range of steps a canvas. "
            "Of a cost: quantiles of the draws.",
        ),
    )
