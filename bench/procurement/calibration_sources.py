"""`calibration.yaml` from the committed runs.

    python -m bench.procurement.calibration_sources results/published

The profiles are single checks of 2026-11-25: 16 forced denoise steps, one warm-up step and a
prefill of 1,024 tokens under the profiler, sorted by kernel. A prefill's share is in them, so parts
are scaled to sum to the step as timed without it. They end with the first canvas, before that day's
attention kernel went wrong.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from bench.devices import DEVICES, device, recognised
from bench.procurement.calibration import Measurements, Profile, Timed
from bench.store import Run, open_run

_PROFILES = {
    "h100": "nvidia-h100-80gb-2026-11-25/checks/step_fp8.json",
    "h200": "nvidia-h200-2026-11-25/checks/step_fp8.json",
}
_UNTUNED = "nvidia-h100-80gb-2026-11-25/checks/step_fp8_kernels_torch.json"
_RUN = "nvidia-h200-2026-11-26/fixed_work"
_CONTEXT = 1024
_FORWARDS, _DENOISE = 18, 17
_PARTS = {
    "gate_up_kernel": "experts",
    "down_kernel": "experts",
    "linear_kernel": "products",
    "nvjet_sm90_qqtst": "products",
    "attend": "attention",
    "combine": "attention",
    "mix_tiles": "attention",
    "score_tiles": "attention",
    "qkv_rows": "attention",
    "nvjet_sm90_tst_320x128": "logits",
    "nvjet_sm90_tst_256x128": "self_conditioning",
    "nvjet_sm90_tst_128x64": "self_conditioning",
    "nvjet_sm90_tst_88x64": "self_conditioning",
}
"""Parts by the beginning of a kernel's name; all others are fixed time."""
_ONCE_A_STEP = ("logits", "self_conditioning")


def collect(published: Path) -> Measurements:
    """Every measurement, from the files that hold them."""
    profiles = tuple(_profile(name, published, path) for name, path in _PROFILES.items())
    untuned = _runs(published / _UNTUNED)[0]["denoise_ms"]
    tuned = next(profile for profile in profiles if profile.device == "h100")
    run = open_run(published / _RUN)
    points = sorted(run.points.itertuples(), key=lambda p: (p.decoding, p.precision != "fp8"))
    return Measurements(
        profiles,
        tuple(_timed(run, point) for point in points),
        round(untuned / tuned.step_ms, 4),
        f"{_UNTUNED} over {tuned.source}",
    )


def as_yaml(given: Measurements) -> str:
    """The file's text."""
    head = (
        "# Measured times that the projection rests on, from results/published; made by\n"
        "# bench.procurement.calibration_sources.\n"
    )
    return head + yaml.safe_dump(asdict(given), sort_keys=False, width=110)


def _profile(name: str, published: Path, path: str) -> Profile:
    document = json.loads((published / path).read_text())
    parts: dict[str, float] = {}
    for kernel, _, time_us in document["kernel_times"]:
        part = next((p for start, p in _PARTS.items() if kernel.startswith(start)), "fixed")
        forwards = _DENOISE if part in _ONCE_A_STEP else _FORWARDS
        parts[part] = parts.get(part, 0.0) + time_us / forwards / 1e3
    (run,) = document["runs"]
    scale = run["denoise_ms"] / sum(parts.values())
    return Profile(
        device=name,
        precision=document["precision"],
        context=_CONTEXT,
        step_ms=round(run["denoise_ms"], 4),
        commit_ms=round(run["commit_ms"], 4),
        parts_ms={part: round(scale * ms, 4) for part, ms in sorted(parts.items())},
        source=path,
    )


def _runs(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_text())["runs"]
    return found


def _timed(run: Run, point: Any) -> Timed:
    requests, steps = run.requests, run.steps
    assert requests is not None
    assert steps is not None
    own = requests[requests["point_id"] == point.point_id]
    forwards = steps[steps["point_id"] == point.point_id]
    means = forwards.groupby("phase")["device_ms"].mean()
    wall_ms = 1e3 * float(own["wall_s"].sum())
    is_diffusion = point.decoding == "diffusion"
    deliveries = own["num_canvases" if is_diffusion else "delivered_tokens"].sum()
    listed = recognised(point.device)
    name = next(key for key, each in DEVICES.items() if each is listed)
    is_fp8 = point.precision == "fp8"
    rate = point.probe_fp8_flops_per_s if is_fp8 else point.probe_wide_flops_per_s
    data_sheet = device(name).flops(is_fp8=is_fp8)
    assert data_sheet is not None
    return Timed(
        device=name,
        decoding=point.decoding,
        precision=point.precision,
        context=int(point.step_context),
        prompt_tokens=int(own["prompt_tokens"].iloc[0]),
        processes=int(point.num_processes),
        forwards_ms={
            kind: round(float(means[kind]), 4)
            for kind in (("denoise", "commit") if is_diffusion else ("decode",))
        },
        host_ms=round((wall_ms - float(forwards["device_ms"].sum())) / float(deliveries), 4),
        prefill_ms=round(float(means["prefill"]), 4),
        power_share=round(point.power_mean_w / point.power_limit_w, 4),
        copy_share=round(point.probe_copy_bytes_per_s / device(name).bytes_per_s, 4),
        product_share=round(rate / data_sheet, 4),
        source=_RUN,
    )


def main() -> None:
    """Writes the file beside this module."""
    target = Path(__file__).parent / "calibration.yaml"
    target.write_text(as_yaml(collect(Path(sys.argv[1]))), encoding="utf-8")


if __name__ == "__main__":
    main()
