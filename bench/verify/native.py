"""Our side: the engine that a sweep would measure, asked the same and given upstream's noise."""

import torch

from bench.verify.observed import Asked, Observed
from model import DiffusionSampling, GreedySampling, LoadedModel, TraceLevel, generate
from model.diffusion import DiffusionTransformer
from model.kv_cache import KVCache
from model.sampling import BlockDelivered, CanvasNoise, CanvasTrace, RecordedNoise


def observe_native(loaded: LoadedModel, asked: Asked, noise: list[CanvasNoise]) -> Observed:
    """What our engine computes; `noise` is what upstream drew, if it was run and samples."""
    model, diffusion = loaded.model, isinstance(loaded.model, DiffusionTransformer)
    logits_LV = first_logits(loaded, asked)
    events = generate(
        model,
        [asked.prompt],
        DiffusionSampling() if diffusion else GreedySampling(),
        max_new_tokens=asked.max_new_tokens,
        trace=TraceLevel.POSITIONS,
        noise=RecordedNoise(noise) if noise else None,
    )
    blocks = [event for event in events if isinstance(event, BlockDelivered)]
    tokens = [token for block in blocks for token in block.rows[0].tokens]
    trace = blocks[0].trace
    if not diffusion:
        return Observed(logits_LV, None, None, tokens)
    assert isinstance(trace, CanvasTrace)
    assert trace.accepted is not None
    assert trace.argmax is not None
    return Observed(logits_LV, trace.accepted[:, 0], trace.argmax[:, 0], tokens)


@torch.inference_mode()
def first_logits(loaded: LoadedModel, asked: Asked) -> torch.Tensor:
    """Of the first denoise step, or of all the prompt's positions; fp32 [L, V] on the host."""
    model = loaded.model
    num_slots = len(asked.prompt) + len(asked.canvas) + 1
    cache = KVCache(loaded.config, 1, num_slots, dtype=model.dtype, device=model.device)
    hidden = model.encode(torch.tensor([asked.prompt], device=model.device), cache)
    if isinstance(model, DiffusionTransformer):
        canvas = torch.tensor([asked.canvas], device=model.device)
        return model.denoise(canvas, None, cache)[0].float().cpu()
    return model.logits(hidden)[0].float().cpu()
