"""The diffusion sibling: the autoregressive model plus self-conditioning and a canvas forward.

Legend: B seqs, L canvas, D model, V vocab.
"""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from model.attention import Cache
from model.config import ModelConfig
from model.kv_cache import KVCache
from model.layers import GatedMLP, RMSNorm
from model.ops import Ops
from model.ops.reference import rounded_softmax
from model.stop_flag import StopFlag
from model.transformer import AnyPrefix, Surroundings, Transformer


class SelfConditioning(nn.Module):
    """Adds what the previous step believed to the canvas embedding.

    post_norm(x + mlp(pre_norm(signal))), at the first step too, with a zero signal.
    """

    def __init__(self, config: ModelConfig, ops: Ops) -> None:
        super().__init__()
        size, eps = config.hidden_size, config.rms_norm_eps
        self.pre_norm = RMSNorm(size, eps, ops)
        self.mlp = GatedMLP(size, config.dense_hidden_size, ops)
        self.post_norm = RMSNorm(size, eps, ops, with_weight=False)

    def forward(self, x_BLD: Tensor, signal_BLD: Tensor) -> Tensor:
        return self.post_norm(x_BLD + self.mlp(self.pre_norm(signal_BLD)))


@dataclass(frozen=True, slots=True)
class FinishedCanvas:
    """A canvas that the next one's first step writes to the cache on its way.

    Attributes:
        canvas_BL: its tokens.
        around: what its rows read, as a commit of its own would.
    """

    canvas_BL: Tensor
    around: Surroundings | AnyPrefix


class DiffusionTransformer(Transformer):
    """Prompts and finished canvases pass causally (`encode`), an open one both ways (`denoise`).

    Attributes:
        stop_flag: where steps that are issued ahead tell the host whether to go on.
    """

    def __init__(self, config: ModelConfig, ops: Ops) -> None:
        super().__init__(config, ops)
        self.self_conditioning = SelfConditioning(config, ops)
        self.stop_flag = StopFlag()

    def denoise(
        self, canvas_BL: Tensor, signal_BLD: Tensor | None, cache: KVCache | Cache
    ) -> Tensor:
        """One denoise forward: logits of every canvas position given the cached prefix.

        Reads the cache's prefix; the slots after it serve as scratch and are not advanced.

        Args:
            signal_BLD: `signal` of the previous step's scaled logits, None at a canvas's first
                step.

        Returns:
            softcapped logits, fp32 [B, L, V].
        """
        surroundings = self.surround(canvas_BL.shape[1], cache, causal=False)
        raw_BLV = self.scores_in(canvas_BL, signal_BLD, surroundings)
        return self.ops.softcap(raw_BLV, self.config.final_logit_softcap)

    def around_canvas(
        self, length: int, cache: KVCache, *, ahead: int = 0
    ) -> Surroundings | AnyPrefix:
        """What all denoise steps of a canvas after the cached prefix share.

        Args:
            ahead: positions of a finished canvas that the first of them writes.
        """
        if self.wrap_step.fixed_shapes:
            return self.anywhere(cache)
        return self.surround(length, cache, causal=False, ahead=ahead)

    def around_commit(self, length: int, cache: KVCache) -> Surroundings | AnyPrefix:
        """What the rows of a finished canvas read."""
        if self.wrap_step.fixed_shapes:
            return self.anywhere(cache)
        return self.surround(length, cache, causal=True)

    def scores_in(
        self,
        canvas_BL: Tensor,
        signal_BLD: Tensor | None,
        around: Surroundings | AnyPrefix,
        finished: FinishedCanvas | None = None,
    ) -> Tensor:
        """`denoise` before its softcap, [B, L, V], given what the steps of a canvas share.

        Args:
            finished: the canvas before, to be written to the cache in the same pass: as a commit
                and then the step, with one reading of the weights.
        """
        length, ahead = canvas_BL.shape[1], 0 if finished is None else canvas_BL.shape[1]
        if isinstance(around, AnyPrefix):
            around = self.surround_anywhere(length, around, causal=False, ahead=ahead)
        if signal_BLD is None:
            signal_BLD = self.no_signal(canvas_BL)
        if finished is None:
            x_BLD = self.self_conditioning(self.embedding(canvas_BL), signal_BLD)
            scalars = [block.layer_scalar for block in self.layers()]
            return self.embedding.logits(self._run(x_BLD, (around,), scalars))
        before = finished.around
        if isinstance(before, AnyPrefix):
            before = self.surround_anywhere(length, before, causal=True)
        tokens = torch.cat((finished.canvas_BL, canvas_BL))
        written_BLD, x_BLD = self.embedding(tokens).chunk(2)
        x = torch.cat((written_BLD, self.self_conditioning(x_BLD, signal_BLD)))
        hidden = self._run(x, (before, around), self._scalars_of_both(len(canvas_BL)))
        return self.embedding.logits(hidden.chunk(2)[1])

    def _scalars_of_both(self, batch_size: int) -> tuple[Tensor, ...]:
        """Every block's scalars [2 B, 1, 1]: of rows that are committed, then of those denoised."""
        blocks = list(self.layers())
        encoder = [cast(Tensor, block.encoder_layer_scalar) for block in blocks]
        both = torch.stack((torch.cat(encoder), torch.cat([b.layer_scalar for b in blocks])), dim=1)
        return both.repeat_interleave(batch_size, dim=1)[:, :, None, None].unbind()

    def commit(self, canvas_BL: Tensor, cache: KVCache) -> None:
        """Writes a finished canvas to the cache: `encode` without its result."""
        length = canvas_BL.shape[1]
        around = self.around_commit(length, cache)
        self.wrap_step(_commit, "commit")(self, canvas_BL, around)
        cache.advance(length)

    def no_signal(self, canvas_BL: Tensor) -> Tensor:
        """The signal before a canvas's first step [B, L, D]: zero."""
        shape = (*canvas_BL.shape, self.config.hidden_size)
        return torch.zeros(shape, dtype=self.dtype, device=self.device)

    def signal(self, scaled_logits_BLV: Tensor) -> Tensor:
        """The next step's self-conditioning signal [B, L, D] from this step's scaled logits.

        The logits are rounded to the embedding dtype before the fp32 softmax, as upstream does.
        """
        return self.embedding.soft(rounded_softmax(scaled_logits_BLV, self.dtype))


def _commit(
    model: DiffusionTransformer, canvas_BL: Tensor, around: Surroundings | AnyPrefix
) -> Tensor:
    """The commit as a function of tensors, which `model.execution` may capture."""
    return model.encode_in(canvas_BL, around)
