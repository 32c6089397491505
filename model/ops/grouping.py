"""Routed rows in expert order, for grouped matrix products; no host synchronisation.

Legend: T tokens, K experts a token, R = T * K routed rows, D model, E experts, I in, O out.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def sort_by_expert(expert_TK: Tensor, num_experts: int) -> tuple[Tensor, Tensor]:
    """The order [R] that sorts routed rows by expert, and each expert's end in it, int32 [E]."""
    sorted_R, order_R = torch.sort(expert_TK.flatten(), stable=True)
    experts = torch.arange(num_experts, device=sorted_R.device, dtype=sorted_R.dtype)
    return order_R, torch.searchsorted(sorted_R, experts, right=True).to(torch.int32)


def grouped_mm(x_RI: Tensor, weight_EIO: Tensor, end_E: Tensor) -> Tensor:
    """Each expert's rows times its matrix: [R, O]."""
    if x_RI.dtype is torch.float32 and torch.compiler.is_compiling():
        return _traceable(x_RI, weight_EIO, end_E)
    return F.grouped_mm(x_RI, weight_EIO, offs=end_E)


@torch.library.custom_op("canvasbench::grouped_mm", mutates_args=())
def _traceable(x_RI: Tensor, weight_EIO: Tensor, end_E: Tensor) -> Tensor:
    """The same as an operation of our own: tracing torch's (2.13) refuses fp32, which runs."""
    return F.grouped_mm(x_RI, weight_EIO, offs=end_E)


@_traceable.register_fake
def _(x_RI: Tensor, weight_EIO: Tensor, end_E: Tensor) -> Tensor:
    return x_RI.new_empty(x_RI.shape[0], weight_EIO.shape[2])


def by_row(weight_TK: Tensor, order_R: Tensor) -> Tensor:
    """The weights of sorted rows, fp32 [R]."""
    return weight_TK.flatten()[order_R]


def mix(weighted_RD: Tensor, order_R: Tensor, top_k: int) -> Tensor:
    """Every token's sum, accumulated in fp32, of its own K rows of weighted sorted outputs."""
    back_R = torch.empty_like(order_R)
    back_R.scatter_(0, order_R, torch.arange(len(order_R), device=order_R.device))
    return weighted_RD[back_R].unflatten(0, (-1, top_k)).sum(1)
