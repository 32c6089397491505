"""Runs of a device whose truth is known: processes that differ, prompts drawn from many.

A request takes a prefill and, for every canvas of its reply, denoise steps and a commit. A process
is quicker or slower than the next and draws more or less power; every request has its own noise.
"""

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from bench.procurement.inputs import Inputs, parse_inputs
from bench.store import Run

CANVAS = 256
_PREFILL_S, _STEP_S, _COMMIT_S = 0.04, 0.010, 0.009


@dataclass(frozen=True)
class Device:
    """Truth: seconds of every prompt there is, in a process of middling speed."""

    power_w: float = 600.0
    process_sd: float = 0.03
    power_sd: float = 0.02
    request_sd: float = 0.01
    tokens: np.ndarray = field(default_factory=lambda: _population()[0])
    seconds: np.ndarray = field(default_factory=lambda: _population()[1])

    @property
    def tok_per_s(self) -> float:
        return float(self.tokens.sum() / self.seconds.sum())

    @property
    def joules_per_token(self) -> float:
        return self.power_w / self.tok_per_s


@cache
def _population() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    tokens = np.clip(generator.lognormal(np.log(350), 0.7, 20_000), 20, 2048).round()
    steps = np.clip(generator.lognormal(np.log(15), 0.4, 20_000), 2, 48)
    return tokens, _PREFILL_S + np.ceil(tokens / CANVAS) * (steps * _STEP_S + _COMMIT_S)


def campaign(
    device: Device,
    seed: int,
    *,
    processes: int,
    prompts: int,
    workload: str = "text",
    weights: str = "real",
    energy: bool = True,
    **point: object,
) -> Run:
    """One campaign as a run; more columns of its point can be given."""
    generator = np.random.default_rng(seed)
    chosen = generator.choice(len(device.tokens), prompts, replace=False)
    slower = np.exp(generator.normal(0, device.process_sd, processes))
    watts = device.power_w * np.exp(generator.normal(0, device.power_sd, processes))
    noise = np.exp(generator.normal(0, device.request_sd, (processes, prompts)))
    wall_s = device.seconds[chosen] * slower[:, None] * noise
    tokens = device.tokens[chosen]
    canvases = np.ceil(tokens / CANVAS)
    first_s = _PREFILL_S * slower[:, None] + (wall_s - _PREFILL_S) / canvases
    rows = processes * prompts
    requests = pd.DataFrame(
        {
            "point_id": "p",
            "process_id": np.repeat(np.arange(processes), prompts),
            "request_id": np.tile(np.arange(prompts), processes),
            "repeat": 0,
            "prompt_tokens": 100,
            "delivered_tokens": np.tile(tokens, processes),
            "first_delivery_tokens": np.tile(np.minimum(tokens, CANVAS), processes),
            "first_canvas_s": first_s.ravel(),
            "last_delivery_s": wall_s.ravel(),
            "wall_s": wall_s.ravel(),
            "prefill_s": _PREFILL_S,
            "slots_committed": np.tile(canvases * CANVAS, processes),
            "batch_size": 1,
            "num_canvases": np.tile(canvases, processes).astype(int),
            "correct": np.resize([True, True, True, False], rows),
        }
    )
    windows = pd.DataFrame(
        {
            "process_id": np.arange(processes),
            "repeat": 0,
            "point_id": "p",
            "window_s": wall_s.sum(axis=1),
            "joules": watts * wall_s.sum(axis=1) if energy else np.nan,
            "power_mean_w": watts if energy else np.nan,
            "energy_reason": None if energy else "no counter",
        }
    )
    canvas_rows = pd.DataFrame(
        {
            "point_id": "p",
            "process_id": requests["process_id"],
            "steps": 15,
            "gap_s": np.where(
                np.tile(canvases, processes) > 1, 0.16 * slower.repeat(prompts), np.nan
            ),
        }
    )
    row = {
        "point_id": "p",
        "device": "NVIDIA H200",
        "cpu": "a processor",
        "backend": "native",
        "validity": "valid",
        "validity_reason": None,
        "workload": workload,
        "eos_policy": "stop",
        "decoding": "diffusion",
        "precision": "fp8",
        "model": "diffusiongemma-26b-a4b",
        "batch_size": 1,
        "canvas_length": CANVAS,
        "weights": weights,
        "emulated": False,
        "condition": "clean",
        "condition_reason": None,
        "accuracy": 0.75,
        "accuracy_lo": 0.6,
        "accuracy_hi": 0.86,
        "op_floor_ms": 7.0,
        "streaming_floor_ms": None,
    } | point
    tables = {
        "points": pd.DataFrame([row]),
        "requests": requests,
        "canvases": canvas_rows,
        "steps": None,
        "windows": windows,
    }
    return Run(Path(f"campaign-{seed}"), {"config": {}}, dict(tables))


def document(**other: object) -> dict[str, object]:
    """Inputs with one rented and one bought H200; keys of the top can be replaced, None removes."""
    found: dict[str, object] = {
        "currency": "USD",
        "offers": {
            "rented": {"device": "h200", "price_per_hour": 3.0},
            "bought": {
                "device": "h200",
                "purchase_price": 32000,
                "amortisation_years": 4,
                "host_power_w": 350,
                "idle_power_w": 100,
                "rack_units": 2,
            },
        },
        "power_price_per_kwh": 0.2,
        "pue": 1.3,
        "utilisation": 0.5,
    } | other
    return {key: value for key, value in found.items() if value is not None}


def inputs(**other: object) -> Inputs:
    return parse_inputs(document(**other))
