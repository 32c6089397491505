"""Which replies the autoregressive sibling has finished sooner, by their length.

Diffusion brings a canvas at a time: a reply of L tokens is there after the first canvas and
ceil(L / C) - 1 gaps. Autoregressively it is there after the first token and L - 1 more. So within
each canvas the autoregressive sibling is sooner up to some length, and short replies are its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bench.metrics import request_times
from bench.procurement.cell import Cell, NumberClass
from bench.procurement.operating_point import OperatingPoint
from bench.procurement.process_draws import log_sd, redrawn_means, redrawn_projection
from bench.stats import CONFIDENCE, process_means
from bench.store import Run

_TAIL = (1 - CONFIDENCE) / 2


@dataclass(frozen=True, slots=True)
class Deliveries:
    """When a sibling delivers, one value a process.

    Attributes:
        first_s: from the request to its first delivery, prefill included.
        gap_s: between deliveries: a canvas each, or a token.
        log_sds: of a projection's errors in both, on the log scale; None when measured.
    """

    first_s: tuple[float, ...]
    gap_s: tuple[float, ...]
    kind: NumberClass
    source: str
    log_sds: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class ReplyLength:
    """The replies that the autoregressive sibling has finished sooner.

    Attributes:
        tokens: every reply up to so many tokens; the interval is that of the processes.
        windows: all such lengths, (first, last); the first begins with 1.
    """

    tokens: Cell
    windows: tuple[tuple[int, int], ...]


def reply_length(
    diffusion: Deliveries,
    autoregressive: Deliveries,
    *,
    canvas_length: int,
    up_to: int = 4096,
    seed: int = 0,
) -> ReplyLength:
    """Lengths by the processes' geometric means, and how sure the first of them is.

    Args:
        up_to: the longest reply looked at; `tokens` equal to it means all of them.
    """
    rng = np.random.default_rng(seed)
    both = (diffusion, autoregressive)
    means = [np.exp(_logs(each).mean(axis=0)) for each in both]
    ends = _ends(means[0][None], means[1][None], canvas_length, up_to)[0]
    low = high = None
    if diffusion.log_sds or min(len(each.first_s) for each in both) > 1:
        drawn = [np.exp(logs) for logs in _resampled(both, rng)]
        found = _ends(drawn[0], drawn[1], canvas_length, up_to)
        resampled = _sooner_up_to(found, canvas_length, up_to)
        low, high = (float(q) for q in np.quantile(resampled, [_TAIL, 1 - _TAIL]))
    cell = Cell(
        value=float(_sooner_up_to(ends[None], canvas_length, up_to)[0]),
        low=low,
        high=high,
        kind=diffusion.kind,
        unit="tokens",
        definition="longest reply up to which the autoregressive sibling always finishes sooner",
        source=diffusion.source,
        why_no_interval="" if low is not None else "one process: no interval",
    )
    return ReplyLength(cell, _windows(ends, canvas_length))


def measured_deliveries(run: Run, point_id: str) -> Deliveries | None:
    """Of one point of a run, by process; None where it never delivered twice."""
    requests = run.requests
    assert requests is not None
    own = requests[requests["point_id"] == point_id]
    times = request_times(own).assign(process_id=own["process_id"])
    later = times.dropna(subset=["decode_s"])
    if later.empty or set(later["process_id"]) != set(own["process_id"]):
        return None
    blocks = own.loc[later.index]
    several = blocks["num_canvases"] - 1
    decoding = run.points.set_index("point_id").loc[point_id, "decoding"]
    if decoding == "autoregressive":
        several = blocks["delivered_tokens"] - 1
    _, first = process_means(own["first_canvas_s"], np.ones(len(own)), own["process_id"])
    seconds = blocks["last_delivery_s"] - blocks["first_canvas_s"]
    _, gap = process_means(seconds, several, blocks["process_id"])
    return Deliveries(tuple(first), tuple(gap), NumberClass.MEASURED, str(run.path))


def projected_deliveries(point: OperatingPoint) -> Deliveries | None:
    """Of a projected point; None where it never delivers twice."""
    first, gap = point.first_canvas_s, point.canvas_gap_s
    if first.value is None or gap.value is None:
        return None
    spreads = log_sd(first), log_sd(gap)
    return Deliveries((first.value,), (gap.value,), point.kind, point.source, spreads)


def _logs(given: Deliveries) -> np.ndarray:
    """(processes, 2)."""
    return np.log(np.column_stack([given.first_s, given.gap_s]))


def _resampled(both: Sequence[Deliveries], rng: np.random.Generator) -> list[np.ndarray]:
    """(resamples, 2) of each, logarithms."""
    logs = [_logs(each) for each in both]
    if both[0].log_sds is None:
        return redrawn_means(logs, rng)
    return [
        redrawn_projection(own[0], np.array(each.log_sds), rng)
        for own, each in zip(logs, both, strict=True)
    ]


def _ends(
    diffusion: np.ndarray, autoregressive: np.ndarray, canvas_length: int, up_to: int
) -> np.ndarray:
    """(n, canvases): the longest reply ending in each canvas that is sooner autoregressively.

    At most the canvas's end; below its beginning where none is.
    """
    canvas = np.arange(-(-up_to // canvas_length))
    ready_s = diffusion[:, :1] + canvas * diffusion[:, 1:]
    tokens = 1 + (ready_s - autoregressive[:, :1]) / autoregressive[:, 1:]
    # A tie is diffusion's: sooner means strictly so.
    last = np.ceil(tokens) - 1
    return np.minimum(last, np.minimum((canvas + 1) * canvas_length, up_to))


def _sooner_up_to(ends: np.ndarray, canvas_length: int, up_to: int) -> np.ndarray:
    """(n,): the longest reply up to which every one is sooner autoregressively."""
    starts = np.arange(ends.shape[1]) * canvas_length
    full = ends >= np.minimum(starts + canvas_length, up_to)
    stop = np.where(full.all(axis=1), ends.shape[1] - 1, (~full).argmax(axis=1))
    return np.maximum(ends[np.arange(len(ends)), stop], starts[stop])


def _windows(ends: np.ndarray, canvas_length: int) -> tuple[tuple[int, int], ...]:
    found: list[tuple[int, int]] = []
    for index, end in enumerate(ends):
        first = index * canvas_length + 1
        if end < first:
            continue
        if found and found[-1][1] == first - 1:
            found[-1] = found[-1][0], int(end)
        else:
            found.append((first, int(end)))
    return tuple(found)
