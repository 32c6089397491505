"""What a run says in words: the headline, the warnings that come with it, the line that stands out.

Speed is never stated without quality, and a faster point whose accuracy differs is said to differ.
"""

from dataclasses import dataclass

from bench.report.style import (
    NOT_AVAILABLE,
    Estimate,
    digits,
    percent,
    percent_text,
    plural,
    span,
)
from bench.report.view import Point, View

_SPEED = "delivered_tok_per_s"
_HIGH_CAP_RATE = 0.1


def compared_pair(view: View) -> tuple[Point, Point] | None:
    """The diffusion and autoregressive points the headline compares: same precision, both usable.

    The released checkpoint ships in fp8, so that comes first, unless the machine emulates it.
    """
    order = ("bf16", "fp8", "fp32") if view.emulated else ("fp8", "bf16", "fp32")
    pairs = {p.precision: (p, q) for p, q in pairs_by_precision(view)}
    known = [name for name in order if name in pairs] or list(pairs)
    return pairs[known[0]] if known else None


def pairs_by_precision(view: View) -> list[tuple[Point, Point]]:
    """(diffusion, autoregressive) for every precision both were measured in."""
    rated = [p for p in view.points if p.usable and p.number(_SPEED)]
    return [
        (mine, theirs)
        for mine in rated
        for theirs in rated
        if mine.is_diffusion
        and theirs.decoding == "autoregressive"
        and mine.precision == theirs.precision
    ]


def speed_ratio(diffusion: Point, autoregressive: Point) -> float | None:
    mine, theirs = diffusion.number(_SPEED), autoregressive.number(_SPEED)
    return None if mine is None or not theirs else mine / theirs


@dataclass(frozen=True, slots=True)
class Headline:
    """The finding in one sentence, and the sentences that qualify it."""

    sentence: str
    quality: str
    others: tuple[str, ...]


def headline(view: View) -> Headline:
    pair = compared_pair(view)
    if pair is None:
        usable = [p for p in view.points if p.usable and p.number(_SPEED) is not None]
        if not usable:
            return Headline("This run holds no valid speed.", "Accuracy: n/a.", ())
        best = max(usable, key=lambda p: p.number(_SPEED) or 0)
        others = tuple(f"{_speed_text(p)}." for p in usable if p is not best)
        return Headline(
            f"{_speed_text(best)}.",
            f"{_accuracy_text(best)}. No point of the other decoding in the same precision to "
            "compare it with.",
            others,
        )
    others = tuple(
        f"In {p.precision}: {_versus(p, q)}."
        for p, q in pairs_by_precision(view)
        if p.precision != pair[0].precision
    )
    sentence = f"In {pair[0].precision}, {_versus(*pair)}."
    return Headline(sentence, quality_sentence(*pair), others)


def quality_sentence(diffusion: Point, autoregressive: Point) -> str:
    """Both accuracies, and whether they allow the speeds to be compared as equals."""
    mine, theirs = diffusion.estimate("accuracy"), autoregressive.estimate("accuracy")
    if mine.value is None or theirs.value is None:
        return "Accuracy: n/a for at least one of them, so this is speed without known quality."
    both = f"Accuracy: diffusion {_with_interval(mine)}, autoregressive {_with_interval(theirs)}."
    apart = mine.apart_from(theirs)
    if apart is None:
        return f"{both} Without intervals the two accuracies cannot be told apart or equal."
    if not apart:
        return f"{both} The intervals overlap: this run does not tell the accuracies apart."
    worse = "diffusion" if mine.value < theirs.value else "autoregressive"
    return (
        f"{both} The intervals do not overlap: {worse} is less accurate, so these speeds are not "
        "speeds at equal quality."
    )


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that limits what the numbers mean; a `serious` one changes how to read them."""

    title: str
    text: str
    serious: bool = False


def notices(view: View) -> list[Notice]:
    """Every limit of this run a reader has to know before quoting a number."""
    found = []
    if view.info.get("finished") is False or view.info.get("interrupted"):
        found.append(
            Notice(
                "Unfinished", "The run stopped early; points that are missing were planned.", True
            )
        )
    for point in view.points:
        validity, reason = (
            point.text("validity"),
            point.text("validity_reason") or "no reason given",
        )
        if validity == "invalid":
            text = f"{point.name}: {reason}. Shown, but left out of the headline."
            found.append(Notice("Invalid point", text, True))
        elif validity == "low_validity":
            found.append(Notice("Low validity", f"{point.name}: {reason}."))
    if view.one_process:
        found.append(
            Notice(
                "Screening",
                "One process a point, so there is no between-process interval. Any interval shown "
                "is within that process and too narrow to decide a comparison; "
                "measure=publish uses fresh processes.",
            )
        )
    if view.emulated:
        found.append(
            Notice(
                "Emulated precision",
                "This CPU computes its matrix products in fp32; bf16 and fp8 mean storage and "
                "rounding. Ratios between precisions say nothing about GPUs. Steps, revisions and "
                "accuracy keep their meaning.",
            )
        )
    if any(p.dummy for p in view.points):
        text = (
            "Random weights: they measure speed at a shape. Step counts, revisions, accuracy and "
            "self-correction would mean nothing and are not given."
        )
        forced = {p.count("max_denoising_steps") for p in view.diffusion if p.dummy}
        if forced:
            counts = " or ".join(str(n) for n in sorted(n for n in forced if n))
            text += f" Diffusion took {counts} denoise steps a canvas because it was told to."
        found.append(Notice("Dummy weights", text, True))
    failures = len(view.tables["failures"])
    if failures:
        found.append(Notice("Failures", f"{plural(failures, 'failure')} recorded; listed below."))
    return found


def standout(view: View) -> str:
    """The one line a terminal shows below its table."""
    invalid = sum(not p.usable for p in view.points)
    parts = [f"{plural(invalid, 'point')} invalid"] if invalid else []
    pair = compared_pair(view)
    if pair is None:
        parts.append(headline(view).sentence.rstrip("."))
    else:
        ratio = speed_ratio(*pair)
        parts.append(f"diffusion delivers {digits(ratio)}x autoregressive in {pair[0].precision}")
        mine, theirs = (p.estimate("accuracy") for p in pair)
        apart = mine.apart_from(theirs)
        accuracies = f"accuracy {percent_text(mine.value)} against {percent_text(theirs.value)}"
        verdicts = {True: ", intervals apart", False: ", intervals overlap", None: ""}
        parts.append(accuracies + verdicts[apart])
    capped = [p for p in view.diffusion if (p.number("cap_rate") or 0) > _HIGH_CAP_RATE]
    parts += [f"{p.name} hits the step cap in {percent_text(p.number('cap_rate'))}" for p in capped]
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def steps_sentence(point: Point) -> str:
    """Steps, cap rate and net correction of a diffusion point."""
    median, p90 = point.number("steps_per_canvas_median"), point.number("steps_per_canvas_p90")
    net = point.estimate("net_correction")
    corrected = NOT_AVAILABLE if net.value is None else f"{percent(net.value, signed=True)} %"
    if net.has_interval:
        corrected += f" ({span(net.lo, net.hi, scale=100)})"
    return (
        f"{point.name}: median {digits(median)} and p90 {digits(p90)} steps a canvas, "
        f"{percent_text(point.number('cap_rate'))} stopped by the cap, net correction {corrected} "
        "of problems after half the steps"
    )


def _versus(diffusion: Point, autoregressive: Point) -> str:
    ratio = speed_ratio(diffusion, autoregressive)
    return (
        f"diffusion delivered {_rate(diffusion)} and autoregressive {_rate(autoregressive)}, "
        f"a ratio of {digits(ratio)}"
    )


def _speed_text(point: Point) -> str:
    return f"{point.name} delivered {_rate(point)}"


def _rate(point: Point) -> str:
    estimate = point.estimate(_SPEED)
    if estimate.has_interval:
        return f"{digits(estimate.value)} tok/s ({span(estimate.lo, estimate.hi)})"
    processes = plural(point.count("num_processes") or 1, "process")
    return f"{digits(estimate.value)} tok/s (n = {processes})"


def _accuracy_text(point: Point) -> str:
    return f"Accuracy: {_with_interval(point.estimate('accuracy'))}"


def _with_interval(estimate: Estimate) -> str:
    text = percent_text(estimate.value)
    return (
        f"{text} ({span(estimate.lo, estimate.hi, scale=100)})" if estimate.has_interval else text
    )
