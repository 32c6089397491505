"""A measured point as a claim sees it: its figures, and its conditions in a claim's own words."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bench.claims.claim import Conditions
from bench.conditions import state
from bench.devices import DEVICES, recognised
from bench.metrics import RATES, first_repeat, request_times
from bench.phases import COMMITTING, FUSED
from bench.stats import Interval, process_interval, ratio_interval
from bench.store import Run
from bench.summary import CONTENT
from bench.telemetry import Condition

_NO_DRAFTER = ("native", "simulated", "transformers")
"""Backends that draft nothing."""
_MEDIAN = "decode_tok_per_s_median"
_REQUEST = ["process_id", "repeat", "request_id"]

Value = str | int | None


@dataclass(frozen=True, slots=True)
class Observed:
    """One point of a run.

    Attributes:
        row: of `points`; unknown is None.
        conditions: by the names of `bench.claims.claim.Conditions`; unknown is None.
        disclosed: by the names of `bench.claims.claim.DISCLOSED`; unknown is None.
        requests, canvases, steps: the point's own rows.
    """

    point_id: str
    row: Mapping[str, Any]
    conditions: Mapping[str, Value]
    disclosed: Mapping[str, str | None]
    requests: pd.DataFrame
    canvases: pd.DataFrame
    steps: pd.DataFrame

    @classmethod
    def of(
        cls,
        row: Mapping[str, Any],
        requests: pd.DataFrame,
        canvases: pd.DataFrame,
        steps: pd.DataFrame,
    ) -> "Observed":
        """A point from its row and its requests, canvases and forwards (empty: not recorded)."""
        known = {str(key): _known(value) for key, value in row.items()}
        return cls(
            str(known["point_id"]),
            known,
            _conditions(known, requests),
            _disclosed(known, requests, steps),
            requests,
            canvases,
            steps,
        )

    def value(self, metric: str) -> float | None:
        """The point's figure; nothing but what its row holds."""
        found = self.row.get(metric)
        return None if found is None else float(found)

    def interval(self, metric: str) -> Interval:
        """The figure's 95 % interval: between processes where there are several."""
        if self.value(metric) is None:
            return None
        if metric == _MEDIAN and self.num_processes > 1:
            # The row of an older run pools the requests of all processes.
            return between_processes(self.by_process(metric))
        if metric in ("tokens_per_forward_denoise", "tokens_per_forward_all"):
            return self._tokens_per_forward(metric)
        low, high = self.row.get(f"{metric}_lo"), self.row.get(f"{metric}_hi")
        return None if low is None or high is None else (float(low), float(high))

    @property
    def num_processes(self) -> int:
        return int(self.row.get("num_processes") or 0)

    def num_cases(self, metric: str) -> int:
        """What bounds a figure: requests, or prompts where a repeat gives the same contents."""
        return int(self.row.get("num_prompts" if metric in CONTENT else "num_requests") or 0)

    @property
    def dummy(self) -> bool:
        return self.row.get("weights") == "dummy"

    @property
    def simulated(self) -> bool:
        """No model ran."""
        return self.row.get("backend") == "simulated"

    @property
    def valid(self) -> bool:
        return self.row.get("validity") != "invalid"

    @property
    def engine(self) -> str:
        """What ran the model, for a sentence."""
        parts = [self.row.get(name) for name in ("backend", "kernels", "execution", "server")]
        parts.append("commits fused" if self.fuses_commits else None)
        return ", ".join(str(part) for part in parts if part is not None)

    @property
    def fuses_commits(self) -> bool:
        """Whether canvases are committed in the next one's first step, as recorded."""
        return _fuses(self.steps)

    @property
    def steps_per_canvas(self) -> float | None:
        """Mean denoise steps; those of random weights only where they were forced."""
        forced = self.row.get("early_stop") is False
        if forced and self.row.get("max_denoising_steps") is not None:
            return float(self.row["max_denoising_steps"])
        if self.dummy:
            return None
        if self.canvases.empty or self.canvases["steps"].isna().any():
            return self.value("server_steps_per_canvas")
        return float(self.canvases["steps"].mean())

    def by_process(self, metric: str) -> pd.Series | None:
        """A speed's figure in each process, by process_id; None for other metrics."""
        times = request_times(self.requests)
        process = self.requests["process_id"]
        if metric == _MEDIAN:
            return (times["decode_tokens"] / times["decode_s"]).groupby(process).median()
        if metric not in RATES:
            return None
        top, bottom = RATES[metric]
        sums = times[[top, bottom]].dropna().groupby(process).sum()
        return sums[top] / sums[bottom]

    def _tokens_per_forward(self, metric: str) -> Interval:
        """By prompt, over the first repeat of the first process, as the figure itself."""
        first = first_repeat(self.requests)
        forwards = first["active_row_steps"]
        if metric == "tokens_per_forward_all":
            if self.steps.empty:
                return None
            steps = first_repeat(self.steps)
            # A fused one counts as a denoise step and as a commit.
            counts = (1 + (steps["phase"] == FUSED)).groupby(steps["request_id"]).sum()
            forwards = first["request_id"].map(counts)
        if forwards.isna().any():
            return None
        columns = (first["delivered_tokens"], forwards, first["request_id"])
        tokens, passes, prompt = (column.to_numpy() for column in columns)
        return ratio_interval(tokens, passes, prompt)


def between_processes(values: pd.Series | None) -> Interval:
    """The interval of a figure from its value in each process; None where one is unknown."""
    known = np.array([]) if values is None else values.to_numpy(dtype=float)
    if len(known) < 2 or not (np.isfinite(known) & (known > 0)).all():
        return None
    return process_interval(known)


def observe(run: Run) -> list[Observed]:
    """Every point of a run.

    Raises:
        ValueError: no point was finished, or the run has lost its requests.
    """
    if run.requests is None:
        raise ValueError(f"run {run.path} has no table requests, by which claims are judged")
    tables = [run.requests, run.canvases, run.steps]
    found = []
    for row in run.points.to_dict("records"):
        config_hash = str(row["config_hash"])
        known = {str(key): value for key, value in row.items()}
        windows = _own(run.table("windows"), config_hash)
        # The row of an older run tells of the first window alone.
        known |= {} if windows.empty else state(windows)
        found.append(Observed.of(known, *(_own(table, config_hash) for table in tables)))
    return found


def _own(table: pd.DataFrame | None, config_hash: str) -> pd.DataFrame:
    return pd.DataFrame() if table is None else table[table["config_hash"] == config_hash]


def _known(value: Any) -> Any:
    return None if value is None or pd.isna(value) else value


def _conditions(row: Mapping[str, Any], requests: pd.DataFrame) -> dict[str, Value]:
    found: dict[str, Value] = {
        "decoding": row.get("decoding"),
        "model": row.get("model"),
        "device": device_of(row),
        "precision": row.get("precision"),
        "batch_size": _batch_size(row),
        "workload": row.get("workload"),
        "prompt_tokens": _one_or_range(requests["prompt_tokens"]),
        "max_new_tokens": row.get("max_new_tokens"),
        "eos_policy": row.get("eos_policy"),
        "steps": _steps(row),
        "drafter": _drafter(row),
    }
    return {name: found[name] for name in Conditions.__dataclass_fields__}


def _batch_size(row: Mapping[str, Any]) -> int | None:
    """Of a server the requests under way at a time; any number where they come at their times."""
    own = ("rate_per_s", "arrivals_sha256")
    if any(row.get(name) is not None for name in own):
        return None
    found = row.get("connections")
    return row.get("batch_size") if found is None else int(found)


def _drafter(row: Mapping[str, Any]) -> str | None:
    """A canvas is no draft, of our backends none has a drafter, and a server's row tells."""
    none = row.get("decoding") == "diffusion" or row.get("backend") in _NO_DRAFTER
    return "none" if none else row.get("drafter")


def _one_or_range(counts: pd.Series) -> Value:
    if counts.empty:
        return None
    least, most = int(counts.min()), int(counts.max())
    return least if least == most else f"{least} to {most}"


def device_of(row: Mapping[str, Any]) -> str | None:
    """A listed device's own name; a processor's; any other, a part of one too, as its driver's."""
    if row.get("backend") == "simulated":
        return "simulated"
    name = row.get("device")
    if name is None or name == "served":
        return None
    if name in DEVICES:
        return str(name)
    if name == "cpu":
        return row.get("cpu")
    listed = None if " MIG " in f" {name} " else recognised(name)
    return next((key for key, device in DEVICES.items() if device is listed), name)


def _steps(row: Mapping[str, Any]) -> str | None:
    cap, early_stop = row.get("max_denoising_steps"), row.get("early_stop")
    if row.get("decoding") != "diffusion" or cap is None or early_stop is None:
        return None
    return f"{'up to' if early_stop else 'forced'} {int(cap)}"


def _disclosed(
    row: Mapping[str, Any], requests: pd.DataFrame, steps: pd.DataFrame
) -> dict[str, str | None]:
    engine = [row.get(name) for name in ("backend", "kernels", "execution")]
    commit = row.get("commit")
    changed = ", changed since" if row.get("dirty") else ""
    ours = "commit unknown" if commit is None else f"commit {commit[:12]}{changed}"
    engine.append(row.get("server") if row.get("backend") == "openai" else ours)
    distinct, emulated = row.get("distinct_experts_per_layer"), row.get("emulated")
    found = {
        "engine and version": ", ".join(str(part) for part in engine if part is not None) or None,
        "driver": row.get("driver"),
        "torch": row.get("torch"),
        "weights": row.get("weights"),
        "prompts": "random token ids" if row.get("workload") == "fixed_work" else row["workload"],
        "precision emulated": None if emulated is None else "yes" if emulated else "no",
        "distinct experts a layer and step": None if distinct is None else f"{distinct:.1f}",
        "validity": row.get("validity"),
        "state of the machine": _state(row),
    }
    if row.get("decoding") == "diffusion":
        found |= _commits(requests, steps)
        if row.get("backend") == "native":
            found["vocabulary scores in a commit"] = "not computed"
            found["sliding window in a step"] = "every cached position the layer holds"
    return found


def _state(row: Mapping[str, Any]) -> str | None:
    """What the machine did while the point was timed; unknown where nothing was sampled."""
    condition, reason = row.get("condition"), row.get("condition_reason")
    if condition in (None, Condition.UNKNOWN):
        return None
    return f"{condition}: {reason}"


def _commits(requests: pd.DataFrame, steps: pd.DataFrame) -> dict[str, str | None]:
    """What the recorded forwards say of commits."""
    names = ("commit fused with a step", "commit after the last canvas")
    if steps.empty:
        return dict.fromkeys(names)
    own = steps[steps["phase"].isin(COMMITTING)].groupby(_REQUEST).size()
    canvases = requests.set_index(_REQUEST)["num_canvases"]
    run = own.reindex(canvases.index, fill_value=0) >= canvases
    said = "run" if run.all() else "skipped" if not run.any() else "skipped at times"
    return {names[0]: "yes" if _fuses(steps) else "no", names[1]: said}


def _fuses(steps: pd.DataFrame) -> bool:
    return not steps.empty and bool((steps["phase"] == FUSED).any())
