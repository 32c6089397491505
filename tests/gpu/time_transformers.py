"""`transformers` at the full 26B-A4B shape with random weights: the baseline on one GPU.

    python3 -m tests.gpu.time_transformers --device cuda --out FILE.json --seconds 110

Fixed work, batch 1: 1024 random prompt ids, canvases of 256 in 16 forced denoise steps each. Each
setting is a row; the file is written again after every row. Needs no checkpoint: parameters are
drawn on the device. `--shape mini --device cpu` tries the script itself.
"""

import argparse
import gc
import json
import math
import os
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

BEGIN = time.perf_counter()

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import torch  # noqa: E402
import transformers  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from transformers import LogitsProcessor, LogitsProcessorList  # noqa: E402

from bench.backends.transformers import TransformersConfig  # noqa: E402
from bench.backends.transformers.config import Cache, Experts  # noqa: E402
from bench.backends.transformers.generation import (  # noqa: E402
    diffusion_settings,
    greedy_settings,
)
from bench.backends.transformers.loading import dummy  # noqa: E402
from bench.backends.transformers.session import compiled_parts  # noqa: E402
from model import PRESETS, DiffusionSampling, ModelConfig  # noqa: E402

AR_RESERVE = 35.0
"""Seconds kept for the autoregressive sibling while the diffusion rows run."""


@dataclass(frozen=True)
class Shape:
    """A diffusion preset, its sibling beside it, and the work measured on them."""

    preset: str
    prompt: int
    steps: int
    ar_tokens: int
    canvases: int = 2

    def config(self, *, autoregressive: bool) -> ModelConfig:
        diffusion = PRESETS[self.preset]
        return PRESETS[diffusion.sibling] if autoregressive else diffusion

    @property
    def canvas(self) -> int:
        return PRESETS[self.preset].canvas_length or 1


SHAPES = {
    "full": Shape("diffusiongemma-26b-a4b", prompt=1024, steps=16, ar_tokens=64),
    "mini": Shape("tiny-diffusion", prompt=48, steps=3, ar_tokens=8),
}


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class OutOfTime(BaseException):
    """Raised by the alarm; no `Exception`, so that no compiler takes it for one of its own."""


@dataclass(frozen=True)
class Setting:
    """One row of the table.

    Attributes:
        needs: remaining seconds below which the row is not started.
    """

    name: str
    experts: str
    cache: str
    compiled: bool
    needs: float
    repeats: int = 3

    @property
    def autoregressive(self) -> bool:
        return self.name.startswith("ar-")

    def __str__(self) -> str:
        return f"{self.experts} sdpa {self.cache}{' compiled' if self.compiled else ''}"


SETTINGS = [
    Setting("dynamic", "grouped_mm", "dynamic", False, needs=10),
    Setting("static", "grouped_mm", "static", False, needs=10),
    Setting("compiled", "grouped_mm", "static", True, needs=40),
    Setting("eager", "eager", "dynamic", False, needs=45, repeats=1),
    Setting("ar-dynamic", "grouped_mm", "dynamic", False, needs=8),
    Setting("ar-compiled", "grouped_mm", "static", True, needs=25),
]


# Measuring


class Steps(LogitsProcessor):
    """Notes when each forward's logits reach the sampler; changes nothing."""

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self.lengths: list[int] = []
        self._marks: list[Any] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if self._on_gpu:
            mark: Any = torch.cuda.Event(enable_timing=True)
            mark.record()
        else:
            mark = time.perf_counter()
        self.lengths.append(input_ids.shape[1])
        self._marks.append(mark)
        return scores

    def gaps(self, *, same_length: bool) -> list[float]:
        """Milliseconds between successive forwards; of the same canvas only where asked."""
        found = []
        for i in range(1, len(self._marks)):
            if same_length and self.lengths[i] != self.lengths[i - 1]:
                continue
            a, b = self._marks[i - 1 : i + 1]
            found.append(a.elapsed_time(b) if self._on_gpu else 1e3 * (b - a))
        return found


class Deliveries:
    """A streamer that notes when tokens arrive on the host; the prompt comes first."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def put(self, value: Tensor) -> None:
        self.times.append(time.perf_counter())

    def end(self) -> None:
        pass


Generation = Callable[[Steps, Deliveries], int]
"""Generates once; returns the number of new tokens."""


def prompt_of(shape: Shape, device: torch.device, seed: int) -> Tensor:
    """Random ids, none of them special."""
    generator = torch.Generator().manual_seed(seed)
    vocab_size = PRESETS[shape.preset].vocab_size
    return torch.randint(8, vocab_size, (1, shape.prompt), generator=generator).to(device)


def generation(
    model: nn.Module, shape: Shape, setting: Setting, ids: Tensor, canvases: int
) -> Generation:
    """Forced denoise steps, or greedy tokens; no end of text."""
    model.set_experts_implementation(setting.experts)  # type: ignore[operator]
    model.set_attn_implementation("sdpa")  # type: ignore[operator]
    model.generation_config.eos_token_id = None  # type: ignore[union-attr]
    config = shape.config(autoregressive=setting.autoregressive)
    knobs = TransformersConfig(
        experts=Experts[setting.experts], cache=Cache[setting.cache], compiled=setting.compiled
    )
    if setting.autoregressive:
        settings = greedy_settings(config, shape.ar_tokens, None, knobs)
    else:
        forced = DiffusionSampling(max_denoising_steps=shape.steps, early_stop=False)
        settings = diffusion_settings(config, forced, canvases * shape.canvas, None, knobs)
    mask = torch.ones_like(ids)

    def run(steps: Steps, deliveries: Deliveries) -> int:
        found = model.generate(  # type: ignore[operator]
            ids,
            attention_mask=mask,
            generation_config=settings,
            logits_processor=LogitsProcessorList([steps]),
            streamer=deliveries,
        )
        sequences = found if setting.autoregressive else found.sequences
        return sequences.shape[1] - ids.shape[1]

    return run


def experts_touched(model: nn.Module, run: Generation, device: torch.device) -> float:
    """Distinct experts a layer and denoise forward, mean; of an untimed generation."""
    counts: list[int] = []

    def note(module: nn.Module, inputs: Any, output: Any) -> None:
        counts.append(output[-1].unique().numel())

    routers = [
        m for n, m in model.named_modules() if "decoder.layers" in n and n.endswith("router")
    ]
    hooks = [router.register_forward_hook(note) for router in routers]
    try:
        run(Steps(device), Deliveries())
    finally:
        for hook in hooks:
            hook.remove()
    return sum(counts) / len(counts) if counts else math.nan


@contextmanager
def alarm(seconds: float) -> Iterator[None]:
    """Raises `OutOfTime` in here after so many seconds."""

    def ring(*_: Any) -> None:
        raise OutOfTime

    previous = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.1), 5.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def measure(
    row: dict[str, Any], run: Generation, device: torch.device, block: int, expected: int
) -> None:
    """One warm-up, then the repeats; fills the row as it goes. `block`: tokens a delivery."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    begin = time.perf_counter()
    run(Steps(device), Deliveries())
    synchronize(device)
    row["warmup_s"] = time.perf_counter() - begin
    gaps: list[float] = []
    for _ in range(row["repeats"]):
        steps, deliveries = Steps(device), Deliveries()
        synchronize(device)
        begin = time.perf_counter()
        tokens = run(steps, deliveries)
        synchronize(device)
        seconds = time.perf_counter() - begin
        assert (tokens, len(steps.lengths)) == (row["tokens_out"], expected), (
            f"{tokens} tokens, {len(steps.lengths)} forwards"
        )
        first, last = deliveries.times[1], deliveries.times[-1]
        row["seconds"].append(seconds)
        row["first_delivery_s"].append(first - begin)
        row["e2e_tok_per_s"].append(tokens / seconds)
        if last > first:
            row["decode_tok_per_s"].append((tokens - block) / (last - first))
        gaps += steps.gaps(same_length=block > 1)
        row["step_ms"] = statistics.median(gaps)
        row["step_ms_quartiles"] = statistics.quantiles(gaps, n=4)
        if device.type == "cuda":
            row["peak_bytes"] = torch.cuda.max_memory_allocated()


# The table


class Report:
    """The JSON file, written again after every row."""

    def __init__(self, path: Path, facts: dict[str, Any]) -> None:
        self._path = path
        self.content: dict[str, Any] = {**facts, "models": {}, "rows": []}
        self.save()

    def save(self) -> None:
        self.content["total_s"] = time.perf_counter() - BEGIN
        self._path.parent.mkdir(parents=True, exist_ok=True)
        partial = self._path.with_suffix(".partial")
        partial.write_text(json.dumps(self.content, indent=1) + "\n")
        partial.replace(self._path)

    def print_table(self) -> None:
        columns = "row", "setting", "tokens", "seconds", "step ms", "e2e", "decode", "GB", "status"
        print("{:12} {:34} {:>7} {:>8} {:>8} {:>8} {:>8} {:>6}  {}".format(*columns))
        for row in self.content["rows"]:
            peak = row.get("peak_bytes")
            print(
                f"{row['name']:12} {row['setting']:34} {row['tokens_out']:7d}"
                f" {_middle(row['seconds']):>8} {_number(row.get('step_ms')):>8}"
                f" {_middle(row['e2e_tok_per_s']):>8} {_middle(row['decode_tok_per_s']):>8}"
                f" {_number(peak and peak / 1e9):>6}  {row['status']}"
            )
        print("seconds, e2e and decode tok/s: medians of the repeats; all in the JSON")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _middle(values: list[float]) -> str:
    return _number(statistics.median(values) if values else None)


def run_row(
    report: Report,
    setting: Setting,
    model: nn.Module,
    shape: Shape,
    device: torch.device,
    limit_s: float,
) -> None:
    """Measures a setting within a time limit; whatever goes wrong becomes the row's status."""
    canvases = shape.canvases
    ids = prompt_of(shape, device, seed=1)
    row: dict[str, Any] = {
        "name": setting.name,
        "setting": f"{'AR ' if setting.autoregressive else ''}{setting}",
        "experts": setting.experts,
        "attention": "sdpa",
        "cache": setting.cache,
        "compile_asked": setting.compiled,
        "prompt": shape.prompt,
        "canvases": None if setting.autoregressive else canvases,
        "steps_a_canvas": None if setting.autoregressive else shape.steps,
        "tokens_out": shape.ar_tokens if setting.autoregressive else canvases * shape.canvas,
        "repeats": setting.repeats,
        "seconds": [],
        "first_delivery_s": [],
        "e2e_tok_per_s": [],
        "decode_tok_per_s": [],
        "status": "running",
        "started_at_s": time.perf_counter() - BEGIN,
        "limit_s": limit_s,
    }
    report.content["rows"].append(row)
    report.save()
    print(f"[{row['started_at_s']:6.1f} s] {row['name']}: {row['setting']}", flush=True)
    try:
        with alarm(limit_s):
            if setting.autoregressive:
                run = generation(model, shape, setting, ids, canvases)
                measure(row, run, device, 1, shape.ar_tokens)
            else:
                if setting.name == "dynamic":
                    short = replace(shape, steps=2)
                    probe = generation(model, short, setting, ids, 1)
                    row["experts_touched"] = experts_touched(model, probe, device)
                run = generation(model, shape, setting, ids, canvases)
                measure(row, run, device, shape.canvas, canvases * shape.steps)
        row["status"] = "ok"
    except OutOfTime:
        done = len(row["seconds"])
        row["status"] = f"out of time after {done} repeats" if done else "out of time in warm-up"
    except Exception as error:  # the row's own result
        message = " ".join(str(error).split())[:300]
        row["status"] = f"{type(error).__name__}: {message}"
    row["ended_at_s"] = time.perf_counter() - BEGIN
    row["compiled"] = bool(compiled_parts(model))  # transformers compiles only where it sees fit
    report.save()
    forget(model)


def forget(model: nn.Module) -> None:
    """Drops what calls left on the model: its static cache, its compiled functions."""
    for name in [*(["_cache"] if hasattr(model, "_cache") else []), *compiled_parts(model)]:
        delattr(model, name)
    torch.compiler.reset()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def build(
    shape: Shape, device: torch.device, seed: int, *, autoregressive: bool
) -> tuple[nn.Module, dict[str, Any]]:
    """The model with random weights in bf16, and facts about it."""
    begin = time.perf_counter()
    config = shape.config(autoregressive=autoregressive)
    model = dummy(config, torch.bfloat16, device, seed)
    synchronize(device)
    parameters = (p.numel() for n, p in model.named_parameters() if "vision" not in n)
    return model, {
        "build_s": time.perf_counter() - begin,
        "text_parameters": sum(parameters),
        "bytes_on_device": torch.cuda.memory_allocated() if device.type == "cuda" else None,
    }


def free(model: nn.Module) -> None:
    """Gives the parameters' memory back whoever still refers to them."""
    for parameter in model.parameters():
        if parameter.device.type != "meta":
            parameter.data.untyped_storage().resize_(0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=110.0, help="in all, building included")
    parser.add_argument("--compile-seconds", type=float, default=60.0, help="limit a compiled row")
    parser.add_argument("--shape", choices=SHAPES, default="full")
    parser.add_argument("--canvases", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    names = [setting.name for setting in SETTINGS]
    parser.add_argument("--rows", nargs="+", choices=names, default=names)
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    shape = replace(SHAPES[arguments.shape], canvases=arguments.canvases)
    chosen = [setting for setting in SETTINGS if setting.name in arguments.rows]
    torch.manual_seed(arguments.seed)
    if device.type == "cpu":
        torch.set_num_threads(1)  # tiny products: threads would only wait for each other

    def remaining() -> float:
        return arguments.seconds - (time.perf_counter() - BEGIN)

    on_gpu = device.type == "cuda"
    report = Report(
        arguments.out,
        {
            "transformers": transformers.__version__,
            "torch": torch.__version__,
            "python": sys.version.split()[0],
            "device": torch.cuda.get_device_name(device) if on_gpu else "cpu",
            "shape": arguments.shape,
            "weights": "random bf16",
            "seconds": arguments.seconds,
            "compile_seconds": arguments.compile_seconds,
        },
    )
    for kind in (False, True):
        rows = [setting for setting in chosen if setting.autoregressive == kind]
        if not rows or remaining() < 12:
            continue
        reserve = 0.0
        if not kind and any(setting.autoregressive for setting in chosen):
            reserve = min(AR_RESERVE, arguments.seconds / 3)
        name = "autoregressive" if kind else "diffusion"
        try:
            model, facts = build(shape, device, arguments.seed, autoregressive=kind)
        except Exception as error:  # the other model's rows still count
            report.content["models"][name] = {"error": f"{type(error).__name__}: {error}"}
            report.save()
            print(f"{name}: not built, {type(error).__name__}: {error}", flush=True)
            continue
        report.content["models"][name] = facts
        report.save()
        print(
            f"built {facts['text_parameters']:,} parameters in {facts['build_s']:.1f} s", flush=True
        )
        for setting in rows:
            left = remaining() - reserve
            if left < min(setting.needs, arguments.seconds / 3):
                print(f"{setting.name}: skipped, {left:.0f} s left", flush=True)
                continue
            limit = min(left, arguments.compile_seconds) if setting.compiled else left
            run_row(report, setting, model, shape, device, limit)
        free(model)
        del model
        gc.collect()
        if on_gpu:
            torch.cuda.empty_cache()
    report.save()
    report.print_table()
    sys.stdout.flush()
    if any("out of time" in row["status"] for row in report.content["rows"]):
        os._exit(0)  # an interrupted compiler's threads are not waited for


if __name__ == "__main__":
    main()
