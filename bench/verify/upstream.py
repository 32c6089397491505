"""The upstream side: `transformers` loads the folder, answers, and is gone before ours is loaded.

An unquantised checkpoint it reads by itself. Of an fp8 one it gets the weights times their scales
in bf16, put in place by our table of names: upstream runs this architecture's experts in bf16.
"""

from pathlib import Path
from typing import Any

import torch

from bench.backends.transformers.generation import diffusion_settings, greedy_settings
from bench.backends.transformers.loading import dummy, from_folder
from bench.verify.observed import Asked, Observed
from bench.verify.recording import DraftStreamer, recording
from model import DiffusionSampling, ModelConfig
from model.checkpoint import CheckedCheckpoint, CheckpointReader, Layout, rules, scale_name
from model.sampling import CanvasNoise


@torch.inference_mode()
def observe_upstream(
    folder: Path,
    config: ModelConfig,
    asked: Asked,
    *,
    fp8: bool,
    dtype: torch.dtype,
    device: torch.device,
    seed: int,
) -> tuple[Observed, list[CanvasNoise]]:
    """What upstream computes, and the noise its sampler drew (empty for the other sibling)."""
    if fp8:
        model = dequantised(config, folder, dtype, device)
    else:
        model = from_folder(config, folder, dtype).to(device)
    model.generation_config.eos_token_id = list(config.eos_token_ids)
    prompt = torch.tensor([asked.prompt], device=device)
    torch.manual_seed(seed)
    if config.canvas_length is None:
        logits = model(input_ids=prompt).logits
        settings = greedy_settings(config, asked.max_new_tokens, config.eos_token_ids)
        ids = model.generate(prompt, generation_config=settings)
        tokens = _until_eos(ids[0, prompt.shape[1] :].tolist(), config)
        return Observed(logits[0].float().cpu(), None, None, tokens), []
    canvas = torch.tensor([asked.canvas], device=device)
    logits = model(input_ids=prompt, decoder_input_ids=canvas).logits
    sampling = DiffusionSampling()
    settings = diffusion_settings(config, sampling, asked.max_new_tokens, config.eos_token_ids)
    with recording() as recorded:
        ids = model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            generation_config=settings,
            streamer=DraftStreamer(recorded),
        ).sequences
    observed = Observed(
        logits[0].float().cpu(),
        torch.stack(recorded.accepted[0])[:, 0],
        torch.stack(recorded.argmax[0])[:, 0],
        _until_eos(ids[0, prompt.shape[1] :].tolist(), config),
    )
    return observed, recorded.noise(sampling.max_denoising_steps)


@torch.no_grad()
def dequantised(config: ModelConfig, folder: Path, dtype: torch.dtype, device: torch.device) -> Any:
    """Upstream's model with an fp8 checkpoint's weights, each times its scale, rounded to `dtype`.

    Raises:
        ValueError: a tensor is missing, unknown, or of a wrong type or shape.
    """
    reader = CheckpointReader(folder)
    checkpoint = CheckedCheckpoint(config, reader, fp8=True)
    model = dummy(config, dtype, device, seed=0)
    own = dict(model.named_parameters(remove_duplicate=False)) | dict(model.named_buffers())
    prefix = "model." if config.canvas_length is None else "model.decoder."
    for theirs, stored in zip(
        rules(config, Layout(prefix)), rules(config, checkpoint.layout), strict=True
    ):
        targets = [own[source.name] for source in theirs.sources]
        if len(targets) < len(stored.sources):  # fused experts there, single ones here
            rows = targets[0].flatten(0, -2)
            targets = list(rows.split([source.shape[0] for source in stored.sources]))
        for target, source in zip(targets, stored.sources, strict=True):
            values = reader.read(source.name).to(device)
            if stored.in_recipe:
                values = values.float() * reader.read(scale_name(source.name)).to(device).float()
            target.copy_(values)
    reader.close()
    return model


def _until_eos(ids: list[int], config: ModelConfig) -> list[int]:
    ends = (index + 1 for index, token in enumerate(ids) if token in config.eos_token_ids)
    return ids[: next(ends, len(ids))]
