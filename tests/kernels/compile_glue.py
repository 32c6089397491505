"""`python -m tests.kernels.compile_glue`: sampler and glue kernels for sm_90a at the model's sizes.

Prints registers, spills and shared memory of each; fails on a spill.
"""

import sys
from collections.abc import Callable, Iterator

import torch

from tests.kernels.compile_sm90 import SHARED_LIMIT, compile_only, inspect


def calls() -> Iterator[tuple[str, Callable[[], object]]]:
    """Every kernel at its real sizes: label and call."""
    from model.kernels import glue, heads, sampler
    from model.kernels.glue import Branch

    def bf16(*shape: int) -> torch.Tensor:
        return torch.empty(shape, dtype=torch.bfloat16)

    rows, size, vocab, eps = 256, 2816, 262144, 1e-6
    one, uniform = torch.empty(()), torch.empty(rows)
    raw = bf16(rows, vocab)
    for tile, warps in ((8192, 8), (4096, 8), (4096, 4)):
        yield (
            f"statistics {tile}/{warps}",
            lambda t=tile, w=warps: sampler.token_statistics(
                raw, 30.0, one, uniform, tile=t, num_warps=w
            ),
        )
    yield "probabilities", lambda: sampler.soft_probabilities(raw, 30.0, one, uniform)
    token = torch.empty(1, rows, dtype=torch.int64)
    yield "accept", lambda: sampler.accept_and_renoise(uniform[None], one, token, token)

    x, weight, scalar = bf16(rows, size), bf16(size), bf16(1)
    fp8 = [Branch(weight, "fp8")]
    after_attention = {
        "bf16": [Branch(weight), Branch(weight), Branch(weight, "router")],
        "fp8": [Branch(weight, "fp8"), Branch(weight, "fp8"), Branch(weight, "router")],
    }
    yield "rms_norm", lambda: glue.rms_norm(x, weight, eps)
    yield "rms_norm_quantised", lambda: glue.rms_norm_quantised(x, weight, eps)
    yield "add_rms_norm", lambda: glue.add_rms_norm(x, x, weight, eps)
    for name, branches in after_attention.items():
        yield (
            f"after attention {name}",
            lambda b=branches: glue.add_rms_norm_then_norms(x, x, weight, eps, None, b),
        )
    for name, branches in {"bf16": [Branch(weight)], "fp8": fp8}.items():
        yield (
            f"end_block {name}",
            lambda b=branches: glue.end_block(x, x, x, weight, weight, weight, eps, scalar, b),
        )
    answers, share, parts = bf16(rows * 8, size), torch.empty(rows, 8), torch.empty(3, rows, size)
    for name, branches in {"bf16": [Branch(weight)], "fp8": fp8}.items():
        for dense in (x, parts):
            yield (
                f"end_block rows {name} {dense.ndim - 1}",
                lambda b=branches, d=dense: glue.end_block(
                    x, d, answers, weight, weight, weight, eps, scalar, b, share
                ),
            )
    for width in (704, 2112, size, 4096, 8192):
        yield f"quantise_rows {width}", lambda w=width: glue.quantise_rows(bf16(rows, w))
    for hidden in (2112, 704):
        gate_up = bf16(rows, 2 * hidden)
        yield f"gated_gelu {hidden}", lambda g=gate_up: glue.gated_gelu(g)
        yield f"gated_gelu_quantised {hidden}", lambda g=gate_up: glue.gated_gelu_quantised(g)
    for kv_heads, head, values in ((8, 256, 8), (2, 512, 0)):
        qkv, norm = bf16(rows, (16 + kv_heads + values) * head), bf16(head)
        table, cache = bf16(rows, head), bf16(1, kv_heads, 1500, head)[:, :, 1000:1256]
        yield (
            f"qkv H={head}",
            lambda a=(qkv, norm, norm, table, table, 16, kv_heads, eps, cache, cache): (
                heads.qkv_norm_rope_write(*a)
            ),
        )


def main() -> int:
    failures = 0
    with compile_only() as compiled:
        for label, call in calls():
            compiled.clear()
            call()
            for kernel in compiled:
                one = inspect(kernel)
                bad = one.spills > 0 or one.shared > SHARED_LIMIT
                failures += bad
                print(
                    f"{label:26} {one.name:18} regs {one.registers:3} spills {one.spills} "
                    f"smem {one.shared}{'  BAD' if bad else ''}",
                    flush=True,
                )
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
