"""The fp8 recipe on a device with e4m3 products: torch's scaled matrix multiplications.

Twins of `model.precision.Fp8Linear` and `Fp8Experts`, which emulate the same arithmetic; what
differs is the products' accumulation. Weights stay e4m3 with an fp32 scale an output channel,
activations are quantised row by row. `model.precision.has_fp8_units` says where this runs.

Legend: T tokens, R routed rows, D model, E experts, K experts a token, F expert hidden.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from model.ops.grouping import by_row, mix, sort_by_expert
from model.ops.torch_native import gated_gelu

Quantise = Callable[[Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True, slots=True)
class ScaledMatrix:
    """e4m3 values [..., out, in] and their fp32 scale an output channel [..., out, 1].

    `values` may hold the same numbers in a wider type.
    """

    values: Tensor
    scale: Tensor


class ScaledLinear(nn.Module):
    """A linear map of e4m3 values [out, in] with a scale an output channel.

    Args:
        quantise: rows to e4m3 values and their fp32 scales [..., 1].

    Attributes:
        fast_accumulation: partial sums stay in the tensor core's narrow accumulator.
    """

    fast_accumulation: ClassVar[bool] = True
    weight: Tensor
    scale: Tensor

    def __init__(self, matrix: ScaledMatrix, quantise: Quantise) -> None:
        super().__init__()
        self.register_buffer("weight", matrix.values)
        self.register_buffer("scale", matrix.scale.reshape(1, -1).contiguous())
        self._quantise = quantise

    def forward(self, x: Tensor) -> Tensor:
        values, row_scale = self._quantise(x.flatten(0, -2))
        return self.product(values, row_scale).unflatten(0, x.shape[:-1])

    def product(self, values_TD: Tensor, scale_T1: Tensor) -> Tensor:
        """The map of rows that are quantised already; bf16."""
        return torch._scaled_mm(
            values_TD,
            self.weight.t(),
            scale_T1,
            self.scale,
            out_dtype=torch.bfloat16,
            use_fast_accum=self.fast_accumulation,
        )


class ScaledExperts(nn.Module):
    """Experts of e4m3 values gate_up [E, 2F, D] and down [E, D, F], a scale a channel [E, .]."""

    gate_up: Tensor
    gate_up_scale: Tensor
    down: Tensor
    down_scale: Tensor

    def __init__(self, gate_up: ScaledMatrix, down: ScaledMatrix, quantise: Quantise) -> None:
        super().__init__()
        for name, matrix in (("gate_up", gate_up), ("down", down)):
            self.register_buffer(name, matrix.values)
            self.register_buffer(f"{name}_scale", matrix.scale.squeeze(-1).contiguous())
        self._quantise = quantise

    def forward(self, x_TD: Tensor, expert_TK: Tensor, weight_TK: Tensor) -> Tensor:
        num_experts, top_k = self.gate_up.shape[0], expert_TK.shape[1]
        order_R, end_E = sort_by_expert(expert_TK, num_experts)
        values_TD, scale_T1 = self._quantise(x_TD)
        token_R = order_R // top_k
        # Not every operation exists for e4m3 on every device; bytes can be gathered on all.
        rows = values_TD.view(torch.uint8)[token_R].view(values_TD.dtype), scale_T1[token_R]
        # Nested, so that nothing wide outlives its use and falls out of the second-level cache.
        hidden_RF, hidden_scale_R1 = self._quantise(
            gated_gelu(_grouped(*rows, self.gate_up, self.gate_up_scale, end_E))
        )
        # A row's routing weight is one more factor of its scale.
        scale_R1 = hidden_scale_R1 * by_row(weight_TK, order_R)[:, None]
        out_RD = _grouped(hidden_RF, scale_R1, self.down, self.down_scale, end_E)
        return mix(out_RD, order_R, top_k)


def _grouped(
    values_RD: Tensor, scale_R1: Tensor, weight: Tensor, weight_scale: Tensor, end_E: Tensor
) -> Tensor:
    return torch._scaled_grouped_mm(
        values_RD,
        weight.transpose(1, 2),
        scale_R1.flatten(),
        weight_scale,
        end_E,
        out_dtype=torch.bfloat16,
        use_fast_accum=True,
    )
