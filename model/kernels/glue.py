"""Triton kernels between the matrix products of a step: norms, sums, gates, e4m3 on the way out.

One program a row; every rounding of the unfused chain (`model.ops.reference`, `Block.forward`) is
kept, so only the order of fp32 sums differs. Leading dimensions are free; the last is contiguous.

Legend: D model, F hidden.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
import triton
from torch import Tensor

from model.kernels.glue_jit import gate_rows, norm_rows, quantise_rows_kernel

_FP8 = torch.float8_e4m3fn
_MAX_BRANCHES = 3

Quantised = tuple[Tensor, Tensor]  # e4m3 values [..., D] and their fp32 scale [...]


class Branch(NamedTuple):
    """A norm of the new residual that some product starts from.

    Attributes:
        weight: of the norm; with kind "router" the router's scale; None for none.
        kind: "plain" keeps the activation dtype, "fp8" quantises each row, "router" is the rounding
            chain of `model.moe.Router`: norm without weight, times weight, times D^-0.5.
    """

    weight: Tensor | None
    kind: Literal["plain", "fp8", "router"] = "plain"


def rms_norm(x: Tensor, weight: Tensor | None, eps: float) -> Tensor:
    """`reference.rms_norm` in x's dtype."""
    (out,) = _launch(None, x, None, None, None, None, None, eps, [Branch(weight)])[1]
    return out  # type: ignore[return-value]


def rms_norm_quantised(x: Tensor, weight: Tensor | None, eps: float) -> Quantised:
    """`rms_norm`, then `quantise_rows`."""
    (out,) = _launch(None, x, None, None, None, None, None, eps, [Branch(weight, "fp8")])[1]
    return out  # type: ignore[return-value]


def norms(x: Tensor, eps: float, branches: Sequence[Branch]) -> list[Tensor | Quantised]:
    """Up to three norms of one x."""
    return _launch(None, x, None, None, None, None, None, eps, branches)[1]


def add_rms_norm(
    residual: Tensor, x: Tensor, weight: Tensor | None, eps: float, scalar: Tensor | None = None
) -> Tensor:
    """(residual + rms_norm(x)) * scalar; the scalar has one element."""
    return add_rms_norm_then_norms(residual, x, weight, eps, scalar, ())[0]


def add_rms_norm_then_norms(
    residual: Tensor,
    x: Tensor,
    weight: Tensor | None,
    eps: float,
    scalar: Tensor | None,
    branches: Sequence[Branch],
) -> tuple[Tensor, list[Tensor | Quantised]]:
    """`add_rms_norm` and up to three norms of its result."""
    new, outputs = _launch(residual, x, weight, None, None, None, scalar, eps, branches)
    assert new is not None
    return new, outputs


def end_block(
    residual: Tensor,
    dense: Tensor,
    routed: Tensor,
    dense_weight: Tensor,
    routed_weight: Tensor,
    post_weight: Tensor,
    eps: float,
    scalar: Tensor | None,
    branches: Sequence[Branch],
) -> tuple[Tensor, list[Tensor | Quantised]]:
    """A block's last lines and what the next block starts from, all [..., D].

    (residual + norm(norm(dense) * w_dense + norm(routed) * w_routed) * w_post) * scalar

    Returns:
        the new residual, and the branches' norms of it (the next block's input norm).
    """
    new, outputs = _launch(
        residual, dense, post_weight, routed, dense_weight, routed_weight, scalar, eps, branches
    )
    assert new is not None
    return new, outputs


def quantise_rows(x: Tensor) -> Quantised:
    """`model.precision.quantise_rows`, with scales [...] instead of [..., 1]."""
    size = x.shape[-1]
    values, scale = _quantised_like(x, size)
    block, warps = _shape(size)
    quantise_rows_kernel[(x.numel() // size,)](
        x.contiguous(), values, scale, SIZE=size, BLOCK=block, num_warps=warps
    )
    return values, scale


def gated_gelu(gate_up: Tensor) -> Tensor:
    """gelu_tanh(gate) * up of a merged [..., 2F], in its dtype."""
    size = gate_up.shape[-1] // 2
    out = gate_up.new_empty((*gate_up.shape[:-1], size))
    block, warps = _shape(size)
    gate_rows[(out.numel() // size,)](
        gate_up.contiguous(), out, None, SIZE=size, BLOCK=block, num_warps=warps
    )
    return out


def gated_gelu_quantised(gate_up: Tensor) -> Quantised:
    """`gated_gelu`, then `quantise_rows`."""
    size = gate_up.shape[-1] // 2
    values, scale = _quantised_like(gate_up, size)
    block, warps = _shape(size)
    gate_rows[(scale.numel(),)](
        gate_up.contiguous(), values, scale, SIZE=size, BLOCK=block, num_warps=warps
    )
    return values, scale


def _shape(size: int) -> tuple[int, int]:
    """Padded row length and warps: about sixteen values a thread."""
    block = max(triton.next_power_of_2(size), 32)
    return block, min(max(block // 512, 1), 16)


def _quantised_like(x: Tensor, size: int) -> Quantised:
    values = torch.empty((*x.shape[:-1], size), dtype=_FP8, device=x.device)
    return values, torch.empty(x.shape[:-1], dtype=torch.float32, device=x.device)


def _launch(
    residual: Tensor | None,
    x: Tensor,
    weight: Tensor | None,
    pair: Tensor | None,
    x_weight: Tensor | None,
    pair_weight: Tensor | None,
    scalar: Tensor | None,
    eps: float,
    branches: Sequence[Branch],
) -> tuple[Tensor | None, list[Tensor | Quantised]]:
    """The row kernel on whatever is given; without a residual the branches are norms of x."""
    if len(branches) > _MAX_BRANCHES:
        raise ValueError(f"{len(branches)} branches; at most {_MAX_BRANCHES} fit one kernel")
    size = x.shape[-1]
    new = (
        None
        if residual is None
        else torch.empty_like(residual, memory_format=torch.contiguous_format)
    )
    outputs: list[Tensor | Quantised] = []
    arguments: list[Tensor | None] = []
    for branch in branches:
        if branch.kind == "fp8":
            values, scale = _quantised_like(x, size)
            outputs.append((values, scale))
            arguments += [branch.weight, values, scale]
        else:
            out = torch.empty_like(x, memory_format=torch.contiguous_format)
            outputs.append(out)
            arguments += [branch.weight, out, None]
    arguments += [None] * (3 * _MAX_BRANCHES - len(arguments))
    routers = [branch.kind == "router" for branch in branches] + [False] * _MAX_BRANCHES
    block, warps = _shape(size)
    norm_rows[(x.numel() // size,)](
        None if residual is None else residual.contiguous(),
        x.contiguous(),
        None if pair is None else pair.contiguous(),
        weight, x_weight, pair_weight, scalar, new, *arguments, eps, size**-0.5,
        ROUTER0=routers[0], ROUTER1=routers[1], ROUTER2=routers[2],
        SIZE=size, BLOCK=block, num_warps=warps,
    )  # fmt: skip
    return new, outputs
