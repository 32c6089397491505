"""From a run folder's tables to a recording of one of its points.

Contents come from the first time a prompt was answered, times from every time. Requests of one
batch share its times to the last bit, which tells batches apart.

Legend: T steps, L canvas positions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.backends import Forward
from bench.backends.simulated.recording import (
    EOS,
    PAD,
    Pace,
    RecordedCanvas,
    RecordedRepair,
    RecordedRequest,
    Recording,
    Vocabulary,
    prompt_ids,
)
from bench.backends.simulated.traces import CanvasCounts, make_canvas, plain_counts
from bench.phases import DENOISING
from bench.store import open_run

_ANSWER = ("process_id", "repeat", "request_id")
_CANVAS = ("request_id", "canvas_index")

Row = dict[str, Any]
Groups = dict[tuple[Any, ...], list[Row]]


def read_recording(path: str | Path, point_id: str | None = None) -> Recording:
    """The recording of a point; `point_id` may be left out where the run has a single one.

    Raises:
        ValueError: no readable run, no such point, or one without requests; valid ones are listed.
    """
    run = open_run(path)
    known = run.points["point_id"].tolist()
    if point_id is None and len(known) > 1:
        raise ValueError(f"run {path} has several points, choose one: {', '.join(known)}")
    chosen = known[0] if point_id is None else point_id
    if chosen not in known:
        raise ValueError(f"run {path} has no point {chosen!r}; valid: {', '.join(known)}")

    def rows(table: str) -> list[Row]:
        found = run.table(table)
        return [] if found is None else _rows(found[found["point_id"] == chosen])

    (point,) = rows("points")
    requests, steps = rows("requests"), rows("steps")
    if not requests:
        raise ValueError(f"point {chosen!r} of run {path} has no requests to replay")
    answers = _Answers(
        Vocabulary(),
        point,
        canvases=_grouped(rows("canvases"), _ANSWER),
        steps=_grouped(steps, _ANSWER),
        positions=_grouped(rows("positions"), _CANVAS),
    )
    paces = _paces(requests, answers.canvases, answers.steps)
    repairs = {row["request_id"]: _repair(row) for row in rows("repairs")}
    first: dict[int, Row] = {}
    for row in sorted(requests, key=lambda row: (row["process_id"], row["repeat"])):
        first.setdefault(row["request_id"], row)
    eos_ids = answers.eos_ids(first)
    return Recording(
        model=point["model"],
        decoding=point["decoding"],
        canvas_length=point["canvas_length"],
        weights=point["weights"],
        weights_sha256=point["weights_sha256"],
        emulated=point["emulated"],
        max_new_tokens=point["max_new_tokens"],
        eos_policy=point["eos_policy"],
        trace=point["trace"],
        vocabulary=answers.vocabulary,
        requests=tuple(
            answers.request(first[i], eos_ids, paces[i], repairs.get(i)) for i in sorted(first)
        ),
        phase_s=_phase_s(steps),
        experts=_experts(rows("experts"), sorted(first), point["batch_size"]),
        weight_bytes_per_step=point["weight_bytes_per_step"],
    )


def _rows(table: pd.DataFrame) -> list[Row]:
    """Rows as plain values; unknown is None."""
    plain = table.astype(object)
    found = plain.where(plain.notna(), None).to_dict("records")
    return [{str(name): value for name, value in row.items()} for row in found]


def _grouped(rows: Sequence[Row], keys: Sequence[str]) -> Groups:
    groups: Groups = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    return groups


@dataclass(frozen=True, slots=True)
class _Answers:
    """A point's answers, to be made into token ids and traces again."""

    vocabulary: Vocabulary
    point: Row
    canvases: Groups
    steps: Groups
    positions: Groups

    def eos_ids(self, first: Mapping[int, Row]) -> frozenset[int]:
        """The recorded model's ids that end a sequence, as far as traced canvases show them."""
        found = set()
        for (request_id, index), rows in self.positions.items():
            canvas, is_last = self._canvas_row(first[request_id], index)
            at_eos = first[request_id]["finish_reason"] == "eos" and is_last
            content = canvas["content_tokens"]
            if at_eos or content < self.point["canvas_length"]:
                final = max(row["step"] for row in rows)
                found |= {
                    row["argmax"]
                    for row in rows
                    if row["step"] == final and row["position"] == content - 1
                }
        return frozenset(found)

    def request(
        self,
        row: Row,
        eos_ids: frozenset[int],
        paces: Mapping[int, Sequence[Pace]],
        repair: RecordedRepair | None,
    ) -> RecordedRequest:
        ends = row["finish_reason"] == "eos"
        tokens = self.vocabulary.pieces(row["text"], row["delivered_tokens"] - ends)
        tokens += [EOS] * ends
        is_diffusion = self.point["decoding"] == "diffusion"
        return RecordedRequest(
            request_id=row["request_id"],
            task=row["task"],
            prompt=row["prompt"],
            answer=row["answer"],
            prompt_ids=prompt_ids(self.vocabulary, row["prompt"], row["prompt_tokens"]),
            canvases=self._request_canvases(row, tokens, eos_ids) if is_diffusion else (),
            tokens=() if is_diffusion else tuple(tokens),
            paces=paces,
            repair=repair,
        )

    def _canvas_row(self, request: Row, index: int) -> tuple[Row, bool]:
        """A request's canvas, and whether it is its last."""
        own = self.canvases[tuple(request[key] for key in _ANSWER)]
        found = next(row for row in own if row["canvas_index"] == index)
        return found, index == max(row["canvas_index"] for row in own)

    def _request_canvases(
        self, request: Row, tokens: list[int], eos_ids: frozenset[int]
    ) -> tuple[RecordedCanvas, ...]:
        key = tuple(request[name] for name in _ANSWER)
        denoised = _grouped(
            [row for row in self.steps[key] if row["phase"] in DENOISING], ["canvas_index"]
        )
        found = []
        for row in sorted(self.canvases[key], key=lambda row: row["canvas_index"]):
            content, index = row["content_tokens"], row["canvas_index"]
            slots, tokens = tokens[:content], tokens[content:]
            slots += [self.vocabulary.piece("")] * (content - len(slots))  # over the limit
            after_eos = self.point["canvas_length"] - content
            if after_eos:
                slots = [*slots[:-1], EOS] + [PAD] * after_eos
            steps = sorted(denoised[index,], key=lambda step: step["step"])
            positions = self.positions.get((request["request_id"], index))
            found.append(
                self._made(row, slots, steps)
                if positions is None
                else self._traced(row, slots, steps, positions, eos_ids)
            )
        return tuple(found)

    def _made(self, row: Row, slots: list[int], steps: list[Row]) -> RecordedCanvas:
        """A canvas without recorded positions."""
        content = row["content_tokens"]
        known = all(step["accepted"] is not None for step in steps) and row["returns"] is not None
        return make_canvas(
            _counts(row, steps) if known else plain_counts(len(steps), content),
            slots,
            content,
            stop_reason=row["stop_reason"],
            accepted_slots=_accepted_slots(steps, len(slots)),
            mean_entropy_nat=_mean_entropy(steps),
            wrong=self.vocabulary.wrong,
            seed=f"{row['request_id']}/{row['canvas_index']}",
        )

    def _traced(
        self,
        row: Row,
        slots: list[int],
        steps: list[Row],
        positions: list[Row],
        eos_ids: frozenset[int],
    ) -> RecordedCanvas:
        """A canvas whose positions were recorded: its ids become ours."""
        texts = {cell["argmax"]: cell["argmax_text"] for cell in positions}
        final = {c["position"]: c["argmax"] for c in positions if c["step"] == len(steps)}

        def ours(token: int, position: int) -> int:
            if token in eos_ids:
                return EOS
            if token == final[position] and position < row["content_tokens"]:
                return slots[position]
            return self.vocabulary.foreign(token, texts.get(token))

        shape = len(steps), len(slots)
        candidate, argmax = np.zeros(shape, dtype=np.int32), np.zeros(shape, dtype=np.int32)
        accepted, entropy = np.zeros(shape, dtype=bool), np.zeros(shape)
        for cell in positions:
            at = cell["step"] - 1, cell["position"]
            candidate[at] = ours(cell["candidate"], cell["position"])
            argmax[at] = ours(cell["argmax"], cell["position"])
            accepted[at] = cell["accepted"]
            entropy[at] = np.nan if cell["entropy_nat"] is None else cell["entropy_nat"]
        return RecordedCanvas(
            stop_reason=row["stop_reason"],
            accepted_slots=_accepted_slots(steps, len(slots)),
            mean_entropy_nat=_mean_entropy(steps),
            candidate=candidate,
            accepted=accepted,
            argmax=argmax,
            entropy_nat=entropy,
        )


def _counts(canvas: Row, steps: list[Row]) -> CanvasCounts:
    return CanvasCounts(
        accepted=[step["accepted"] for step in steps],
        revoked=[step["revoked"] for step in steps],
        flips=[step["flips"] for step in steps],
        never_accepted=canvas["never_accepted"],
        flips_after_accept=canvas["flips_after_accept"],
        direct_edits=canvas["direct_edits"],
        revoke_rewrites=canvas["revoke_rewrites"],
        returns=canvas["returns"],
    )


def _accepted_slots(steps: list[Row], length: int) -> np.ndarray:
    """Accepted positions of each step, [T]; all of them where nothing is known."""
    known = (step["accepted_slots"] for step in steps)
    return np.array([length if count is None else count for count in known])


def _mean_entropy(steps: list[Row]) -> np.ndarray:
    """[T]; a step with a count but no entropy had one that was not finite."""
    values = []
    for step in steps:
        unknown = 0.0 if step["accepted_slots"] is None else np.nan
        value = step["mean_entropy_nat"]
        values.append(unknown if value is None else value)
    return np.array(values)


def _repair(row: Row) -> RecordedRepair:
    return RecordedRepair(
        left=row["corrupted"] - row["repaired"],
        lost=row["untouched"] - row["preserved"],
        steps=row["steps"],
    )


def _phase_s(steps: list[Row]) -> dict[str, float]:
    """Every phase's median seconds."""
    return {
        str(phase): float(np.median([row["device_ms"] for row in rows])) / 1e3
        for (phase,), rows in _grouped(steps, ["phase"]).items()
    }


def _experts(
    rows: list[Row], request_ids: list[int], batch_size: int
) -> dict[int, list[tuple[Forward, list[int]]]]:
    """What the untimed forwards touched; batches are taken in the order of the prompts."""
    found = {}
    for (batch,), own in _grouped(rows, ["batch_index"]).items():
        forwards = _grouped(own, ["phase", "canvas_index", "step"])
        found[request_ids[batch * batch_size]] = [
            (Forward(*key), [r["distinct_experts"] for r in sorted(layers, key=_layer)])
            for key, layers in forwards.items()
        ]
    return found


def _layer(row: Row) -> int:
    return int(row["layer"])


def _paces(
    requests: list[Row], canvases: Groups, steps: Groups
) -> dict[int, dict[int, list[Pace]]]:
    """The pace of every time a request was answered, by request and process."""
    found: dict[int, dict[int, list[Pace]]] = {}
    batches = _grouped(requests, ["process_id", "repeat", "wall_s", "prefill_s"])
    for (process_id, *_), members in sorted(batches.items()):
        pace = _pace(members, canvases, steps)
        for row in members:
            found.setdefault(row["request_id"], {}).setdefault(process_id, []).append(pace)
    return found


def _pace(members: list[Row], canvases: Groups, steps: Groups) -> Pace:
    forward_s: dict[tuple[str, int, int], float] = {}
    delivered_s: dict[int, float] = {}
    for row in members:
        key = tuple(row[name] for name in _ANSWER)
        for step in steps[key]:
            at = step["phase"], step["canvas_index"], step["step"]
            forward_s[at] = step["device_ms"] / 1e3
        now = delivered_s[0] = row["first_canvas_s"]
        for canvas in sorted(canvases.get(key, []), key=lambda row: row["canvas_index"]):
            now += canvas["gap_s"] or 0.0
            delivered_s[canvas["canvas_index"]] = now
        if key not in canvases:  # autoregressive: a token a delivery
            delivered_s[row["delivered_tokens"] - 1] = row["last_delivery_s"]
    return Pace(forward_s, _delivery_s(forward_s, delivered_s))


def _delivery_s(
    forward_s: Mapping[tuple[str, int, int], float], delivered_s: Mapping[int, float]
) -> list[float]:
    """What every delivery took beside its forwards, spread evenly between known moments."""
    computing = [0.0] * (max(delivered_s) + 1)
    for (_, block, _), seconds in forward_s.items():
        computing[block] += seconds
    found: list[float] = []
    moments = [(-1, 0.0), *sorted(delivered_s.items())]
    for (before, begin_s), (block, end_s) in pairwise(moments):
        rest_s = end_s - begin_s - sum(computing[before + 1 : block + 1])
        found += [max(0.0, rest_s) / (block - before)] * (block - before)
    return found
