"""What a run says in words: the headline, and the line that stands out in a terminal.

Speed is never stated without quality: a sentence that holds two speeds against each other says when
the accuracies differ significantly or are unknown. Invalid points are compared with nothing.
"""

from dataclasses import dataclass

from bench.digits import digits, tidy
from bench.report.quality import Quality, compare_quality
from bench.report.style import percent_text, plural, with_interval
from bench.report.view import Point, View

_SPEED = "delivered_tok_per_s"
_HIGH_CAP_RATE = 0.1
_SHARED = ("backend", "batch_size", "prompts_sha256", "max_new_tokens", "eos_policy")


def compared_pair(view: View) -> tuple[Point, Point] | None:
    """The diffusion and autoregressive points the headline compares: same precision, both usable.

    The released checkpoint ships in fp8, so that comes first, unless the machine emulates it.
    """
    order = ("bf16", "fp8", "fp32") if view.emulated else ("fp8", "bf16", "fp32")
    pairs: dict[str, tuple[Point, Point]] = {}
    for pair in pairs_by_precision(view):
        pairs.setdefault(pair[0].precision, pair)
    known = [name for name in order if name in pairs] or list(pairs)
    return pairs[known[0]] if known else None


def pairs_by_precision(view: View) -> list[tuple[Point, Point]]:
    """(diffusion, autoregressive) for every precision in which both did the same, the same way."""
    rated = [p for p in view.points if p.usable and p.number(_SPEED)]
    return [
        (mine, theirs)
        for mine in rated
        for theirs in rated
        if mine.is_diffusion
        and theirs.decoding == "autoregressive"
        and mine.precision == theirs.precision
        and _alike(mine, theirs)
    ]


def _alike(diffusion: Point, autoregressive: Point) -> bool:
    """Run by the same engine on the same work; only diffusion may have a sampler's axis besides."""
    same = all(diffusion.text(name) == autoregressive.text(name) for name in _SHARED)
    axes = set(autoregressive.variant.split("-")) - {""}
    return same and axes <= set(diffusion.variant.split("-"))


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
    """Speed, and in the same breath whether the quality allows to rank it."""
    pair = compared_pair(view)
    if pair is None:
        return _without_pair(view)
    others = tuple(
        f"In {p.precision}: {_versus(view, p, q)}."
        for p, q in pairs_by_precision(view)
        if (p, q) != pair
    )
    sentence = f"In {pair[0].precision}, {_versus(view, *pair)}."
    return Headline(sentence, compare_quality(view, *pair).sentence, others)


def _without_pair(view: View) -> Headline:
    usable = [p for p in view.points if p.usable and p.number(_SPEED) is not None]
    if not usable:
        return Headline("This run holds no valid speed.", "Accuracy: n/a.", ())
    best = max(usable, key=lambda p: p.number(_SPEED) or 0)
    others = tuple(
        f"{_speed_text(p)}, accuracy {with_interval(p.estimate('accuracy'), '%', scale=100)}"
        f"{_beside(compare_quality(view, p, best))}."
        for p in usable
        if p is not best
    )
    invalid = [p.name for p in view.points if not p.usable and p.decoding != best.decoding]
    alone = (
        f"It stands alone: {' and '.join(invalid)} is invalid."
        if invalid
        else "No point of the other decoding in the same precision to compare it with."
    )
    accuracy = with_interval(best.estimate("accuracy"), "%", scale=100)
    return Headline(f"{_speed_text(best)}.", f"Accuracy: {accuracy}. {alone}", others)


def _beside(quality: Quality) -> str:
    """How a slower point answers, against the fastest one."""
    name = quality.theirs.name
    return {
        True: f", which differs significantly from that of {name}: no ranking at equal quality",
        False: f", not told apart from that of {name}",
        None: "",
    }[quality.differs]


def standout(view: View) -> str:
    """The one line a terminal shows below its table and notices."""
    parts = []
    pair = compared_pair(view)
    if pair is None:
        parts.append(headline(view).sentence.rstrip("."))
    else:
        ratio = speed_ratio(*pair)
        parts.append(f"diffusion delivers {digits(ratio)}x autoregressive in {pair[0].precision}")
        parts.append(compare_quality(view, *pair).remark)
    capped = [
        p for p in view.diffusion if p.usable and (p.number("cap_rate") or 0) > _HIGH_CAP_RATE
    ]
    parts += [f"{p.name} hits the step cap in {percent_text(p.number('cap_rate'))}" for p in capped]
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def steps_sentence(point: Point) -> str:
    """Steps, cap rate and net correction of a diffusion point."""
    median, p90 = point.number("steps_per_canvas_median"), point.number("steps_per_canvas_p90")
    corrected = with_interval(point.estimate("net_correction"), "%", scale=100, signed=True)
    return (
        f"{point.name}: median {tidy(median)} and p90 {tidy(p90)} steps a canvas, "
        f"{percent_text(point.number('cap_rate'))} stopped by the cap, net correction {corrected} "
        "of problems after half the steps"
    )


def _versus(view: View, diffusion: Point, autoregressive: Point) -> str:
    quality = compare_quality(view, diffusion, autoregressive)
    return (
        f"{_without_precision(diffusion)} delivered {_rate(diffusion)} and "
        f"{_without_precision(autoregressive)} {_rate(autoregressive)}, "
        f"a ratio of {digits(speed_ratio(diffusion, autoregressive))}{quality.clause}"
    )


def _without_precision(point: Point) -> str:
    return f"{point.decoding} {point.variant}".rstrip()


def _speed_text(point: Point) -> str:
    return f"{point.name} delivered {_rate(point)}"


def _rate(point: Point) -> str:
    estimate = point.estimate(_SPEED)
    processes = plural(point.count("num_processes") or 1, "process")
    said = with_interval(estimate, "tok/s")
    return said if estimate.has_interval else f"{said} (n = {processes})"
