"""Loads a checkpoint in this process and prints what that took, as one JSON line.

`python -m tests.model.loading_memory FOLDER PRECISION`; Linux only. `extra_bytes` is the peak
resident memory of the loading beyond what the process held before and the model holds after it.
"""

import json
import sys
import time
from pathlib import Path

import torch

from model import load
from model.diffusion import DiffusionTransformer
from model.kv_cache import KVCache
from model.transformer import Transformer


def status_bytes(field: str) -> int:
    line = next(
        x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(field)
    )
    return int(line.split()[1]) * 1024


def model_bytes(model: Transformer) -> int:
    """Of all storages, each once."""
    storages = {
        tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
        for tensor in (*model.parameters(), *model.buffers())
    }
    return sum(storages.values())


def forward(model: Transformer) -> bool:
    """One short pass; whether its logits are finite."""
    config = model.config
    length = config.canvas_length or 1
    cache = KVCache(config, 1, length + 3, dtype=model.dtype, device=model.device)
    with torch.inference_mode():
        hidden = model.encode(torch.tensor([[2, 5, 7]]), cache)
        if isinstance(model, DiffusionTransformer):
            logits = model.denoise(torch.arange(9, 9 + length)[None], None, cache)
        else:
            logits = model.logits(hidden)
    return bool(logits.isfinite().all())


def main(folder: str, precision: str) -> None:
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak (proc(5))
    before = status_bytes("VmRSS")
    start = time.perf_counter()
    loaded = load(folder, precision=precision, kernels="reference")
    load_s = time.perf_counter() - start
    own = model_bytes(loaded.model)
    extra = status_bytes("VmHWM") - before - own
    start = time.perf_counter()
    finite = forward(loaded.model)
    found = {
        "model_bytes": own,
        "extra_bytes": extra,
        "load_s": round(load_s, 1),
        "forward_s": round(time.perf_counter() - start, 1),
        "logits_finite": finite,
        "weights": loaded.weights.sha256,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
