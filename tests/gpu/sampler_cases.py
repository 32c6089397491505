"""Sampler kernels at the model's sizes: what `time_glue` checks and times.

Legend: T rows, V vocab.
"""

from collections.abc import Iterator
from typing import Any

import torch
import triton
from torch import Tensor

from model.kernels import ops, sampler, sampler_jit
from model.ops import reference
from model.sampling.policies import EntropyBound, StableAndConfident
from tests.gpu.glue_cases import SETS, Case, Setting

CAP = 30.0


def sampler_cases(s: Setting) -> Iterator[Case]:
    raws = []
    for _ in range(SETS):
        raw = torch.randn(s.rows, s.vocab, device=s.device) * 4
        raw[::2, s.vocab // 3] = 28.0  # every other row is sure of itself
        raws.append(raw.bfloat16())
    temperature = torch.tensor(0.6, device=s.device)
    uniform = torch.rand(s.rows, device=s.device)
    lse = [sampler.token_statistics(raw, CAP, temperature, uniform)[3] for raw in raws]
    megabytes = s.rows * s.vocab * 2 / 1e6

    def scaled(index: int) -> Tensor:
        return reference.softcap(raws[index], CAP) / temperature

    def check() -> dict[str, float]:
        candidate, argmax, entropy, lse_T = sampler.token_statistics(
            raws[0], CAP, temperature, uniform
        )
        x = scaled(0)
        want, want_argmax, want_entropy = reference.token_statistics(x, uniform)
        p = torch.softmax(x.double(), -1)
        exact_entropy = torch.special.entr(p).sum(-1)
        cumulative = p.cumsum(-1)
        upper = cumulative.gather(1, candidate[:, None])[:, 0]
        lower = upper - p.gather(1, candidate[:, None])[:, 0]
        outside = torch.maximum(uniform - upper, lower - uniform).clamp(min=0)
        return {
            "candidate_differs": (candidate != want).sum().item(),
            "candidate_outside_by": outside.max().item(),
            "argmax_differs": (argmax != want_argmax).sum().item(),
            "entropy": (entropy - exact_entropy).abs().max().item(),
            "torch_entropy": (want_entropy - exact_entropy).abs().max().item(),
            "lse": (lse_T - x.bfloat16().float().logsumexp(-1)).abs().max().item(),
        }

    def chain(index: int) -> Any:
        return reference.token_statistics(scaled(index), uniform)

    for place, (tile, warps) in enumerate(((8192, 8), (4096, 4), (4096, 8), (16384, 16))):

        def fused(index: int, tile: int = tile, warps: int = warps) -> Any:
            return sampler.token_statistics(
                raws[index], CAP, temperature, uniform, tile=tile, num_warps=warps
            )

        first = place == 0
        name = f"token_statistics {tile}/{warps}"
        yield Case(name, fused, chain if first else None, check if first else None, megabytes, 6)

    tile = min(8192, triton.next_power_of_2(s.vocab))
    tiles = triton.cdiv(s.vocab, tile)
    part = torch.empty(5, s.rows, tiles, device=s.device)
    where = torch.empty(s.rows, tiles, device=s.device, dtype=torch.int32)

    def first_pass(index: int) -> None:
        sampler_jit.tile_statistics[(tiles, s.rows)](
            raws[index], temperature, part, where, s.vocab, s.rows * tiles, CAP, s.vocab,
            WHOLE=s.vocab % tile == 0, BLOCK=tile, num_warps=8,
        )  # fmt: skip

    yield Case("  of it tile_statistics", first_pass, None, None, megabytes, 6)

    def check_soft() -> dict[str, float]:
        got = sampler.soft_probabilities(raws[0], CAP, temperature, lse[0]).float()
        want = torch.softmax(scaled(0).bfloat16(), -1, dtype=torch.float32).bfloat16().float()
        apart = (got - want).abs() / want.clamp(min=1e-9)
        return {
            "relative": apart.max().item(),
            "differing": (got != want).float().mean().item(),
            "row_l1": (got - want).abs().sum(-1).max().item(),
        }

    def chain_soft(index: int) -> Tensor:
        return torch.softmax(scaled(index).bfloat16(), -1, dtype=torch.float32).bfloat16()

    for block in (4096, 2048, 8192):

        def soft(index: int, block: int = block) -> Tensor:
            return sampler.soft_probabilities(
                raws[index], CAP, temperature, lse[index], block=block
            )

        first = block == 4096
        yield Case(
            f"soft_probabilities {block}", soft, chain_soft if first else None,
            check_soft if first else None, 2 * megabytes, 6,
        )  # fmt: skip


def settling_cases(s: Setting) -> Iterator[Case]:
    """A lone row that goes on, one that stops, and eight rows of which some are done."""
    accept = EntropyBound(torch.tensor(3.0, device=s.device))
    stop = StableAndConfident(*(torch.tensor(n, device=s.device) for n in (1, 0.3)))
    for name, batch, same in (("goes on", 1, False), ("stops", 1, True), ("of eight", 8, True)):
        entropy = torch.rand(SETS, batch, s.rows, device=s.device) ** 4
        tokens = torch.randint(0, s.vocab, (5, batch, s.rows), device=s.device)
        if same:
            tokens[1] = tokens[4]
        counts = torch.ones(2, batch, device=s.device, dtype=torch.int32)
        done = torch.arange(batch, device=s.device) % 3 == 1
        rows = (*tokens, *counts, done)

        def fused(index: int, entropy: Tensor = entropy, rows: Any = rows) -> Any:
            return ops.settle(accept, stop, entropy[index], *rows)

        def chain(index: int, entropy: Tensor = entropy, rows: Any = rows) -> Any:
            return reference.settle(accept, stop, entropy[index], *rows)

        def check(fused: Any = fused, chain: Any = chain) -> dict[str, float]:
            pairs = [zip(fused(index), chain(index), strict=True) for index in range(SETS)]
            return {"differing": sum((a != b).sum().item() for pair in pairs for a, b in pair)}

        yield Case(f"settle, {name}", fused, chain, check, batch * s.rows * 61 / 1e6)
