"""The process that measures, alone: what it answers, and what a simulation does without."""

import json
import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

import model
from bench.build import decoding_of
from bench.compose import compose_points
from bench.plan import Task
from bench.shards import shards
from bench.worker import describe, reason_of, serve

SIMULATED = [
    "backend=simulated",
    "backend.clock=virtual",
    "model=tiny-diffusion",
    "workload.num_prompts=2",
    "measure.num_repeats=1",
    "measure.max_repairs=0",
    "measure.num_routing_prompts=0",
    "measure.min_warmup_prompts=0",
    "measure.max_warmup_prompts=0",
]
WITHOUT = """
import sys
for name in ("torch", "pandera"):
    sys.modules[name] = None  # importing it is an error
from bench.worker import main
main()
"""


def test_a_simulation_needs_no_torch_and_says_nothing_of_it(tmp_path: Path) -> None:
    (point,) = compose_points(SIMULATED, decoding_of, default_sweep=False)
    command = {"config_hash": point.config_hash, "repeat": 0, "run_folder": str(tmp_path)}
    lines = [json.dumps(each) for each in (describe(Task("task", 0, (point,))), command)]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT],
        input="\n".join(lines) + "\n",
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    replies = [json.loads(line) for line in done.stdout.splitlines()]
    assert [reply["kind"] for reply in replies] == ["ready", "batch", "batch", "done"], done.stderr
    (shard,) = shards(tmp_path)
    note = shard.note()
    assert note["probe"] is None
    assert note["machine"]["torch"] is None
    assert note["machine"]["cpu_capability"] is None
    assert note["machine"]["cores"] > 0


@pytest.mark.parametrize(
    ("prepares", "said"),
    [
        ("raise ValueError('steps is 0')", {"kind": "refused", "detail": "steps is 0"}),
        (
            "int('x')",
            {
                "kind": "failed",
                "reason": "exception",
                "detail": "ValueError: invalid literal for int() with base 10: 'x'",
            },
        ),
    ],
)
def test_a_fault_is_no_refusal(
    monkeypatch: pytest.MonkeyPatch, prepares: str, said: dict[str, str]
) -> None:
    module: dict[str, Any] = {"__package__": "bench"}
    exec(f"def prepare(description):\n    {prepares}", module)
    monkeypatch.setattr("bench.worker.prepare", module["prepare"])
    replies = StringIO()
    serve(StringIO("{}\n"), replies)
    assert json.loads(replies.getvalue()) == said


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (MemoryError(), "out_of_memory"),
        (OSError(28, "No space left on device"), "disk_full"),
        (OSError(2, "No such file"), "exception"),
        (RuntimeError("CUDA error"), "exception"),
    ],
)
def test_a_failure_has_its_class(error: Exception, reason: str) -> None:
    assert reason_of(error) == reason


def test_a_gpu_s_memory_is_memory() -> None:
    import torch

    assert reason_of(torch.OutOfMemoryError("CUDA out of memory")) == "out_of_memory"


def test_the_models_names_are_all_there_and_no_other() -> None:
    assert all(getattr(model, name).__module__.startswith("model") for name in _NAMED)
    with pytest.raises(AttributeError, match="module 'model' has no attribute 'lode'"):
        model.lode  # noqa: B018


_NAMED = [name for name in model.__all__ if name != "PRESETS"]
