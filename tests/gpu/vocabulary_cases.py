"""fp8 products with the vocabulary beside those in bf16: what `time_glue` checks and times.

Errors are those of the products alone, against the same e4m3 values multiplied in double on a few
rows and channels: what accumulating 262,144 products in a tensor core loses.

Legend: T rows, V vocab, D model.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from model.kernels import sampler
from model.layers import Embedding
from model.ops.reference import ScaledRows, quantise_rows
from model.precision import fp8_embedding
from tests.gpu.glue_cases import BF16, SETS, Case, Setting

_FEW = 8  # rows and channels that are checked


def vocabulary_cases(s: Setting) -> Iterator[Case]:
    plain = Embedding(s.vocab, s.size).to(s.device, BF16).requires_grad_(False)
    torch.nn.init.normal_(plain.weight, std=0.5 * s.size**-0.5)
    fp8 = fp8_embedding(plain, feeds_back=True, native=s.device.type == "cuda")
    hidden = [torch.randn(s.rows, s.size, device=s.device).to(BF16) for _ in range(SETS)]
    table, scores = s.vocab * s.size / 1e6, s.rows * s.vocab / 1e6

    yield Case(
        "fp8 logits", lambda i: fp8.logits(hidden[i]), lambda i: plain.logits(hidden[i]),
        lambda: {"error": _relative(fp8.logits(hidden[0]), plain.logits(hidden[0]))},
        table + 2 * scores, 6,
    )  # fmt: skip

    for name, spread in (("flat", 0.01), ("mixed", 4.0), ("peaked", 40.0)):
        raw = [(torch.randn(s.rows, s.vocab, device=s.device) * spread).to(BF16) for _ in hidden]
        p = [torch.softmax(one, -1, dtype=torch.float32).to(BF16) for one in raw]
        rows = [quantise_rows(one) for one in p]

        def check(rows: list[ScaledRows] = rows, p: list[Tensor] = p) -> dict[str, float]:
            got, values, scale = fp8.soft(rows[0]), *rows[0]
            assert fp8.mixture is not None
            channels, channel_scale = _matrix(fp8.mixture)
            want = F.linear(values[:_FEW].double(), channels[:_FEW].double())
            want = want * scale[:_FEW].double() * channel_scale[:_FEW].double()
            own = got[:_FEW, :_FEW].double() / fp8._scale
            return {"product": _relative(own, want), "error": _relative(got, plain.soft(p[0]))}

        yield Case(
            f"fp8 soft embedding, {name}", lambda i, rows=rows: fp8.soft(rows[i]),
            lambda i, p=p: plain.soft(p[i]), check, table + scores, 6,
        )  # fmt: skip

    temperature, uniform = torch.tensor(0.7, device=s.device), torch.rand(s.rows, device=s.device)
    _, argmax, _, lse = sampler.token_statistics(raw[0], 30.0, temperature, uniform)
    given = raw[0], 30.0, temperature, lse

    def same() -> dict[str, float]:
        got = sampler.scaled_probabilities(*given, argmax)
        want = quantise_rows(sampler.soft_probabilities(*given))
        differing = (got.values.float() != want.values.float()).float().mean().item()
        return {"scale": _relative(got.scale, want.scale), "values differing": differing}

    yield Case(
        "scaled_probabilities", lambda i: sampler.scaled_probabilities(*given, argmax),
        lambda i: quantise_rows(sampler.soft_probabilities(*given)), same, 3 * scores, 6,
    )  # fmt: skip


def _matrix(linear: object) -> tuple[Tensor, Tensor]:
    weight, scale = (getattr(linear, name) for name in ("weight", "scale"))
    return weight, scale.flatten()


def _relative(got: Tensor, want: Tensor) -> float:
    return ((got.double() - want.double()).norm() / want.double().norm()).item()
