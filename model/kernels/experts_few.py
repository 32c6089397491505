"""Routed experts for one or two tokens: every assignment reads its own weights, row by row.

No tensor core and no sort: a program holds a few weight rows in registers, all loads in flight at
once. The second kernel quantises the hidden rows (fp8) and sums a token's experts itself.

Legend: T tokens, D model, E experts, K experts a token, G = 2F gate and up rows, F expert hidden,
N = T * K assignments.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from model.kernels.experts_jit import gated_gelu
from model.kernels.launch import begin, launch_options

FP8 = torch.float8_e4m3fn


@dataclass(frozen=True, slots=True)
class Rows:
    """Weight rows a program, depth of a load, warps."""

    out: int
    inner: int
    warps: int = 4


def default_rows(dtype: torch.dtype) -> tuple[Rows, Rows]:
    """Rows of gate_up and down: 16 bytes a thread and load."""
    if dtype == FP8:
        return Rows(8, 256), Rows(16, 128)
    return Rows(4, 256), Rows(8, 128)


def few_hidden(
    x_TD: Tensor,
    row_scale_T: Tensor | None,
    expert_TK: Tensor,
    gate_up: Tensor,
    scale_EG: Tensor | None,
    rows: Rows,
) -> Tensor:
    """gelu(gate(x)) * up(x) of every assignment: [N, F] bf16. Scales go with e4m3 operands."""
    hidden, width = gate_up.shape[1] // 2, gate_up.shape[2]
    count = expert_TK.numel()
    hidden_NF = x_TD.new_empty((count, hidden), dtype=torch.bfloat16)
    _hidden_kernel[(count, triton.cdiv(hidden, rows.out))](
        x_TD,
        row_scale_T,
        gate_up,
        scale_EG,
        expert_TK,
        hidden_NF,
        D=width,
        F=hidden,
        TOP_K=expert_TK.shape[1],
        FP8=gate_up.dtype == FP8,
        BLOCK_OUT=rows.out,
        BLOCK_INNER=rows.inner,
        num_warps=rows.warps,
        **launch_options(),
    )
    return hidden_NF


def few_out(
    hidden_NF: Tensor,
    expert_TK: Tensor,
    weight_TK: Tensor,
    down: Tensor,
    scale_ED: Tensor | None,
    rows: Rows,
) -> Tensor:
    """Sum over each token's experts of weight * down(hidden): [T, D] bf16."""
    width, hidden = down.shape[1:]
    tokens, top_k = expert_TK.shape
    out_TD = hidden_NF.new_empty((tokens, width))
    _out_kernel[(triton.cdiv(width, rows.out), tokens)](
        hidden_NF,
        down,
        scale_ED,
        expert_TK,
        weight_TK,
        out_TD,
        D=width,
        F=hidden,
        F_POW2=triton.next_power_of_2(hidden),
        TOP_K=top_k,
        FP8=down.dtype == FP8,
        BLOCK_OUT=rows.out,
        BLOCK_INNER=rows.inner,
        num_warps=rows.warps,
        **launch_options(),
    )
    return out_TD


@triton.jit
def _hidden_kernel(
    x_TD,
    row_scale_T,
    gate_up,
    scale_EG,
    expert_TK,
    hidden_NF,
    D: tl.constexpr,
    F: tl.constexpr,
    TOP_K: tl.constexpr,
    FP8: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
    BLOCK_INNER: tl.constexpr,
    PDL: tl.constexpr,
):
    """One program: BLOCK_OUT gate rows and the same up rows of an assignment."""
    begin(PDL)
    assignment = tl.program_id(0)
    token = assignment // TOP_K
    expert = tl.load(expert_TK + assignment)
    out = tl.program_id(1) * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    inside = out < F
    lane = tl.arange(0, BLOCK_INNER)
    base = gate_up + expert.to(tl.int64) * (2 * F * D) + out[:, None] * D
    gate = tl.zeros([BLOCK_OUT, BLOCK_INNER], tl.float32)
    up = tl.zeros([BLOCK_OUT, BLOCK_INNER], tl.float32)
    for inner in tl.static_range(0, D, BLOCK_INNER):
        depth = inner + lane
        mask = inside[:, None]
        if inner + BLOCK_INNER > D:
            mask = mask & (depth < D)[None, :]
        x = tl.load(x_TD + token * D + depth, mask=depth < D, other=0.0).to(tl.float32)[None, :]
        gate_weight = tl.load(base + depth[None, :], mask=mask, other=0.0)
        up_weight = tl.load(base + F * D + depth[None, :], mask=mask, other=0.0)
        gate += gate_weight.to(tl.float32) * x
        up += up_weight.to(tl.float32) * x
    gate = tl.sum(gate, axis=1)
    up = tl.sum(up, axis=1)
    if FP8:
        row_scale = tl.load(row_scale_T + token)
        scales = scale_EG + expert * (2 * F) + out
        gate *= row_scale * tl.load(scales, mask=inside, other=0.0)
        up *= row_scale * tl.load(scales + F, mask=inside, other=0.0)
    tl.store(hidden_NF + assignment * F + out, gated_gelu(gate, up), mask=inside)


@triton.jit
def _out_kernel(
    hidden_NF,
    down,
    scale_ED,
    expert_TK,
    weight_TK,
    out_TD,
    D: tl.constexpr,
    F: tl.constexpr,
    F_POW2: tl.constexpr,
    TOP_K: tl.constexpr,
    FP8: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
    BLOCK_INNER: tl.constexpr,
    PDL: tl.constexpr,
):
    """One program: BLOCK_OUT of the width of a token."""
    begin(PDL)
    token = tl.program_id(1)
    out = tl.program_id(0) * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    inside = out < D
    lane = tl.arange(0, BLOCK_INNER)
    whole = tl.arange(0, F_POW2)
    total = tl.zeros([BLOCK_OUT], tl.float32)
    for k in tl.range(0, TOP_K, loop_unroll_factor=2):
        assignment = token * TOP_K + k
        expert = tl.load(expert_TK + assignment)
        base = down + expert.to(tl.int64) * (D * F) + out[:, None] * F
        row = hidden_NF + assignment * F
        if FP8:
            wide = tl.load(row + whole, mask=whole < F, other=0.0).to(tl.float32)
            amax = tl.maximum(tl.max(tl.abs(wide), axis=0), 1.1754943508222875e-38)
            row_scale = tl.div_rn(amax, 448.0)
        acc = tl.zeros([BLOCK_OUT, BLOCK_INNER], tl.float32)
        for inner in tl.static_range(0, F, BLOCK_INNER):
            depth = inner + lane
            mask = inside[:, None]
            if inner + BLOCK_INNER > F:
                mask = mask & (depth < F)[None, :]
            hidden = tl.load(row + depth, mask=depth < F, other=0.0).to(tl.float32)
            if FP8:
                hidden = tl.div_rn(hidden, row_scale).to(tl.float8e4nv).to(tl.float32)
            weight = tl.load(base + depth[None, :], mask=mask, other=0.0).to(tl.float32)
            acc += weight * hidden[None, :]
        answer = tl.sum(acc, axis=1)
        if FP8:
            scale = tl.load(scale_ED + expert * D + out, mask=inside, other=0.0)
            answer *= row_scale * scale
        answer = answer.to(tl.bfloat16).to(tl.float32)
        total += answer * tl.load(weight_TK + assignment)
    tl.store(out_TD + token * D + out, total.to(tl.bfloat16), mask=inside)
