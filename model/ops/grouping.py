"""Routed rows in expert order, for grouped matrix products; no host synchronisation.

Legend: T tokens, K experts a token, R = T * K routed rows, D model, E experts.
"""

import torch
from torch import Tensor


def sort_by_expert(expert_TK: Tensor, num_experts: int) -> tuple[Tensor, Tensor]:
    """The order [R] that sorts routed rows by expert, and each expert's end in it, int32 [E]."""
    sorted_R, order_R = torch.sort(expert_TK.flatten(), stable=True)
    experts = torch.arange(num_experts, device=sorted_R.device, dtype=sorted_R.dtype)
    return order_R, torch.searchsorted(sorted_R, experts, right=True).to(torch.int32)


def mix(out_RD: Tensor, order_R: Tensor, weight_TK: Tensor) -> Tensor:
    """Every token's weighted sum, in fp32, of its own K rows of sorted outputs: [T, D]."""
    back_R = torch.empty_like(order_R)
    back_R.scatter_(0, order_R, torch.arange(len(order_R), device=order_R.device))
    out_TKD = out_RD[back_R].unflatten(0, weight_TK.shape)
    return (out_TKD * weight_TK[..., None]).sum(1).to(out_RD.dtype)
