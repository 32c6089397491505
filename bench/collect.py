"""From a measured point to its checked tables."""

from dataclasses import asdict

import pandas as pd

from bench import rows
from bench.requests import TIMED
from bench.runner import PointRun, peak_rss_bytes
from bench.summary import point_row
from bench.tables import frame


class Collector:
    """Turns what a point has measured so far into tables; every request is counted once."""

    def __init__(self, run: PointRun) -> None:
        self._run = run
        self._judge = _judge(run)
        self._num_seen = 0
        self._rows: dict[str, list[rows.Row]] = {"requests": [], "canvases": [], "steps": []}

    def tables(self) -> dict[str, pd.DataFrame]:
        """Every table's rows of the point."""
        run = self._run
        for request in run.requests[self._num_seen :]:
            self._rows["requests"].append(rows.request_row(request, self._judge))
            self._rows["canvases"] += rows.canvas_rows(request)
            self._rows["steps"] += rows.step_rows(request)
        self._num_seen = len(run.requests)
        own = self._rows | {
            "positions": rows.position_rows(run.requests, self._judge),
            "repairs": [asdict(repair) for repair in run.repairs],
            "experts": [asdict(experts) for experts in run.experts],
        }
        keys = {"config_hash": run.point.config_hash, "point_id": run.point.point_id}
        tables = {name: frame(name, found, keys) for name, found in own.items()}
        summary = point_row(tables, _knobs(run)) | {"peak_rss_bytes": peak_rss_bytes()}
        distinct = summary["distinct_experts_per_layer"]
        if distinct is not None:
            summary["weight_bytes_per_step"] = run.session.weight_bytes(distinct)
        return tables | {"points": frame("points", [summary], keys)}


def _judge(run: PointRun) -> rows.Judge:
    by_id = {prompt.request_id: prompt for prompt in run.workload.prompts}
    has_answers = all(prompt.check is not None for prompt in run.workload.prompts)
    session = run.session
    return rows.Judge(
        decode=session.decode,
        token_text=session.vocabulary,
        eos_token_ids=frozenset(session.identity.eos_token_ids),
        check=(lambda i, text: bool(by_id[i].is_correct(text))) if has_answers else None,
        parses=lambda i, text: by_id[i].parses(text),
    )


def _knobs(run: PointRun) -> rows.Row:
    """What the point was configured with and what really ran."""
    config, identity = run.point.config, run.session.identity
    return {
        "decoding": identity.decoding,
        "precision": config.precision.name,
        "emulated": identity.emulated,
        "kernels": config.kernels.name,
        "execution": config.execution.name,
        "backend": config.backend.name,
        "model": identity.model,
        "weights": identity.weights,
        "weights_sha256": identity.weights_sha256,
        "device": identity.device,
        "workload": config.workload.tasks,
        "eos_policy": config.workload.eos_policy.name,
        "max_new_tokens": config.workload.max_new_tokens,
        "measure": config.measure.name.name,
        "trace": config.trace.name,
        "timed": TIMED,
        "batch_size": config.batch_size,
        "seed": config.seed,
        "canvas_length": identity.canvas_length,
    }
