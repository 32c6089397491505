"""Triton kernels between the matrix products of a step: norms, sums, gates, e4m3 on the way out.

A row stays in one program's registers; every rounding of the unfused chain (`model.ops.reference`,
`Block.forward`) is kept, so only the order of fp32 sums differs. Leading dimensions are free; the
last is contiguous.

Legend: T rows, D model, F hidden, K experts a token, S parts of a split product.
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
import triton
from torch import Tensor

from model.kernels.glue_jit import gate_rows, norm_rows, quantise_rows_kernel
from model.kernels.overlap import overlapped
from model.kernels.prefetch_jit import THREADS

_FP8 = torch.float8_e4m3fn
_MAX_BRANCHES = 3
_MOST_ASKED_BYTES = 128 << 10  # by one thread; more at once is nowhere documented

Quantised = tuple[Tensor, Tensor]  # e4m3 values [..., D] and their fp32 scale [...]
Soon = tuple[Tensor, int]  # weights, and how many of their first bytes a later kernel starts with


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
    (out,) = _launch(None, x, None, eps, [Branch(weight)])[1]
    return out  # type: ignore[return-value]


def norms(x: Tensor, eps: float, branches: Sequence[Branch]) -> list[Tensor | Quantised]:
    """Up to three norms of one x."""
    return _launch(None, x, None, eps, branches)[1]


def add_rms_norm(
    residual: Tensor, x: Tensor, weight: Tensor | None, eps: float, scalar: Tensor | None = None
) -> Tensor:
    """(residual + rms_norm(x)) * scalar; the scalar has one element.

    x may also be fp32 parts [S, ..., D] (`dense.linear_fp8_parts`): summed in order and rounded.
    """
    return add_rms_norm_then_norms(residual, x, weight, eps, scalar, ())[0]


def add_rms_norm_then_norms(
    residual: Tensor,
    x: Tensor,
    weight: Tensor | None,
    eps: float,
    scalar: Tensor | None,
    branches: Sequence[Branch],
    *,
    overlap: bool = False,
    soon: Soon | None = None,
) -> tuple[Tensor, list[Tensor | Quantised]]:
    """`add_rms_norm` and up to three norms of its result.

    overlap: x was written by the kernel just before (`model.kernels.overlap`).
    soon: sent into the second-level cache meanwhile.
    """
    new, outputs = _launch(residual, x, weight, eps, branches, scalar, overlap=overlap, soon=soon)
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
    weight_TK: Tensor | None = None,
    *,
    soon: Soon | None = None,
) -> tuple[Tensor, list[Tensor | Quantised]]:
    """A block's last lines and what the next block starts from, all [..., D].

    (residual + norm(norm(dense) * w_dense + norm(routed) * w_routed) * w_post) * scalar

    Args:
        scalar: one for all rows, or several, contiguous, each for as many rows in turn.
        dense: or fp32 parts [S, ..., D] (`dense.linear_fp8_parts`): summed in order and rounded.
        routed: with weight_TK (fp32) the experts' unweighted rows [T * K, D]
            (`experts.expert_rows`), which are mixed as `experts.combine` does.
        soon: sent into the second-level cache meanwhile.

    Returns:
        the new residual, and the branches' norms of it (the next block's input norm).
    """
    pair = (routed, weight_TK, dense_weight, routed_weight)
    new, outputs = _launch(residual, dense, post_weight, eps, branches, scalar, pair, soon=soon)
    assert new is not None
    return new, outputs


def quantise_rows(x: Tensor) -> Quantised:
    """`model.precision.quantise_rows`, with scales [...] instead of [..., 1]."""
    values, scale = _quantised_like(x, x.shape[-1])
    _each_row(quantise_rows_kernel, x, values, scale)
    return values, scale


def gated_gelu(gate_up: Tensor) -> Tensor:
    """gelu_tanh(gate) * up of a merged [..., 2F], in its dtype."""
    out = gate_up.new_empty((*gate_up.shape[:-1], gate_up.shape[-1] // 2))
    _each_row(gate_rows, gate_up, out, None)
    return out


def gated_gelu_quantised(gate_up: Tensor) -> Quantised:
    """`gated_gelu`, then `quantise_rows`."""
    values, scale = _quantised_like(gate_up, gate_up.shape[-1] // 2)
    _each_row(gate_rows, gate_up, values, scale)
    return values, scale


def _block(size: int) -> int:
    """Padded row length."""
    return max(triton.next_power_of_2(size), 32)


def _norm_warps(size: int, heavy: bool) -> int:
    """Sixteen values a thread, eight where they are quantised or mixed as well."""
    return min(max(_block(size) // (256 if heavy else 512), 1), 16)


def _rows_and_warps(size: int, fp8: bool) -> tuple[int, int]:
    """Rows a program and its warps; a short row fits one warp, whose sums need no barrier."""
    block = _block(size)
    return 1, 1 if block <= 1024 else _norm_warps(size, fp8)


def _each_row(kernel: Any, x: Tensor, out: Tensor, scale: Tensor | None) -> None:
    size = out.shape[-1]
    count = out.numel() // size
    rows, warps = _rows_and_warps(size, scale is not None)
    kernel[(triton.cdiv(count, rows),)](
        x.contiguous(), out, scale, count, SIZE=size, BLOCK=_block(size), ROWS=rows,
        **overlapped(x), num_warps=warps,
    )  # fmt: skip


def _quantised_like(x: Tensor, size: int) -> Quantised:
    values = torch.empty((*x.shape[:-1], size), dtype=_FP8, device=x.device)
    return values, torch.empty(x.shape[:-1], dtype=torch.float32, device=x.device)


def _launch(
    residual: Tensor | None,
    x: Tensor,
    weight: Tensor | None,
    eps: float,
    branches: Sequence[Branch],
    scalar: Tensor | None = None,
    pair: tuple[Tensor, Tensor | None, Tensor, Tensor] | None = None,
    *,
    overlap: bool = False,
    soon: Soon | None = None,
) -> tuple[Tensor | None, list[Tensor | Quantised]]:
    """The row kernel on whatever is given; without a residual the branches are norms of x."""
    if len(branches) > _MAX_BRANCHES:
        raise ValueError(f"{len(branches)} branches; at most {_MAX_BRANCHES} fit one kernel")
    like = x if residual is None else residual
    size, count = like.shape[-1], like.numel() // like.shape[-1]
    new = None if residual is None else _contiguous_like(residual)
    other, share_TK, x_weight, other_weight = pair or (None, None, None, None)
    outputs: list[Tensor | Quantised] = []
    arguments: list[Tensor | None] = []
    for branch in branches:
        if branch.kind == "fp8":
            values, scale = _quantised_like(like, size)
            outputs.append((values, scale))
            arguments += [branch.weight, values, scale]
        else:
            out = _contiguous_like(like)
            outputs.append(out)
            arguments += [branch.weight, out, None]
    arguments += [None] * (3 * _MAX_BRANCHES - len(arguments))
    routers = [branch.kind == "router" for branch in branches] + [False] * _MAX_BRANCHES
    piece_bytes = 0 if soon is None else _piece_bytes(*soon, count)
    heavy = share_TK is not None or any(branch.kind == "fp8" for branch in branches)
    norm_rows[(count,)](
        None if residual is None else residual.contiguous(),
        x.contiguous(),
        None if other is None else other.contiguous(),
        None if share_TK is None else share_TK.contiguous(),
        weight, x_weight, other_weight, scalar, new, *arguments,
        soon[0] if soon is not None and piece_bytes else None, eps, size**-0.5, count * size,
        count // (1 if scalar is None else scalar.numel()),
        ROUTER0=routers[0], ROUTER1=routers[1], ROUTER2=routers[2],
        TOP_K=1 if share_TK is None else share_TK.shape[-1],
        PARTS=x.shape[0] if x.ndim > like.ndim else 1,
        SIZE=size, BLOCK=_block(size), num_warps=_norm_warps(size, heavy), PIECE_BYTES=piece_bytes,
        **(overlapped(x) if overlap else {"OVERLAP": False}),
    )  # fmt: skip
    return new, outputs


def _piece_bytes(weights: Tensor, size_bytes: int, programs: int) -> int:
    """Of what each asking thread sends for: together at most so many, none behind the last."""
    if not weights.is_cuda:
        return 0
    pieces = programs * THREADS
    fits = min(size_bytes, weights.numel() * weights.element_size()) // pieces
    return min(fits, _MOST_ASKED_BYTES) // 16 * 16


def _contiguous_like(x: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)
