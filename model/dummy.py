"""Seeded random weights: for training's start and for speed at shapes without a checkpoint."""

from collections.abc import Callable, Iterator

import torch
from torch import nn


def fill_with_random(model: nn.Module, seed: int) -> None:
    """Matrices get variance 1 / fan-in, so activations keep their size; norms and scales stay one.

    The embedding gets a quarter of that variance, which keeps the first logits small.
    """
    generator = torch.Generator(next(model.parameters()).device).manual_seed(seed)
    for name, parameter in model.named_parameters():
        _fill(name, parameter, generator)


def materialise(
    model: nn.Module, device: torch.device, seed: int, finished: Callable[[nn.Module], None]
) -> None:
    """`fill_with_random` for a model on the meta device, part by part, where it is to live.

    Args:
        finished: called with every part (a block, the embedding, ...) once it is filled, so that
            no more than one part lies there in its original width.
    """
    generator = torch.Generator(device).manual_seed(seed)
    for part_name, part in parts(model):
        part.to_empty(device=device)
        for tensor in (*part.parameters(), *part.buffers()):
            if tensor.ndim <= 1:
                tensor.data.fill_(1)
        for parameter_name, parameter in part.named_parameters(prefix=part_name):
            _fill(parameter_name, parameter, generator)
        finished(part)


def parts(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """What a model is made of, in order and by name: the embedding, each block, the final norm."""
    for name, child in model.named_children():
        if isinstance(child, nn.ModuleList):
            for index, part in enumerate(child):
                yield f"{name}.{index}", part
        else:
            yield name, child


def _fill(name: str, parameter: nn.Parameter, generator: torch.Generator) -> None:
    if parameter.ndim > 1:
        gain = 0.5 if name == "embedding.weight" else 1.0
        std = gain * parameter.shape[-1] ** -0.5
        nn.init.normal_(parameter, std=std, generator=generator)
