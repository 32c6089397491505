"""What is golden of a point: a row a prompt, and the facts that decide what those rows must be."""

import json
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import pandas as pd

from bench.comparison import fingerprint
from bench.comparison.matching import MeasuredPoint
from bench.metrics import first_repeat
from bench.store import Run

_CANVAS_FIELDS = (
    "steps",
    "content_tokens",
    "revised_after_accept",
    "flips",
    "revocations",
)
_WORK = (
    "decoding",
    "precision",
    "weights_sha256",
    "workload",
    "prompts_sha256",
    "max_new_tokens",
    "eos_policy",
    "vocabulary",
)
_MACHINE = (
    "device",
    "driver",
    "cuda",
    "torch",
    "cpu",
    "threads",
    "backend",
    "kernels",
    "execution",
    "commit_mode",
    "batch_size",
    "emulated",
)

Facts = dict[str, str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """How one prompt was answered; in the tuples a number a canvas, None where not traced.

    Attributes:
        text: of the delivered tokens. The tiny pair's tokens are a character each, so that with
            `delivered_tokens`, which counts the end, it tells the ids.
        revised_after_accept: tokens delivered other than they stood when first accepted.
        flips: changes of a content position's likeliest token between two steps.
        revocations: of accepted content positions.
    """

    request_id: int
    prompt: str
    text: str
    delivered_tokens: int
    finish_reason: str
    correct: bool | None
    steps: tuple[int, ...]
    content_tokens: tuple[int, ...]
    revised_after_accept: tuple[int | None, ...]
    flips: tuple[int | None, ...]
    revocations: tuple[int | None, ...]


COLUMNS = tuple(column.name for column in fields(Answer))


@dataclass(frozen=True, slots=True)
class GoldenPoint:
    """A point's answers, sorted by prompt.

    Attributes:
        work: what was done; answers to other work cannot be compared.
        machine: what decides the last bits. Where it is the same too, answers must be the same;
            elsewhere they may differ by rounding.
        fault: why the point is invalid; None where it is not.
    """

    point_id: str
    work: Facts
    machine: Facts
    answers: tuple[Answer, ...]
    fault: str | None = None

    def measured(self) -> MeasuredPoint:
        """The answers as the columns that `bench.comparison` reads of contents."""
        place = {"process_id": 0, "repeat": 0}
        requests = [
            {
                **place,
                "request_id": answer.request_id,
                "delivered_tokens": answer.delivered_tokens,
                "correct": answer.correct,
            }
            for answer in self.answers
        ]
        canvases = [
            {**place, "request_id": answer.request_id}
            | {name: getattr(answer, name)[index] for name in _CANVAS_FIELDS}
            | {"flip_opportunities": answer.content_tokens[index] * (answer.steps[index] - 1)}
            for answer in self.answers
            for index in range(len(answer.steps))
        ]
        tables = {
            "requests": pd.DataFrame(requests),
            "canvases": pd.DataFrame(canvases),
            "steps": pd.DataFrame(columns=["phase", "process_id", "device_ms"]),
        }
        return MeasuredPoint(self.point_id, self.work, tables)


def golden_points(run: Run) -> list[GoldenPoint]:
    """Every point of a run that has weights with a hash; contents as its first repeat has them.

    Raises:
        ValueError: the run has no finished point, or a damaged table.
    """
    known = run.points[run.points["weights_sha256"].notna()]
    rows = [{str(k): v for k, v in row.items()} for row in known.to_dict("records")]
    return sorted((_point(run, row) for row in rows), key=lambda point: point.point_id)


def _point(run: Run, row: Mapping[str, Any]) -> GoldenPoint:
    facts = fingerprint(run.info, row)
    sampler: dict[str, Any] = json.loads(facts["sampler"] or "{}")
    return GoldenPoint(
        point_id=str(row["point_id"]),
        work={name: facts.get(name) for name in _WORK}
        | {"seed": str(row["seed"])}
        | {f"sampler.{name}": json.dumps(value) for name, value in sorted(sampler.items())},
        machine={name: facts.get(name) for name in _MACHINE}
        | {"cpu_capability": run.info.get("machine", {}).get("cpu_capability")},
        answers=_answers(run, str(row["config_hash"])),
        fault=f"invalid: {row['validity_reason']}" if row["validity"] == "invalid" else None,
    )


def _answers(run: Run, config_hash: str) -> tuple[Answer, ...]:
    requests = _first(run.requests, config_hash)
    canvases = _first(run.canvases, config_hash)
    by_prompt: dict[int, list[dict[Hashable, Any]]] = {}
    if not canvases.empty:
        for row in canvases.sort_values("canvas_index").to_dict("records"):
            by_prompt.setdefault(int(row["request_id"]), []).append(row)
    return tuple(
        Answer(
            request_id=int(row["request_id"]),
            prompt=str(row["prompt"]),
            text=str(row["text"]),
            delivered_tokens=int(row["delivered_tokens"]),
            finish_reason=str(row["finish_reason"]),
            correct=None if pd.isna(row["correct"]) else bool(row["correct"]),
            **_by_canvas(by_prompt.get(row["request_id"], [])),
        )
        for row in requests.sort_values("request_id").to_dict("records")
    )


def _by_canvas(canvases: list[dict[Hashable, Any]]) -> dict[str, Any]:
    return {name: tuple(_count(row[name]) for row in canvases) for name in _CANVAS_FIELDS}


def _count(value: Any) -> int | None:
    return None if pd.isna(value) else int(value)


def _first(table: pd.DataFrame | None, config_hash: str) -> pd.DataFrame:
    if table is None:
        return pd.DataFrame()
    return first_repeat(table[table["config_hash"] == config_hash])
