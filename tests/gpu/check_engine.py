"""On a GPU: do all kernels agree, does a graph give what eager gives, how long is a step.

`python3 -m tests.gpu.check_engine agree --out FILE` compares tables of operations and executions at
the released width and a fifth of its depth; `... time --out FILE --model M --precision P` (and
`--kernels K --execution X`) times fixed work at full depth with dummy weights; `--profile` adds a
kernel table.
"""

import argparse
import dataclasses
import gc
import itertools
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch

import model.config as presets
from model import DiffusionSampling, GreedySampling, generate, load
from model.execution import CudaGraphs
from model.kv_cache import KVCache
from model.routing import observed_routing
from model.sampling import BlockDelivered, EosPolicy, StepDone, TraceLevel
from model.sampling.noise import SeededNoise

DEVICE = "cuda"
KERNELS = ("reference", "torch", "triton")


def agree() -> dict[str, Any]:
    """Relative differences of one layer's outputs between tables, and graph against eager.

    The yardstick is how far bf16 itself is from fp32; deeper models with random weights amplify any
    rounding, as tokens move to other experts.
    """
    full = presets.PRESETS["diffusiongemma-26b-a4b"]
    found: dict[str, Any] = {}
    for kind in ("sliding", "full"):
        presets.PRESETS["short"] = dataclasses.replace(full, name="short", layer_types=(kind,))
        outputs = {}
        for precision, kernels in itertools.product(("bf16", "fp8"), KERNELS):
            outputs[precision, kernels] = _outputs(precision, kernels)
            torch.cuda.empty_cache()
        exact = _outputs("fp32", "reference")
        for (precision, kernels), got in outputs.items():
            for name, base in (("fp32", exact), (precision, outputs[precision, "reference"])):
                key = f"{kind} {precision} {kernels} against reference in {name}"
                found[key] = [round(_relative(g, w), 4) for g, w in zip(got, base, strict=True)]
    presets.PRESETS["short"] = dataclasses.replace(
        full, name="short", layer_types=full.layer_types[:6]
    )
    for name in ("short", full.name):
        for precision in ("bf16", "fp8"):
            key = f"{presets.PRESETS[name].num_layers} layers {precision} graph == eager"
            found[key] = _graph_is_eager(name, precision, "triton")
    return found


def _outputs(precision: str, kernels: str) -> tuple[torch.Tensor, ...]:
    loaded = load("short", precision=precision, kernels=kernels, device=DEVICE, weights="dummy")
    return _scores(loaded.model)


@torch.inference_mode()
def _scores(model: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    prompt = torch.randint(3, 262_144, (1, 300), generator=generator).to(DEVICE)
    canvas = torch.randint(3, 262_144, (1, 256), generator=generator).to(DEVICE)
    uniform = torch.rand((1, 256), generator=generator).to(DEVICE)
    cache = KVCache(model.config, 1, 600, dtype=model.dtype, device=model.device)
    hidden = model.encode(prompt, cache)
    raw = model.scores_in(canvas, None, model.around_canvas(256, cache))
    _, _, entropy, belief = model.ops.sample(raw, 30.0, torch.tensor(0.7, device=DEVICE), uniform)
    signal = model.embedding.soft(belief)
    raw = model.scores_in(canvas, signal, model.around_canvas(256, cache))
    return hidden.float(), raw.float(), entropy


def _graph_is_eager(name: str, precision: str, kernels: str) -> bool:
    """Tokens and entropies of two canvases at four steps, commit between them.

    Prompts within the window, up to it and beyond; the longest first, so that all share one cache
    and a graph a kind of step.
    """
    texts = []
    for execution in ("eager", "cuda_graph"):
        loaded = load(
            name,
            precision=precision,
            kernels=kernels,
            execution=execution,
            device=DEVICE,
            weights="dummy",
        )
        sampling = DiffusionSampling(max_denoising_steps=4, early_stop=False)
        blocks: list[BlockDelivered] = []
        for length in (1500, 300, 900):
            events = generate(
                loaded.model,
                [list(range(10, 10 + length))],
                sampling,
                max_new_tokens=512,
                eos_policy=EosPolicy.IGNORE,
                trace=TraceLevel.POSITIONS,
            )
            blocks += [event for event in events if isinstance(event, BlockDelivered)]
        texts.append([(b.rows[0].tokens, b.trace.entropy) for b in blocks if b.trace])
        if isinstance(loaded.model.wrap_step, CudaGraphs):
            num_graphs = [len(step._graphs) for step in loaded.model.wrap_step._steps.values()]
            assert num_graphs == [1, 1], num_graphs
        del loaded, events
        gc.collect()
        torch.cuda.empty_cache()
    same = all(
        a[0] == b[0] and torch.equal(a[1], b[1]) for a, b in zip(texts[0], texts[1], strict=True)
    )
    return same


def _relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm())


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds of every phase at full depth, from CUDA events around each forward."""
    begin = time.perf_counter()
    loaded = load(
        options.model,
        precision=options.precision,
        kernels=options.kernels,
        execution=options.execution,
        device=DEVICE,
        weights="dummy",
    )
    torch.cuda.synchronize()
    found: dict[str, Any] = {"load_s": time.perf_counter() - begin}
    found["weights_gib"] = torch.cuda.memory_allocated() / 2**30
    is_diffusion = loaded.config.canvas_length is not None
    sampling = (
        DiffusionSampling(max_denoising_steps=options.steps, early_stop=False)
        if is_diffusion
        else GreedySampling()
    )
    generator = torch.Generator().manual_seed(5)
    prompt = torch.randint(110, 262_144, (1024,), generator=generator).tolist()

    def once(new_tokens: int) -> tuple[list[tuple[str, float, float]], int]:
        marks: list[tuple[str, Any, float]] = []
        noise = None
        if is_diffusion:
            noise = SeededNoise(0, [7], 256, loaded.config.vocab_size)
        start = torch.cuda.Event(enable_timing=True)
        start.record()
        begin = time.perf_counter()
        delivered = 0
        for event in generate(
            loaded.model,
            [prompt],
            sampling,
            max_new_tokens=new_tokens,
            eos_policy=EosPolicy.IGNORE,
            trace=TraceLevel.COUNTS,
            noise=noise,
        ):
            mark = torch.cuda.Event(enable_timing=True)
            mark.record()
            name = event.phase.value if isinstance(event, StepDone) else "delivery"
            delivered += 0 if isinstance(event, StepDone) else len(event.rows[0].tokens)
            marks.append((name, mark, time.perf_counter() - begin))
        torch.cuda.synchronize()
        laps, last, last_host = [], start, 0.0
        for name, mark, host in marks:
            laps.append((name, last.elapsed_time(mark), (host - last_host) * 1e3))
            last, last_host = mark, host
        return laps, delivered

    begin = time.perf_counter()
    once(options.new_tokens)
    found["first_generation_s"] = time.perf_counter() - begin
    runs = []
    for _ in range(options.repeats):
        begin = time.perf_counter()
        laps, delivered = once(options.new_tokens)
        wall_s = time.perf_counter() - begin
        total_ms, deliveries = 0.0, []
        for name, device_ms, _ in laps:
            total_ms += device_ms
            if name == "delivery":
                deliveries.append(total_ms)
        per = delivered / len(deliveries)
        gap_s = (deliveries[-1] - deliveries[0]) / 1e3
        run: dict[str, Any] = {"wall_s": wall_s, "delivered": delivered}
        run["decode_tok_per_s"] = (delivered - per) / gap_s
        for phase in ("prefill", "denoise", "commit", "decode"):
            own = [device_ms for name, device_ms, _ in laps if name == phase]
            if own:
                run[f"{phase}_ms"] = statistics.median(own)
                run[f"{phase}_host_ms"] = statistics.median(h for n, _, h in laps if n == phase)
        runs.append(run)
    found["runs"] = runs
    found["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
    found["reserved_gib"] = torch.cuda.max_memory_reserved() / 2**30
    if options.profile:
        found["kernel_times"] = _profile(lambda: once(256 if is_diffusion else 16))
    with observed_routing(loaded.model) as touched:
        once(256 if is_diffusion else 2)
    counts = [float(experts.sum()) for experts in touched]
    found["distinct_experts"] = {
        "first_forward_mean": statistics.mean(counts[: loaded.config.num_layers]),
        "last_forward_mean": statistics.mean(counts[-loaded.config.num_layers :]),
    }
    return found


def _profile(run: Any) -> list[tuple[str, int, float]]:
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        run()
        torch.cuda.synchronize()
    rows = [(e.key[:120], e.count, e.self_device_time_total) for e in profiler.key_averages()]
    return sorted(rows, key=lambda row: -row[2])[:60]


def main() -> None:
    """Runs one of the two and writes JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["agree", "time"])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="diffusiongemma-26b-a4b")
    parser.add_argument("--precision", default="fp8")
    parser.add_argument("--kernels", default="triton")
    parser.add_argument("--execution", default="cuda_graph")
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--new-tokens", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    found: dict[str, Any] = {"device": torch.cuda.get_device_name(), "torch": torch.__version__}
    found |= {k: v for k, v in vars(options).items() if k != "out"}
    found |= agree() if options.what == "agree" else measure(options)
    options.out.write_text(json.dumps(found, indent=1))
    print(json.dumps({k: v for k, v in found.items() if k != "kernel_times"}, indent=None)[:3000])
    for row in found.get("kernel_times", [])[:28]:
        print(f"{row[2]:12.0f} us {row[1]:6d} x  {row[0]}")


if __name__ == "__main__":
    main()
