"""Runs of `backend=openai` against a scripted server: whole ones in this process, or tables."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from bench import open_run
from bench.build import build_sessions, build_workload, check_points, decoding_of
from bench.collect import point_note, repeat_tables, telemetry_tables
from bench.compose import Point, _digest, compose_points, restore_point
from bench.merge import empty, publish_tables
from bench.plan import blocks
from bench.report import render
from bench.runner import PointRun, measure_repeat
from bench.store import Run, RunFolder
from bench.summary import point_row
from bench.tables import COLUMNS
from bench.worker import close, describe, measure, prepare
from tests.bench.backends.openai.scripted_server import (
    DONE,
    Script,
    Server,
    Wire,
    refuses,
    sends,
    text_event,
)
from tests.bench.backends.openai.test_session import running

ANSWER = sends(text_event("abcd", usage=32), text_event("ef", finish="stop", usage=35), DONE)
"""35 tokens in two canvases of 32, the last of them an EOS that is not shown."""
MODELS = refuses("200 OK", b'{"data": [{"id": "dg", "owned_by": "scripted"}]}')
VERSION = refuses("200 OK", b'{"version": "1.2"}')
USUAL = (
    *("backend=openai", "backend.served_model=dg", "model=tiny-diffusion", "precision=fp32"),
    *("workload.num_prompts=4", "measure.num_repeats=1", "measure.min_warmup_prompts=0"),
    "threads=1",
)


class Scripts(dict[str, Script]):
    """Pages by path; every other request by its number."""

    def __init__(self, choose: Callable[[int], Script], pages: Mapping[str, Script]) -> None:
        super().__init__({"/v1/models": MODELS, "/version": VERSION} | dict(pages))
        self._choose, self.count = choose, 0

    def __missing__(self, prompt: str) -> Script:
        self.count += 1
        return self._choose(self.count - 1)


def every(script: Script) -> Callable[[int], Script]:
    """One script for all requests."""
    return lambda _: script


def slow(seconds: float, script: Script = ANSWER) -> Script:
    """A script after a pause."""

    async def later(wire: Wire) -> None:
        await asyncio.sleep(seconds)
        await script(wire)

    return later


Knobs = Mapping[str, Any]
"""Values of a configuration by dotted keys."""


@cache
def composed(*overrides: str) -> Point:
    """The usual point with some of it overridden; composing takes longer than asking."""
    own = [*USUAL, "backend.url=http://127.0.0.1:1/v1", *overrides]
    (point,) = compose_points(own, decoding_of, default_sweep=False)
    return point


def changed(knobs: Knobs, point: Point | None = None) -> Point:
    """A point, the usual one if none is given, as it would be composed with other knobs."""
    point = point or composed()
    resolved = deepcopy(point.resolved)
    for key, value in knobs.items():
        *groups, name = key.split(".")
        place = resolved
        for group in groups:
            place = place[group]
        assert name in place, key
        place[name] = value
    named = "-".join([point.point_id, *(f"{key}={value}" for key, value in knobs.items())])
    return restore_point(named.replace("/", "_"), _digest(resolved), resolved)


def ran(
    folder: Path,
    choose: Callable[[int], Script],
    *points: Knobs,
    pages: Mapping[str, Script] | None = None,
    page: bool = False,
) -> tuple[Run, Server]:
    """A run as the command makes it, in this process: a point for each of the knobs.

    Args:
        page: whether its page and plots are drawn, which takes seconds.
    """
    with running(Scripts(choose, pages or {})) as server:
        at = changed({"backend.url": server.url})
        at = replace(at, point_id=composed().point_id)
        own = [changed(knobs, at) for knobs in points or ({},)]
        return measured(folder, own, page=page), server


def measured(folder: Path, points: Sequence[Point], *, page: bool = False) -> Run:
    """Points, measured here and merged."""
    check_points([point.config for point in points])
    configs = {point.point_id: point.resolved for point in points}
    run_folder = RunFolder.create(folder, {"config": configs, "points": list(configs)})
    for block in blocks(points, set(), 0):
        for task in block:
            runs = prepare(describe(task))
            try:
                for run in runs:
                    for repeat in range(run.point.config.measure.num_repeats):
                        measure(run, repeat, folder, lambda: None, own_pid=1)
            finally:
                close(run.session for run in runs)
    publish_tables(folder, keep_shards=False)
    run_folder.note(finished=True)
    run_folder.release()
    run = open_run(folder)
    if page:
        render(run)
    return run


Tables = dict[str, pd.DataFrame]


@cache
def _empty(name: str) -> pd.DataFrame:
    return empty(name)


def tabled(
    choose: Callable[[int], Script],
    *,
    model: str = "tiny-diffusion",
    prompts: int = 4,
    repeats: int = 1,
    warm_up: int = 0,
    pages: Mapping[str, Script] | None = None,
    **knobs: Any,
) -> tuple[dict[str, Any], Tables, Server]:
    """The point's row and its tables, without a folder; PORT in a knob is the server's."""
    point = composed() if model == "tiny-diffusion" else composed(f"model={model}")
    with running(Scripts(choose, pages or {})) as server:
        told = {
            name: value.replace("PORT", str(server.port)) if isinstance(value, str) else value
            for name, value in knobs.items()
        }
        config = replace(
            point.config,
            backend=replace(point.config.backend, url=server.url, **told),
            workload=replace(point.config.workload, num_prompts=prompts),
            measure=replace(
                point.config.measure, min_warmup_prompts=warm_up, max_warmup_prompts=warm_up
            ),
        )
        check_points([config])
        (session,) = build_sessions([point.point_id], [config], 0)
        run = PointRun(replace(point, config=config), session, build_workload(config))
        parts: list[Tables] = []
        for repeat in range(repeats):
            found = measure_repeat(run, repeat, lambda: None)
            parts += [repeat_tables(run, found, "here")]
            parts += [telemetry_tables(run, repeat, found.window_s, [], "here")]
        close([session])
    tables = {
        name: pd.concat([part[name] for part in parts if name in part] or [_empty(name)])
        for name in COLUMNS
        if name != "points"
    }
    row = point_row(tables, point_note(run)["knobs"])
    return {name: row.get(name) for name in COLUMNS["points"]}, tables, server
