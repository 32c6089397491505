"""The soft embedding over tokens in play, few to all of them: what `time_glue` checks and times.

Beside each stands the dense product, so that the table shows up to how many tokens in play leaving
the others out pays.

Legend: T rows, V vocab, D model.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from model.kernels import compacted
from model.ops import reference
from tests.gpu.glue_cases import BF16, SETS, Case, Setting

_SHARES = (0.0, 2**-8, 2**-5, 2**-3, 0.5, 1.0)  # of the vocabulary
_LEAST = 2**-12


def compacted_cases(s: Setting) -> Iterator[Case]:
    table = torch.randn(s.vocab, s.size, device=s.device).to(BF16)
    least = torch.tensor(_LEAST, device=s.device)
    for share in _SHARES:
        count = round(share * s.vocab)
        beliefs = [_believing(s, count) for _ in range(SETS)]

        def fused(index: int, beliefs: list[Tensor] = beliefs) -> Tensor:
            return compacted.soft_embedding(beliefs[index], table, least)

        def dense(index: int, beliefs: list[Tensor] = beliefs) -> Tensor:
            return torch.matmul(beliefs[index], table)

        def check(beliefs: list[Tensor] = beliefs, count: int = count) -> dict[str, float]:
            p = beliefs[0]
            got = compacted.soft_embedding(p, table, least).float()
            want = reference.soft_embedding(p.float(), table.float(), least)
            token_U, _, total = compacted.compact(p.flatten(0, 1), least, 64)
            ascending = reference.in_play(p, least).nonzero().flatten()
            return {
                "error": (got - want).abs().max().item(),
                "largest": want.abs().max().item(),
                "listed_too_many": total.item() - count,
                "list_differs": (token_U[:count] != ascending).sum().item(),
            }

        megabytes = (s.rows * s.vocab + count * (s.size + 2 * s.rows)) * 2 / 1e6
        yield Case(f"soft_embedding of {count}", fused, dense, check, megabytes, 6)


def _believing(s: Setting, count: int) -> Tensor:
    """[1, T, V]: random tokens, each believed in by a few rows; no other reaches the least."""
    p = torch.rand(s.rows, s.vocab, device=s.device) * (_LEAST / 2)
    token = torch.randperm(s.vocab, device=s.device)[:count]
    for _ in range(3):
        row = torch.randint(s.rows, (count,), device=s.device)
        p[row, token] = torch.rand(count, device=s.device) * 0.5 + _LEAST
    return p.to(BF16)[None]
