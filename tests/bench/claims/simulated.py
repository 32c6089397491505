"""Points of a simulation, fed with the times that a published figure implies.

Only the labels say otherwise: a test calls the simulated backend by the device, engine and model of
the claim it is about.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import pandas as pd

from bench import rows
from bench.backends.simulated import (
    ChosenTiming,
    Knobs,
    SimulatedSession,
    SyntheticConfig,
    VirtualClock,
    make_recording,
)
from bench.backends.simulated.pace import process_factor
from bench.claims.claim import Claim
from bench.claims.observed import Observed
from bench.records import RequestRecord
from bench.requests import run_batch
from bench.summary import point_row
from bench.tables import frame
from bench.workloads import Prompt

CANVAS = 256
REPORTED = {"h100": "NVIDIA H100 80GB HBM3", "h200": "NVIDIA H200"}
MODELS = {"diffusion": "diffusiongemma-26b-a4b", "autoregressive": "gemma-4-26b-a4b"}
_NEEDED = (
    *("requests", "canvases", "steps", "repairs", "experts", "windows"),
    *("failed_requests", "loads"),
)


@dataclass(frozen=True)
class Asked:
    """A prompt of a given number of tokens, which a simulation makes of its text."""

    request_id: int
    text: str
    task: str = "fixed_work"
    answer: None = None


@dataclass(frozen=True)
class Point:
    """A simulated point's tables and what it was configured with."""

    tables: dict[str, pd.DataFrame]
    knobs: dict[str, Any]

    @cached_property
    def row(self) -> dict[str, Any]:
        """Of `points`."""
        row = point_row({name: self.tables[name] for name in _NEEDED}, self.knobs)
        return row | {"config_hash": "a" * 12, "point_id": f"{self.knobs['decoding']}-fp8"}

    def observed(self, **labels: Any) -> Observed:
        """The point under the labels given."""
        tables = (self.tables[name] for name in ("requests", "canvases", "steps"))
        return Observed.of(self.row | labels, *tables)


@lru_cache
def simulated(
    decoding: str,
    tok_per_s: float,
    *,
    steps: tuple[int, ...] = (16,),
    forced: bool = True,
    num_prompts: int = 3,
    num_processes: int = 4,
    prompt_tokens: int = 1024,
    max_new_tokens: int = 1024,
    process_spread: float = 0.002,
    fused: bool = False,
) -> Point:
    """Fixed work (or, not forced, canvases that stop after `steps`) decoded at a rate.

    Every canvas takes its steps and a commit, all of one length; fused, its steps alone.
    """
    prompts = [Asked(i, f"{i:0{prompt_tokens - 1}}") for i in range(num_prompts)]
    made = SyntheticConfig(
        answer_tokens=[max_new_tokens], canvas_length=CANVAS, steps=list(steps), accuracy=1.0
    )
    recording = make_recording(made, decoding=decoding, prompts=prompts)
    mean_steps = sum(steps) / len(steps)
    forward_s = CANVAS / tok_per_s / (mean_steps + (not fused))
    early_stop = decoding == "diffusion" and not forced
    records: list[RequestRecord] = []
    for process_id in range(num_processes):
        session = SimulatedSession(
            recording,
            ChosenTiming(
                prefill_s=0.045,
                denoise_s=forward_s,
                commit_s=forward_s,
                fused_s=forward_s,
                decode_s=1 / tok_per_s,
                process_factor=process_factor(process_spread, process_id, 0),
            ),
            knobs=Knobs(
                max_new_tokens=max_new_tokens,
                eos_policy="ignore",
                trace="counts",
                max_denoising_steps=48 if early_stop else steps[0],
                early_stop=early_stop,
                fused_commit=fused,
                process_id=process_id,
            ),
            clock=VirtualClock(),
        )
        records += _answered(session, prompts, process_id)
    knobs = {
        "decoding": decoding,
        "precision": "fp8",
        "emulated": False,
        "backend": "simulated",
        "kernels": "torch",
        "execution": "eager",
        "model": "synthetic",
        "weights": "synthetic",
        "device": "simulated",
        "workload": "fixed_work",
        "eos_policy": "ignore",
        "max_new_tokens": max_new_tokens,
        "batch_size": 1,
        "canvas_length": CANVAS if decoding == "diffusion" else None,
        "max_denoising_steps": (48 if early_stop else steps[0])
        if decoding == "diffusion"
        else None,
        "early_stop": early_stop if decoding == "diffusion" else None,
    }
    return Point(_tables(session, records), knobs)


def labels(claim: Claim, decoding: str | None = None) -> dict[str, Any]:
    """What makes a simulated point look like one of ours under a claim's conditions."""
    own = claim.conditions
    decoding = decoding or own.decoding
    return {
        "backend": "native",
        "kernels": "triton",
        "execution": "cuda_graph",
        "device": REPORTED[own.device or "h100"],
        "model": MODELS[decoding],
        "weights": "released",
        "decoding": decoding,
    }


def _answered(
    session: SimulatedSession, prompts: Sequence[Asked], process_id: int
) -> list[RequestRecord]:
    return [
        record
        for prompt in prompts
        for record in run_batch(
            session,
            [Prompt(prompt.request_id, prompt.task, prompt.text, None)],
            process_id=process_id,
            repeat=0,
        )
    ]


def _tables(session: SimulatedSession, records: Sequence[RequestRecord]) -> dict[str, pd.DataFrame]:
    judge = rows.Judge(
        decode=session.decode,
        token_text=session.vocabulary,
        eos_token_ids=frozenset(session.identity.eos_token_ids),
        check=None,
        parses=lambda _, __: True,
    )
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in _NEEDED}
    found |= {
        "requests": [rows.request_row(record, judge) for record in records],
        "canvases": [row for record in records for row in rows.canvas_rows(record)],
        "steps": [row for record in records for row in rows.step_rows(record)],
    }
    keys = {"config_hash": "a" * 12, "point_id": "simulated", "host": "here"}
    return {name: frame(name, table, keys) for name, table in found.items()}
