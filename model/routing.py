"""Which experts a forward touches, seen from outside: hooks on the routers, nothing in the model.

Legend: T tokens, E experts, K experts a token.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from model.transformer import Transformer, Unwrapped


@contextmanager
def observed_routing(model: Transformer) -> Iterator[list[Tensor]]:
    """Appends, for every layer a forward passes, which experts it touched, bool [E], in order.

    Steps run as they are meanwhile: a compiled one would not call the hooks.
    """
    touched: list[Tensor] = []

    def note(router: nn.Module, inputs: object, output: Tensor | tuple[Tensor, Tensor]) -> None:
        touched.append(_touched(output, model.config.moe.num_experts))

    handles = [block.router.register_forward_hook(note) for block in model.layers()]
    wrapper, model.wrap_step = model.wrap_step, Unwrapped()
    try:
        yield touched
    finally:
        model.wrap_step = wrapper
        for handle in handles:
            handle.remove()


def _touched(routing: Tensor | tuple[Tensor, Tensor], num_experts: int) -> Tensor:
    """Of a router's output: chosen indices [T, K] with weights, or weights [T, E]."""
    if isinstance(routing, Tensor):
        return (routing > 0).any(dim=0)
    expert_TK, _ = routing
    found = torch.zeros(num_experts, dtype=torch.bool, device=expert_TK.device)
    return found.index_fill(0, expert_TK.flatten().long(), True)
