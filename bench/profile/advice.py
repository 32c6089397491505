"""What a profile suggests: rules with thresholds, each with the numbers that set it off.

A rule says what to look at, not what it would bring: that is measured with `canvasbench run`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd

from bench.digits import digits, tidy
from bench.profile.folder import Profile
from bench.profile.names import MAIN_PHASES, OTHER
from bench.report.style import percent_text

_MAX_GAP_SHARE = 0.15
_MIN_FLOOR_SHARE = 0.5
_WORTH_SHARE = 0.10
_MAX_OVERHEAD = 0.25
_MAX_OTHER_SHARE = 0.10
_SHORT_KERNEL_US = 5.0
_MAX_SHORT_SHARE = 0.25
_FULL_MEMORY = 0.9
_MAX_DELIVERY_SHARE = 0.10


@dataclass(frozen=True, slots=True)
class Advice:
    """One suggestion.

    Attributes:
        text: what to look at or try.
        evidence: the number that set it off and its threshold.
        weight: milliseconds of a forward that it is about; the largest come first.
    """

    title: str
    text: str
    evidence: str
    weight: float


def advise(profile: Profile) -> list[Advice]:
    """All that applies, the weightiest first."""
    rules: tuple[Callable[[Profile], Iterator[Advice]], ...] = (
        _gaps,
        _far_from_floor,
        _short_kernels,
        _unlabelled,
        _deliveries,
        _full_memory,
        _overhead,
    )
    found = [advice for rule in rules for advice in rule(profile)]
    return sorted(found, key=lambda advice: -advice.weight)


def main_rows(profile: Profile) -> pd.DataFrame:
    """The breakdown of a denoise or decode step."""
    rows = profile.panes.breakdown
    return rows[rows["phase"].isin(MAIN_PHASES)]


def _phase(rows: pd.DataFrame) -> str:
    return f"a {rows['phase'].iloc[0]} step"


def _gaps(profile: Profile) -> Iterator[Advice]:
    rows = main_rows(profile)
    gap_ms, step_ms = float(rows["gap_ms"].sum()), float(rows["total_ms"].sum())
    if not step_ms or gap_ms / step_ms <= _MAX_GAP_SHARE:
        return
    evidence = (
        f"{percent_text(gap_ms / step_ms)} of {_phase(rows)} ({digits(gap_ms)} of "
        f"{digits(step_ms)} ms) passed with no work; threshold {100 * _MAX_GAP_SHARE:g} %"
    )
    executed = str(profile.info.get("executed"))
    if profile.info["on_gpu"]:
        late_ms = _late_ms(profile)
        text = (
            f"The device waits for launches; for {digits(late_ms)} ms the host had not issued the "
            "next one. A captured graph issues one launch a step: compare execution=cuda_graph."
        )
    else:
        text = "Python runs between operations: compare execution=compiled, or a larger batch."
    if executed != "eager":
        text = f"With execution={executed}, too, something waits: the table of gaps says where."
    yield Advice("Time in which nothing runs", text, evidence, gap_ms)


def _late_ms(profile: Profile) -> float:
    gaps = profile.panes.gaps
    return float(gaps[gaps["phase"].isin(MAIN_PHASES)]["late_ms"].sum())


def _far_from_floor(profile: Profile) -> Iterator[Advice]:
    """Of what ran; the time in which nothing did has a rule of its own."""
    rows = main_rows(profile)
    rows = rows.assign(reached=rows["floor_ms"] / rows["busy_ms"])
    work = "kernels" if profile.info["on_gpu"] else "operations"
    far = rows[(rows["reached"] < _MIN_FLOOR_SHARE) & (rows["share"] > _WORTH_SHARE)]
    for row in far.to_dict("records"):
        busy_ms, floor_ms = float(row["busy_ms"]), float(row["floor_ms"])
        yield Advice(
            f"{str(row['op_group']).replace('_', ' ').capitalize()} far from the floor",
            f"Its {work} move or compute more than they have to, or reach less of the device's "
            f"rates: the table of {work} says which.",
            f"{digits(busy_ms)} ms of {work} against a floor of {digits(floor_ms)} ms "
            f"({percent_text(row['reached'])}; threshold {100 * _MIN_FLOOR_SHARE:g} %), "
            f"{percent_text(row['share'])} of {_phase(rows)} with what is between them",
            busy_ms - floor_ms,
        )


def _short_kernels(profile: Profile) -> Iterator[Advice]:
    kernels = profile.panes.kernels
    own = kernels[kernels["phase"].isin(MAIN_PHASES)]
    short = own[own["mean_us"] < _SHORT_KERNEL_US]
    total_ms, short_ms = float(own["kernel_ms"].sum()), float(short["kernel_ms"].sum())
    if total_ms and short_ms / total_ms > _MAX_SHORT_SHARE:
        yield Advice(
            "Many short kernels",
            "Each is about as short as its launch: fused ones read and write their data once.",
            f"{tidy(float(short['launches'].sum()))} launches a step of less than "
            f"{_SHORT_KERNEL_US:g} us each take {percent_text(short_ms / total_ms)} of its kernel "
            f"time; threshold {100 * _MAX_SHORT_SHARE:g} %",
            short_ms,
        )


def _unlabelled(profile: Profile) -> Iterator[Advice]:
    rows = main_rows(profile)
    other = rows[rows["op_group"] == OTHER]
    share = float(other["share"].sum())
    if share <= _MAX_OTHER_SHARE:
        return
    if profile.info.get("executed") == "eager":
        text = "The table of operators says what they are; no floor covers them."
    else:
        text = "Steps ran as the point asks, so op groups are mostly unknown: profile them eagerly."
    yield Advice(
        "Operations in no op group",
        text,
        f"{percent_text(share)} of {_phase(rows)}; threshold {100 * _MAX_OTHER_SHARE:g} %",
        float(other["total_ms"].sum()),
    )


def _deliveries(profile: Profile) -> Iterator[Advice]:
    steps = profile.panes.steps
    own = steps[steps["phase"] == "delivery"]
    total_ms, delivery_ms = float(steps["parts_ms"].sum()), float(own["parts_ms"].sum())
    if total_ms and delivery_ms / total_ms > _MAX_DELIVERY_SHARE:
        yield Advice(
            "Deliveries take long",
            "Text and traces go to host memory once a block: trace=counts copies less, and an "
            "autoregressive token is a block of its own.",
            f"{percent_text(delivery_ms / total_ms)} of the request; threshold "
            f"{100 * _MAX_DELIVERY_SHARE:g} %",
            delivery_ms / len(own),
        )


def _full_memory(profile: Profile) -> Iterator[Advice]:
    for index, device in enumerate(profile.trace.devices):
        capacity = device.get("totalGlobalMem")
        memory = profile.panes.memory
        held = memory[memory["device"] == f"cuda:{device.get('id', index)}"]["reserved_bytes"]
        if not isinstance(capacity, int | float) or held.dropna().empty:
            continue
        peak = float(held.max())
        if peak / capacity > _FULL_MEMORY:
            yield Advice(
                "Device memory nearly full",
                "A larger batch or a longer prompt may not fit: fp8 weights take half of bf16's.",
                f"{digits(peak / 2**30)} of {digits(capacity / 2**30)} GiB reserved; threshold "
                f"{100 * _FULL_MEMORY:g} %",
                0.0,
            )


def _overhead(profile: Profile) -> Iterator[Advice]:
    rows: Any = profile.panes.overhead
    for row in rows[rows["phase"].isin(MAIN_PHASES)].to_dict("records"):
        if row["overhead"] is not None and row["overhead"] > _MAX_OVERHEAD:
            yield Advice(
                "The profiler itself takes long",
                "It costs about the same an operation, so groups of many short operations look "
                "larger here than they are. Compare profiles with each other, not with runs.",
                f"a {row['phase']} step took {digits(row['profiled_ms'])} ms with it and "
                f"{digits(row['plain_before_ms'])} and {digits(row['plain_after_ms'])} ms without "
                f"({percent_text(row['overhead'])} more; threshold {100 * _MAX_OVERHEAD:g} %)",
                row["profiled_ms"] - (row["plain_before_ms"] + row["plain_after_ms"]) / 2,
            )
