"""Precision, applied to a loaded model from outside: fp32, bf16, or fp8 on top of bf16.

The fp8 recipe is the published checkpoint's: e4m3 weights with one static scale an output channel,
e4m3 activations with one dynamic scale a token; attention projections, dense MLP and experts. The
embedding, router, self-conditioning, norms and scalars stay bf16; the products with the embedding
may run in fp8 beside bf16 or fp8 (`model.vocabulary`).

Where the processor has no bf16 matrix unit, bf16 is emulated: values are stored and rounded as
bf16, products are accumulated in fp32. fp8 is emulated wherever its products run in a wider type.

Legend: B seqs, L positions, T tokens, D model, E experts, K experts a token, F expert hidden, V
    vocab.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.float8 import ScaledExperts, ScaledLinear, ScaledMatrix
from model.layers import Embedding, Linear
from model.moe import Experts
from model.ops import reference
from model.transformer import Block, Transformer
from model.vocabulary import (
    Fp8Embedding,
    LongProduct,
    Vocabulary,
    scaled_channels,
    scaled_rows,
)

FP8 = reference.FP8
quantise_rows = reference.quantise_rows
_FP8_MAX = torch.finfo(FP8).max
FP8_CAPABILITIES = ((9, 0), (10, 0))  # of torch's row-wise scaled grouped product


class Precision(StrEnum):
    FP32 = "fp32"
    BF16 = "bf16"
    FP8 = "fp8"


@dataclass(frozen=True, slots=True)
class Applied:
    """What a model runs in; `emulated` when a narrow type's products run in a wider one."""

    precision: Precision
    emulated: bool
    vocabulary: Vocabulary = Vocabulary.EXACT


def check_device(
    device: torch.device, precision: Precision, vocabulary: Vocabulary = Vocabulary.EXACT
) -> None:
    """Refuses fp8 on a CUDA device that lacks its products; processors emulate it.

    Raises:
        ValueError: the message names the device's compute capability and those that have them.
    """
    is_fp8 = precision is Precision.FP8
    wanted = "precision fp8" if is_fp8 else "vocabulary fp8"
    if not is_fp8 and vocabulary is not Vocabulary.FP8:
        return
    if device.type != "cuda" or has_fp8_units(device):
        return
    major, minor = torch.cuda.get_device_capability(device)
    needed = " or ".join(f"{major}.{minor}" for major, minor in FP8_CAPABILITIES)
    valid = "fp32, bf16" if is_fp8 else "vocabulary exact"
    raise ValueError(
        f"{wanted} needs scaled grouped products, compute capability {needed}; "
        f"{device} has {major}.{minor}; valid here: {valid}"
    )


def check_vocabulary(precision: Precision, vocabulary: Vocabulary) -> None:
    """Refuses fp8 products with the vocabulary in an fp32 model.

    Raises:
        ValueError: the message names both.
    """
    if vocabulary is Vocabulary.FP8 and precision is Precision.FP32:
        raise ValueError(
            "vocabulary is fp8 with precision fp32; it must be exact there, or precision bf16 or "
            "fp8"
        )


def finish(
    model: Transformer, precision: Precision, vocabulary: Vocabulary = Vocabulary.EXACT
) -> None:
    """After all parts are converted: what belongs to the model as a whole."""
    if vocabulary is Vocabulary.FP8:
        feeds_back, native = model.config.canvas_length is not None, has_fp8_units(model.device)
        model.embedding = fp8_embedding(model.embedding, feeds_back=feeds_back, native=native)
        model.ops = replace(model.ops, sample=model.ops.sample_scaled)
    elif precision is not Precision.FP32 and not has_bf16_units(model.device):
        model.embedding = WideEmbedding(model.embedding)


def applied_to(
    device: torch.device, precision: Precision, vocabulary: Vocabulary = Vocabulary.EXACT
) -> Applied:
    """What a precision means on a device."""
    if precision is Precision.FP32:
        return Applied(precision, emulated=False)
    is_fp8 = precision is Precision.FP8 or vocabulary is Vocabulary.FP8
    native = has_fp8_units(device) if is_fp8 else has_bf16_units(device)
    return Applied(precision, emulated=not native, vocabulary=vocabulary)


def convert(
    part: nn.Module, precision: Precision, stored: Mapping[str, ScaledMatrix] | None = None
) -> None:
    """Converts one part of a model in place, of those that `Transformer` consists of.

    Only the matrices listed above change class; the model's architecture files know nothing of it.

    Args:
        stored: a block's e4m3 matrices as an fp8 checkpoint has them, used as they are; without
            them fp8 quantises the block's own.
    """
    if precision is Precision.FP32:
        part.float()
        return
    part.bfloat16()
    device = next(p.device for p in part.parameters() if stored is None or not p.is_meta)
    if precision is Precision.FP8:
        for module in part.modules():
            if isinstance(module, Block):
                _quantise_matrices(module, stored or None, native=has_fp8_units(device))
    if not has_bf16_units(device):
        _widen_products(part)


def kept_fp8_dtype(device: torch.device) -> torch.dtype:
    """What e4m3 values are kept in: fp32 where their products are emulated."""
    return FP8 if has_fp8_units(device) else torch.float32


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
    return torch.cuda.get_device_capability(device) in FP8_CAPABILITIES


def quantise_weight(weight: Tensor) -> ScaledMatrix:
    """e4m3 values and a scale an output channel, rounded to bf16 as the checkpoint stores it.

    The scale is the largest magnitude over 448; a channel of zeros gets a small one, as the
    compressed-tensors package gives it. Matrix by matrix, so that the wide values of one are all
    that is held besides the result.
    """
    values = torch.empty_like(weight, dtype=FP8, requires_grad=False)
    scale = torch.empty((*weight.shape[:-1], 1), device=weight.device)
    for matrix, matrix_values, matrix_scale in zip(
        *(t.view(-1, *t.shape[-2:]) for t in (weight.detach(), values, scale)), strict=True
    ):
        wide = matrix.float()
        rounded = (wide.abs().amax(-1, keepdim=True) / _FP8_MAX).bfloat16().float()
        matrix_scale.copy_(rounded.masked_fill_(rounded == 0, torch.finfo(torch.bfloat16).eps))
        matrix_values.copy_((wide / matrix_scale).clamp_(-_FP8_MAX, _FP8_MAX))
    return ScaledMatrix(values, scale)


def _quantise_matrices(
    block: Block, stored: Mapping[str, ScaledMatrix] | None, *, native: bool
) -> None:
    """Replaces the matrices of the fp8 recipe: attention projections, dense MLP, experts."""

    def scaled(name: str, weight: Tensor) -> ScaledMatrix:
        return quantise_weight(weight) if stored is None else stored[name]

    for parent_name in ("attention", "dense"):
        parent = getattr(block, parent_name)
        for name, child in list(parent.named_children()):
            if isinstance(child, Linear):
                matrix = scaled(f"{parent_name}.{name}.weight", child.weight)
                setattr(parent, name, _fp8_linear(matrix, native=native))
    gate_up = scaled("experts.gate_up", block.experts.gate_up)
    down = scaled("experts.down", block.experts.down)
    setattr(block, "experts", _fp8_experts(gate_up, down, native=native))  # noqa: B010 (another class on purpose)


def _fp8_linear(matrix: ScaledMatrix, *, native: bool) -> "ScaledLinear | Fp8Linear":
    if native:
        return ScaledLinear(matrix, quantise_rows)
    return Fp8Linear(matrix)


def _fp8_experts(gate_up: ScaledMatrix, down: ScaledMatrix, *, native: bool) -> nn.Module:
    if native:
        return ScaledExperts(gate_up, down, quantise_rows)
    return Fp8Experts(gate_up, down)


def fp8_embedding(embedding: Embedding, *, feeds_back: bool, native: bool) -> Fp8Embedding:
    """Logits, and for a model that feeds beliefs back the soft embedding, in fp8."""
    table_VD = embedding.weight
    scores = _fp8_linear(scaled_rows(table_VD, quantise_weight), native=native)
    if not feeds_back:
        return Fp8Embedding(embedding, scores, None)
    channels = scaled_channels(table_VD, quantise_weight)
    mixture = LongProduct(channels, quantise_rows) if native else Fp8Linear(channels)
    return Fp8Embedding(embedding, scores, mixture)


class Fp8Linear(nn.Module):
    """A linear map in the fp8 recipe; the products of e4m3 values run in fp32, exactly.

    Args:
        matrix: values [out, in] and scale [out, 1].
    """

    weight: Tensor
    scale: Tensor

    def __init__(self, matrix: ScaledMatrix) -> None:
        super().__init__()
        self.register_buffer("weight", matrix.values.float())
        self.register_buffer("scale", matrix.scale.squeeze(-1))

    def forward(self, x: Tensor) -> Tensor:
        return self.product(*quantise_rows(x)).to(x.dtype)

    def product(self, values: Tensor, scale: Tensor) -> Tensor:
        """The map of rows that are quantised already; fp32."""
        return F.linear(values.float(), self.weight) * (scale * self.scale)


class Fp8Experts(nn.Module):
    """Experts in the fp8 recipe; input and hidden rows are quantised token by token.

    Args:
        gate_up: values [E, 2F, D] and scale [E, 2F, 1].
        down: values [E, D, F] and scale [E, D, 1].
    """

    gate_up: Tensor
    gate_up_scale: Tensor
    down: Tensor
    down_scale: Tensor

    def __init__(self, gate_up: ScaledMatrix, down: ScaledMatrix) -> None:
        super().__init__()
        for name, matrix in (("gate_up", gate_up), ("down", down)):
            self.register_buffer(name, matrix.values.float())
            self.register_buffer(f"{name}_scale", matrix.scale.squeeze(-1)[:, None, :])

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
