"""From a run's tables to what can be played back.

A run keeps the positions of sample canvases only (`bench.rows.position_rows`): the longest denoised
of each task, of the first repeat; with trace=full all canvases of their requests. Those are
replayed; canvases that were not kept are counted.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from bench.replay.clock import canvas_step_ends_s, deliveries_s, token_ends_s
from bench.replay.data import Clock, Generation, Replay, Sibling, begin_with
from bench.report.states import SampleCanvas, traced_canvases
from bench.report.view import Point, View, as_number

_CONDITIONING = "self_conditioning"
_SAME = ("device", "precision", "batch_size")
"""What a sibling must share, so that one clock can be read for both."""
_ALIKE = ("backend", "kernels", "execution", "workload", "seed")
"""Among several siblings the one that shares most of these."""

_Key = tuple[str, str]
"""A point's id and a request's."""


def replayable(view: View) -> Replay:
    """Every generation with a traced canvas, in the order of points and requests.

    Raises:
        ValueError: there is none; what it takes is said.
    """
    tables = _Tables.of(view)
    found = tuple(
        _generation(view, point, key, tables)
        for point in view.diffusion
        for key in sorted(tables.traced, key=lambda key: int(key[1]))
        if key[0] == point.point_id
    )
    if not found:
        raise ValueError(
            f"run {view.path} has no canvas to replay; it takes a valid diffusion point with "
            "trained weights and trace=positions or full"
        )
    return Replay(view, found, begin_with(found))


@dataclass(frozen=True, slots=True)
class _Tables:
    """The first repeat of every point, by point and request."""

    traced: Mapping[_Key, list[SampleCanvas]]
    requests: Mapping[_Key, Mapping[str, Any]]
    canvases: Mapping[_Key, pd.DataFrame]
    steps: Mapping[_Key, pd.DataFrame]

    @classmethod
    def of(cls, view: View) -> "_Tables":
        traced: dict[_Key, list[SampleCanvas]] = {}
        for canvas in traced_canvases(view.table("positions", "point_id")):
            traced.setdefault((canvas.point_id, canvas.request_id), []).append(canvas)
        rows = view.content("requests", "request_id").to_dict("records")
        return cls(
            traced,
            {(str(r["point_id"]), str(r["request_id"])): _by_name(r) for r in rows},
            dict(_parts(view.content("canvases", "request_id", "canvas_index"))),
            dict(_parts(view.content("steps", "request_id", "canvas_index", "phase", "device_ms"))),
        )


def _by_name(row: Mapping[Any, Any]) -> Mapping[str, Any]:
    return {str(name): value for name, value in row.items()}


def _parts(table: pd.DataFrame) -> Iterator[tuple[_Key, pd.DataFrame]]:
    if table.empty:
        return
    for (point_id, request_id), own in table.groupby(["point_id", "request_id"]):
        yield (str(point_id), str(request_id)), own


def _generation(view: View, point: Point, key: _Key, tables: _Tables) -> Generation:
    row = tables.requests.get(key, {})
    sibling = _sibling(view, point, key[1], tables)
    traced = tuple(tables.traced[key])
    before: Mapping[int, int] = {}
    if (canvases := tables.canvases.get(key)) is not None and "content_tokens" in canvases:
        ordered = canvases.sort_values("canvas_index")
        tokens = ordered["content_tokens"].cumsum() - ordered["content_tokens"]
        before = dict(zip(ordered["canvas_index"].astype(int), tokens.astype(int), strict=True))
    return Generation(
        point=point,
        request_id=key[1],
        task=traced[0].task,
        prompt=_text(row, "prompt"),
        text=_text(row, "text"),
        answer=_text(row, "answer"),
        correct=_flag(row, "correct"),
        delivered_tokens=_count(row, "delivered_tokens"),
        num_canvases=_count(row, "num_canvases"),
        wall_s=as_number(row.get("wall_s")),
        canvases=traced,
        tokens_before=before,
        clock=_clock(row, key, tables),
        sibling=sibling,
        conditioned=_conditioned(_config(view, point.point_id)),
        other_conditioning=_other_conditioning(view, point.point_id),
    )


def _clock(row: Mapping[str, Any], key: _Key, tables: _Tables) -> Clock:
    """The steps' ends, or why there are none."""
    if _count(row, "batch_size") not in (None, 1):
        return Clock({}, "its prompts were answered in batches; use a run with batch_size=1")
    forwards, canvases = tables.steps.get(key), tables.canvases.get(key)
    at_s = None if canvases is None else deliveries_s(row, canvases)
    if forwards is None or at_s is None:
        return Clock({}, "the run did not record when its forwards ended")
    return Clock(canvas_step_ends_s(forwards, at_s), "")


def _sibling(view: View, point: Point, request_id: str, tables: _Tables) -> Sibling | None:
    """The autoregressive point that was asked the same prompt in the same circumstances."""
    prompt = _text(tables.requests.get((point.point_id, request_id), {}), "prompt")
    if prompt is None:
        return None
    others = [
        other
        for other in view.points
        if other.decoding == "autoregressive"
        and other.usable
        and not other.dummy
        and all(other.text(name) == point.text(name) for name in _SAME)
        and _text(tables.requests.get((other.point_id, request_id), {}), "prompt") == prompt
    ]
    if not others:
        return None
    best = max(others, key=lambda other: sum(other.text(n) == point.text(n) for n in _ALIKE))
    key = (best.point_id, request_id)
    row, forwards = tables.requests[key], tables.steps.get(key)
    tokens = _count(row, "delivered_tokens") or 0
    alone = _count(row, "batch_size") in (None, 1)
    return Sibling(
        point=best,
        text=_text(row, "text") or "",
        correct=_flag(row, "correct"),
        delivered_tokens=tokens,
        token_end_s=token_ends_s(forwards, row, tokens) if forwards is not None and alone else None,
        wall_s=as_number(row.get("wall_s")),
    )


def _config(view: View, point_id: str) -> Mapping[str, Any]:
    configs = view.info.get("config")
    own = configs.get(point_id) if isinstance(configs, Mapping) else None
    return own if isinstance(own, Mapping) else {}


def _conditioned(config: Mapping[str, Any]) -> bool | None:
    sampler = config.get("sampler")
    found = sampler.get(_CONDITIONING) if isinstance(sampler, Mapping) else None
    return found if isinstance(found, bool) else None


def _other_conditioning(view: View, point_id: str) -> str | None:
    """The point whose configuration differs from this one's in self-conditioning alone."""
    own = _config(view, point_id)
    conditioned = _conditioned(own)
    if conditioned is None:
        return None
    wanted = {**own, "sampler": {**own["sampler"], _CONDITIONING: not conditioned}}
    found = (p.point_id for p in view.diffusion if _config(view, p.point_id) == wanted)
    return next(found, None)


def _text(row: Mapping[str, Any], name: str) -> str | None:
    value = row.get(name)
    return None if value is None or pd.isna(value) else str(value)


def _flag(row: Mapping[str, Any], name: str) -> bool | None:
    number = as_number(row.get(name))
    return None if number is None else bool(number)


def _count(row: Mapping[str, Any], name: str) -> int | None:
    number = as_number(row.get(name))
    return None if number is None else int(number)
