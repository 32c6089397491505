"""Precision, applied to a loaded model from outside: fp32, bf16, or fp8 on top of bf16.

The fp8 recipe is the published checkpoint's: e4m3 weights with one static scale an output channel,
e4m3 activations with one dynamic scale a token; attention projections, dense MLP and experts. The
embedding, router, self-conditioning, norms and scalars stay bf16.

Where the processor has no bf16 matrix unit, bf16 is emulated: values are stored and rounded as
bf16, products are accumulated in fp32. fp8 is emulated wherever its products run in a wider type.

Legend: B seqs, L positions, T tokens, D model, E experts, K experts a token, F expert hidden, V
    vocab.
"""

from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.float8 import ScaledExperts, ScaledLinear
from model.layers import Embedding, Linear
from model.moe import Experts
from model.transformer import Block, Transformer

FP8 = torch.float8_e4m3fn
_FP8_MAX = torch.finfo(FP8).max
_GROUPED_FP8_CAPABILITIES = ((9, 0), (10, 0))  # of torch's row-wise scaled grouped product


class Precision(StrEnum):
    FP32 = "fp32"
    BF16 = "bf16"
    FP8 = "fp8"


@dataclass(frozen=True, slots=True)
class Applied:
    """What a model runs in; `emulated` when a narrow type's products run in a wider one."""

    precision: Precision
    emulated: bool


def apply_precision(model: Transformer, precision: Precision) -> Applied:
    """Converts a loaded model in place.

    Only the matrices listed above change class; the model's architecture files know nothing of it.
    """
    for part in model.children():
        convert(part, precision)
    finish(model, precision)
    return applied_to(model.device, precision)


def finish(model: Transformer, precision: Precision) -> None:
    """After all parts are converted: what belongs to the model as a whole."""
    if precision is not Precision.FP32 and not has_bf16_units(model.device):
        model.embedding = WideEmbedding(model.embedding)


def applied_to(device: torch.device, precision: Precision) -> Applied:
    """What a precision means on a device."""
    if precision is Precision.FP32:
        return Applied(precision, emulated=False)
    native = has_fp8_units(device) if precision is Precision.FP8 else has_bf16_units(device)
    return Applied(precision, emulated=not native)


def convert(part: nn.Module, precision: Precision) -> None:
    """Converts one part of a model in place, of those that `Transformer` consists of."""
    if precision is Precision.FP32:
        part.float()
        return
    part.bfloat16()
    device = next(iter(part.parameters())).device
    if precision is Precision.FP8:
        for module in part.modules():
            if isinstance(module, Block):
                _quantise_matrices(module, native=has_fp8_units(device))
    if not has_bf16_units(device):
        _widen_products(part)


def has_bf16_units(device: torch.device) -> bool:
    """Whether bf16 products run natively: CUDA, and processors with AVX512-BF16 or AMX."""
    if device.type == "cuda":
        return True
    cpu = torch.cpu
    return bool(cpu._is_avx512_bf16_supported() or cpu._is_amx_tile_supported())


def has_fp8_units(device: torch.device) -> bool:
    """Whether torch multiplies e4m3 matrices, grouped ones too, on the device itself."""
    if device.type != "cuda":
        return False
    return torch.cuda.get_device_capability(device) in _GROUPED_FP8_CAPABILITIES


def quantise_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """e4m3 values and their fp32 scale per row (last dimension): x ~ values * scale, symmetric.

    Returns:
        values in e4m3, shaped like x; scale [..., 1].
    """
    wide = x.float()
    scale = wide.abs().amax(-1, keepdim=True).clamp_(min=torch.finfo(torch.float32).tiny) / _FP8_MAX
    return (wide / scale).to(FP8), scale


def _quantise_weight(weight: Tensor) -> tuple[Tensor, Tensor]:
    """e4m3 weight and its scale per output channel, rounded to bf16 as the checkpoint stores it."""
    scale = (weight.float().abs().amax(-1, keepdim=True) / _FP8_MAX).bfloat16().float()
    scale = scale.clamp(min=torch.finfo(torch.float32).tiny)
    return (weight.float() / scale).clamp(-_FP8_MAX, _FP8_MAX).to(FP8), scale


def _quantise_matrices(block: Block, *, native: bool) -> None:
    """Replaces the matrices of the fp8 recipe: attention projections, dense MLP, experts."""
    for parent in (block.attention, block.dense):
        for name, child in list(parent.named_children()):
            if isinstance(child, Linear):
                setattr(parent, name, _scaled_linear(child) if native else Fp8Linear(child))
    experts = block.experts
    setattr(block, "experts", _scaled_experts(experts) if native else Fp8Experts(experts))  # noqa: B010 (another class on purpose)


def _scaled_linear(linear: Linear) -> ScaledLinear:
    return ScaledLinear(*_quantise_weight(linear.weight), quantise_rows)


def _scaled_experts(experts: Experts) -> ScaledExperts:
    gate_up, down = _quantise_weight(experts.gate_up), _quantise_weight(experts.down)
    return ScaledExperts(gate_up, down, quantise_rows)


class Fp8Linear(nn.Module):
    """A `Linear` in the fp8 recipe; the products of e4m3 values run in fp32, exactly."""

    weight: Tensor
    scale: Tensor

    def __init__(self, linear: Linear) -> None:
        super().__init__()
        values, scale = _quantise_weight(linear.weight)
        self.register_buffer("weight", values.float())
        self.register_buffer("scale", scale.squeeze(-1))

    def forward(self, x: Tensor) -> Tensor:
        values, row_scale = quantise_rows(x)
        return (F.linear(values.float(), self.weight) * (row_scale * self.scale)).to(x.dtype)


class Fp8Experts(nn.Module):
    """`Experts` in the fp8 recipe; input and hidden rows are quantised token by token."""

    gate_up: Tensor
    gate_up_scale: Tensor
    down: Tensor
    down_scale: Tensor

    def __init__(self, experts: Experts) -> None:
        super().__init__()
        for name in ("gate_up", "down"):
            values, scale = _quantise_weight(getattr(experts, name))
            self.register_buffer(name, values.float())
            self.register_buffer(f"{name}_scale", scale.squeeze(-1)[:, None, :])

    def forward(self, x_TD: Tensor, expert_TK: Tensor, weight_TK: Tensor) -> Tensor:
        values_TD, scale_T1 = quantise_rows(x_TD)
        gate_up_ETF = torch.matmul(values_TD.float(), self.gate_up.transpose(1, 2))
        gate_up_ETF = (gate_up_ETF * (scale_T1 * self.gate_up_scale)).to(x_TD.dtype)
        gate, up = gate_up_ETF.chunk(2, dim=-1)
        hidden_ETF, scale_ET1 = quantise_rows(F.gelu(gate, approximate="tanh") * up)
        out_ETD = torch.bmm(hidden_ETF.float(), self.down.transpose(1, 2))
        out_ETD = (out_ETD * (scale_ET1 * self.down_scale)).to(x_TD.dtype)
        return _mix(out_ETD, expert_TK, weight_TK)


class WideLinear(nn.Module):
    """A bf16 `Linear` whose products run in fp32 and whose result is rounded to bf16."""

    weight: Tensor

    def __init__(self, linear: Linear) -> None:
        super().__init__()
        self.register_buffer("weight", linear.weight.detach().float())

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x.float(), self.weight).to(x.dtype)


class WideExperts(nn.Module):
    """bf16 `Experts` whose products run in fp32 and are rounded to bf16 one by one."""

    gate_up: Tensor
    down: Tensor

    def __init__(self, experts: Experts) -> None:
        super().__init__()
        self.register_buffer("gate_up", experts.gate_up.detach().float())
        self.register_buffer("down", experts.down.detach().float())

    def forward(self, x_TD: Tensor, expert_TK: Tensor, weight_TK: Tensor) -> Tensor:
        gate_up_ETF = torch.matmul(x_TD.float(), self.gate_up.transpose(1, 2)).to(x_TD.dtype)
        gate, up = gate_up_ETF.chunk(2, dim=-1)
        hidden_ETF = (F.gelu(gate, approximate="tanh") * up).float()
        out_ETD = torch.bmm(hidden_ETF, self.down.transpose(1, 2)).to(x_TD.dtype)
        return _mix(out_ETD, expert_TK, weight_TK)


class WideEmbedding(Embedding):
    """A bf16 embedding whose products (logits, soft embedding) run in fp32, rounded to bf16."""

    _wide: Tensor

    def __init__(self, embedding: Embedding) -> None:
        super().__init__(*embedding.weight.shape)
        self.weight = embedding.weight
        self.register_buffer("_wide", embedding.weight.detach().float(), persistent=False)

    def _product(self, x: Tensor, matrix: Tensor) -> Tensor:
        return torch.matmul(x.float(), matrix).to(self.weight.dtype)

    def soft(self, probabilities_BLV: Tensor) -> Tensor:
        rounded = probabilities_BLV.to(self.weight.dtype)
        return self._product(rounded, self._wide) * self._scale

    def logits(self, hidden: Tensor) -> Tensor:
        return self._product(hidden, self._wide.t())


def _mix(out_ETD: Tensor, expert_TK: Tensor, weight_TK: Tensor) -> Tensor:
    """Every token's weighted sum over its own K of the E expert outputs: [T, D]."""
    tokens = torch.arange(out_ETD.shape[1], device=out_ETD.device)[:, None]
    chosen_TKD = out_ETD[expert_TK, tokens] * weight_TK[..., None]
    return chosen_TKD.sum(1).to(out_ETD.dtype)


def _widen_products(part: nn.Module) -> None:
    for parent in list(part.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, Linear):
                setattr(parent, name, WideLinear(child))
            elif isinstance(child, Experts):
                setattr(parent, name, WideExperts(child))
