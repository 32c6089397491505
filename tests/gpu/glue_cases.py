"""Norm, gate and head kernels at the model's sizes: what `time_glue` checks and times.

Legend: T rows, D model.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from model.kernels import experts, glue, heads
from model.kernels.glue import Branch
from model.ops import reference, torch_native

EPS, SETS, TOP_K, BF16 = 1e-6, 3, 8, torch.bfloat16
Call = Callable[[int], Any]


@dataclass(frozen=True)
class Setting:
    """Where and at which sizes; the defaults are the model's."""

    device: torch.device
    rows: int = 256
    size: int = 2816
    vocab: int = 262144
    dense: int = 2112
    routed: int = 704
    head: int = 256


@dataclass
class Case:
    """`fused` and `chain` take the number of an input set; `check` returns error figures."""

    name: str
    fused: Call
    chain: Call | None
    check: Callable[[], dict[str, float]] | None
    megabytes: float
    calls: int = 20


def _apart(got: Tensor, want: Tensor) -> dict[str, float]:
    """Largest difference relative to max(|want|, 2^-6), and the share that differs at all."""
    error = (got.float() - want.float()).abs() / want.float().abs().clamp(min=2**-6)
    return {
        "relative": error.max().item(),
        "differing": (got.float() != want.float()).float().mean().item(),
    }


def _quantise(x: Tensor) -> glue.Quantised:
    wide = x.float()
    scale = wide.abs().amax(-1, keepdim=True).clamp_(min=torch.finfo(torch.float32).tiny) / 448.0
    return (wide / scale).to(torch.float8_e4m3fn), scale.squeeze(-1)


def _apart_fp8(got: glue.Quantised, want: Tensor) -> dict[str, float]:
    values, scale = _quantise(want)
    return {
        "scale": ((got[1] - scale).abs() / scale).max().item(),
        "differing": (got[0].float() != values.float()).float().mean().item(),
        "error": (got[0].float() * got[1][..., None] - want.float()).abs().max().item(),
        "own_error": (values.float() * scale[..., None] - want.float()).abs().max().item(),
    }


def _merged(**parts: dict[str, float]) -> dict[str, float]:
    return {f"{part}.{key}": value for part, each in parts.items() for key, value in each.items()}


def norm_cases(s: Setting) -> Iterator[Case]:
    def activations(*shape: int) -> Tensor:
        return torch.randn(SETS, *shape, device=s.device).to(BF16)

    x, residual, dense, routed = (activations(s.rows, s.size) for _ in range(4))
    w = 1 + torch.randn(6, s.size, device=s.device).to(BF16) / 4
    scalar = torch.tensor([0.7], device=s.device, dtype=BF16)
    row = s.rows * s.size / 1e6
    answers, share = activations(s.rows * TOP_K, s.size), torch.rand(s.rows, TOP_K, device=s.device)
    parts = torch.randn(SETS, 3, s.rows, s.size, device=s.device)
    norm = torch_native.rms_norm

    yield Case(
        "rms_norm", lambda i: glue.rms_norm(x[i], w[0], EPS), lambda i: norm(x[i], w[0], EPS),
        lambda: _apart(glue.rms_norm(x[0], w[0], EPS), reference.rms_norm(x[0], w[0], EPS)),
        4 * row,
    )  # fmt: skip
    yield Case(
        "add_rms_norm", lambda i: glue.add_rms_norm(residual[i], x[i], w[0], EPS),
        lambda i: torch_native.add_rms_norm(residual[i], x[i], w[0], EPS),
        lambda: _apart(
            glue.add_rms_norm(residual[0], x[0], w[0], EPS),
            reference.add_rms_norm(residual[0], x[0], w[0], EPS),
        ),
        6 * row,
    )  # fmt: skip

    def after_attention(index: int, kind: Any) -> Any:
        branches = [Branch(w[1], kind), Branch(w[2], kind), Branch(w[3], "router")]
        return glue.add_rms_norm_then_norms(residual[index], x[index], w[0], EPS, None, branches)

    def chain_after(index: int, ops: Any, quantise: bool) -> Any:
        new = ops.add_rms_norm(residual[index], x[index], w[0], EPS)
        one, two, bare = ops.rms_norms(new, (w[1], w[2], None), EPS)
        router = bare * w[3] * s.size**-0.5
        return new, *((_quantise(one), _quantise(two)) if quantise else (one, two)), router

    def check_after(kind: str) -> dict[str, float]:
        new, outputs = after_attention(0, kind)
        want, one, two, router = chain_after(0, reference, False)
        apart: Any = _apart_fp8 if kind == "fp8" else _apart
        return _merged(
            new=_apart(new, want), one=apart(outputs[0], one), two=apart(outputs[1], two),
            router=_apart(outputs[2], router),
        )  # fmt: skip

    def end(index: int, kind: Any) -> Any:
        return glue.end_block(
            residual[index], dense[index], routed[index], w[0], w[1], w[2], EPS, scalar,
            [Branch(w[3], kind)],
        )  # fmt: skip

    def chain_end(index: int, ops: Any, quantise: bool) -> Any:
        both = ops.add_rms_norm(ops.rms_norm(dense[index], w[0], EPS), routed[index], w[1], EPS)
        new = ops.add_rms_norm(residual[index], both, w[2], EPS) * scalar
        normed = ops.rms_norm(new, w[3], EPS)
        return new, _quantise(normed) if quantise else normed

    def check_end(kind: str) -> dict[str, float]:
        new, (out,) = end(0, kind)
        want, normed = chain_end(0, reference, False)
        apart: Any = _apart_fp8 if kind == "fp8" else _apart
        return _merged(new=_apart(new, want), next=apart(out, normed))

    def end_rows(index: int, kind: Any, one: Tensor | None = None) -> Any:
        return glue.end_block(
            residual[index], dense[index] if one is None else one, answers[index], w[0], w[1], w[2],
            EPS, scalar, [Branch(w[3], kind)], share,
        )  # fmt: skip

    def check_end_rows(kind: str) -> dict[str, float]:
        """The same kernel over what `combine` answers."""
        new, (out,) = end_rows(0, kind)
        mixed = experts.combine(answers[0], share)
        want, (normed,) = glue.end_block(
            residual[0], dense[0], mixed, w[0], w[1], w[2], EPS, scalar, [Branch(w[3])]
        )
        apart: Any = _apart_fp8 if kind == "fp8" else _apart
        summed = parts[0].sum(0).to(BF16)
        whole, split = end_rows(0, kind, summed)[0], end_rows(0, kind, parts[0])[0]
        return _merged(new=_apart(new, want), next=apart(out, normed), parts=_apart(split, whole))

    for kind, width in (("plain", 2), ("fp8", 1)):
        yield Case(
            f"after attention {kind}", lambda i, k=kind: after_attention(i, k),
            lambda i, k=kind: chain_after(i, torch_native, k == "fp8"),
            lambda k=kind: check_after(k), (8 + 2 * width) * row,
        )  # fmt: skip
        yield Case(
            f"end_block {kind}", lambda i, k=kind: end(i, k),
            lambda i, k=kind: chain_end(i, torch_native, k == "fp8"),
            lambda k=kind: check_end(k), (8 + width) * row,
        )  # fmt: skip

    for kind, width in (("plain", 2), ("fp8", 1)):
        yield Case(
            f"end_block rows {kind}", lambda i, k=kind: end_rows(i, k), None,
            lambda k=kind: check_end_rows(k), (6 + 2 * TOP_K + width) * row,
        )  # fmt: skip
    yield Case(
        "end_block rows fp8, three dense parts", lambda i: end_rows(i, "fp8", parts[i]), None, None,
        (4 + 12 + 2 * TOP_K + 1) * row,
    )  # fmt: skip
    yield Case("combine", lambda i: experts.combine(answers[i], share), None, None, 18 * row)
    for warps in (8, 16):
        for name, call in (("after attention", after_attention), ("end_block rows", end_rows)):
            yield Case(
                f"{name} fp8 w{warps}",
                lambda i, c=call, w=warps: _with("_norm_warps", w, c, i, "fp8"), None, None,
                (9 if call is after_attention else 7 + 2 * TOP_K) * row,
            )  # fmt: skip


def _with(hook: str, value: Any, call: Callable[..., Any], *arguments: Any) -> Any:
    """A call with another launch shape than glue's own."""
    default = getattr(glue, hook)
    setattr(glue, hook, lambda size, fp8: value)
    try:
        return call(*arguments)
    finally:
        setattr(glue, hook, default)


def row_cases(s: Setting) -> Iterator[Case]:
    """Quantising and gates alone, also with other rows and warps a program."""
    one_warp = ((1, 1), (1, 2), (2, 2), (4, 4), (8, 8))
    wide = ((1, 8), (1, 16))
    sizes = {
        s.routed: (s.rows * TOP_K, one_warp), s.dense: (s.rows, ((1, 4), *wide)),
        s.size: (s.rows, ((1, 4), *wide)), 16 * s.head: (s.rows, wide),
        32 * s.head: (s.rows, wide),
    }  # fmt: skip
    for size, (rows, shapes) in sizes.items():
        x = torch.randn(SETS, rows, size, device=s.device).to(BF16)
        megabytes = 3 * rows * size / 1e6

        def quantise(index: int, x: Tensor = x) -> Any:
            return glue.quantise_rows(x[index])

        yield Case(
            f"quantise_rows {size}", quantise, lambda i, x=x: _quantise(x[i]),
            lambda q=quantise, x=x: _apart_fp8(q(0), x[0]), megabytes,
        )  # fmt: skip
        for shape in shapes:
            yield Case(
                f"quantise_rows {size} rows{shape[0]} w{shape[1]}",
                lambda i, q=quantise, n=shape: _with("_rows_and_warps", n, q, i), None, None,
                megabytes,
            )  # fmt: skip
    gate = torch.randn(SETS, s.rows, 2 * s.dense, device=s.device).to(BF16)
    size = s.rows * s.dense / 1e6
    yield Case(
        f"gated_gelu {s.dense}", lambda i: glue.gated_gelu(gate[i]),
        lambda i: torch_native.gated_gelu(gate[i]),
        lambda: _apart(glue.gated_gelu(gate[0]), reference.gated_gelu(gate[0])), 6 * size,
    )  # fmt: skip
    yield Case(
        f"gated_gelu_quantised {s.dense}", lambda i: glue.gated_gelu_quantised(gate[i]),
        lambda i: _quantise(torch_native.gated_gelu(gate[i])),
        lambda: _apart_fp8(glue.gated_gelu_quantised(gate[0]), reference.gated_gelu(gate[0])),
        5 * size,
    )  # fmt: skip
    for shape in ((1, 4), *wide):
        yield Case(
            f"gated_gelu_quantised {s.dense} w{shape[1]}",
            lambda i, n=shape: _with(
                "_rows_and_warps", n, glue.gated_gelu_quantised, gate[i]
            ), None, None, 5 * size,
        )  # fmt: skip


def head_cases(s: Setting) -> Iterator[Case]:
    for name, groups, size, values in (("sliding", 8, s.head, 8), ("full", 2, 2 * s.head, 0)):
        projected = 16 + groups + values
        qkv = torch.randn(SETS, 1, s.rows, projected, size, device=s.device).to(BF16)
        w = 1 + torch.randn(2, size, device=s.device).to(BF16) / 4
        angle = torch.rand(s.rows, size // 2, device=s.device) * 6
        cos = torch.cat((angle.cos(), angle.cos()), -1).to(BF16)
        sin = torch.cat((-angle.sin(), angle.sin()), -1).to(BF16)
        cache = torch.zeros(2, 1, groups, s.rows + 769, size, device=s.device, dtype=BF16)
        slots = cache[:, :, :, 700 : 700 + s.rows]
        common = (w[0], w[1], cos, sin, 16, groups, EPS)

        def fused(index: int, qkv: Tensor = qkv, c: Any = common, out: Tensor = slots) -> Tensor:
            return heads.qkv_norm_rope_write(qkv[index], *c, out[0], out[1])

        def chain(index: int, qkv: Tensor = qkv, c: Any = common, out: Tensor = slots) -> Tensor:
            q, k, v = torch_native.qkv_norm_rope(qkv[index], *c)
            out[0].copy_(k)
            out[1].copy_(v)
            return q.transpose(1, 2).contiguous()

        def check(f: Call = fused, c: Call = chain, out: Tensor = slots) -> dict[str, float]:
            got = f(0).clone(), out.clone()
            want = c(0).transpose(1, 2).clone(), out.clone()
            return _merged(q=_apart(got[0], want[0]), slots=_apart(got[1], want[1]))

        megabytes = s.rows * size * 2 * (projected + 16 + 2 * groups) / 1e6
        yield Case(f"qkv_norm_rope_write {name}", fused, chain, check, megabytes)
