"""Blocks for `kernels=torch` in fp32: the same arithmetic in fewer and larger steps.

What a norm multiplies with is folded into the matrix that follows it, so one normalised residual
feeds dense MLP, experts and router through a single matrix, and every expert runs as a column block
of it. Folding moves roundings (not the formula), which fp32 affords; bf16 and fp8 keep the exact
chain of `model.transformer.Block`, their specification and this one's.

Legend: B seqs, L positions, T = B * L tokens, D model, N heads, G KV heads, H head dim, P = N + 2
G, F dense hidden, E experts, K experts a token, X expert hidden, A = F + E X hidden columns.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.attention import Slots
from model.config import ModelConfig
from model.transformer import Block, Transformer

# Up to this many experts for each one a token uses, running all of them is cheaper than gathering.
_MAX_EXPERTS_PER_USED = 4
# Up to this many keys plain products beat torch's fused attention on a processor.
_MAX_PLAIN_KEYS = 512
_GELU_LINEAR, _GELU_CUBIC = 1.5957691216057308, 0.07135481282638533  # 2 sqrt(2 / pi) (1, 0.044715)


def fold(model: Transformer) -> None:
    """Replaces the blocks of an fp32 model by folded ones, in place, where that is cheaper."""
    moe = model.config.moe
    if model.dtype is not torch.float32 or moe.num_experts > _MAX_EXPERTS_PER_USED * moe.top_k:
        return
    blocks = [FoldedBlock(block, model.config, i) for i, block in enumerate(model.layers())]
    model.blocks = nn.ModuleList(blocks)


class FoldedRouter(nn.Module):
    """Scores [T, E] to routing weights [T, E]: a softmax of the top K, zero elsewhere."""

    def __init__(self, top_k: int) -> None:
        super().__init__()
        self._top_k = top_k

    def forward(self, score_TE: Tensor) -> Tensor:
        # Of maxima, which a compiler can fuse.
        rest_TE = score_TE
        for _ in range(self._top_k - 1):
            rest_TE = rest_TE.masked_fill(rest_TE == rest_TE.amax(-1, keepdim=True), -torch.inf)
        unused_TE = score_TE < rest_TE.amax(-1, keepdim=True)
        return torch.softmax(score_TE.masked_fill(unused_TE, -torch.inf), dim=-1)


class FoldedBlock(nn.Module):
    """One layer; takes and returns what `Block` does."""

    layer_scalar: Tensor
    encoder_layer_scalar: Tensor | None

    def __init__(self, block: Block, config: ModelConfig, layer: int) -> None:
        super().__init__()
        geometry = config.attention(config.layer_types[layer])
        self._layer, self._config, self._geometry = layer, config, geometry
        self.router = FoldedRouter(config.moe.top_k)
        self.layer_scalar = block.layer_scalar
        self.encoder_layer_scalar = block.encoder_layer_scalar
        size, head_dim, eps = config.hidden_size, geometry.head_dim, config.rms_norm_eps
        moe, dense = config.moe, config.dense_hidden_size
        self._hidden_sizes = [dense, moe.num_experts * moe.hidden_size]
        self._branch_sizes = [sum(self._hidden_sizes)] * 2 + [moe.num_experts]
        # |x| / sqrt(D) is the root mean square, so every folded weight carries a factor sqrt(D).
        root, head_root = size**0.5, head_dim**0.5
        self._floor = torch.tensor((size * eps) ** 0.5, device=block.layer_scalar.device)
        self._head_floor = torch.tensor((head_dim * eps) ** 0.5, device=block.layer_scalar.device)
        self._gelu_linear = torch.tensor(_GELU_LINEAR, device=block.layer_scalar.device)

        attention = block.attention
        self._qkv_DP = _columns(attention.qkv.weight * _weight(block.input_norm) * root)
        heads = (config.num_heads, geometry.num_kv_heads)
        norms = (attention.q_norm, attention.k_norm)
        weights = [_weight(n).expand(h, -1) for n, h in zip(norms, heads, strict=True)]
        self._qk_weight = torch.cat(weights) * head_root
        self._output = _columns(attention.output.weight * head_root)  # the values' norm
        self._post_attention = _weight(block.post_attention_norm) * root

        for_dense = _weight(block.pre_dense_norm) * root
        for_experts = _weight(block.pre_experts_norm) * root
        gate, up = (block.dense.gate_up.weight * for_dense).chunk(2)
        expert_gate, expert_up = (block.experts.gate_up * for_experts).chunk(2, dim=1)
        router = block.router.projection.weight * block.router.scale
        branches = (
            gate,
            expert_gate.flatten(0, 1),
            up,
            expert_up.flatten(0, 1),
            router * (size**-0.5 * root),
        )
        self._branches = _columns(torch.cat(branches))
        self._dense_down = _columns(block.dense.down.weight)
        scaled_down = block.experts.down * block.router.per_expert_scale[:, None, None]
        self._experts_down = scaled_down.transpose(1, 2).flatten(0, 1).contiguous()
        self._post_dense = _weight(block.post_dense_norm) * root
        self._post_experts = _weight(block.post_experts_norm) * root
        self._post_feedforward = _weight(block.post_feedforward_norm) * root

    def forward(
        self,
        x_BLD: Tensor,
        rope_LH: tuple[Tensor, Tensor],
        mask: Tensor | None,
        cache: Slots,
        scalar: Tensor,
        *,
        whole_prefix: bool,
    ) -> Tensor:
        batch_size, length, size = x_BLD.shape
        x_TD = x_BLD.view(-1, size)
        qkv = torch.mm(self._unit(x_TD), self._qkv_DP)
        attended = self._attend(
            qkv.view(batch_size, length, -1, self._geometry.head_dim),
            rope_LH,
            mask,
            cache,
            whole_prefix,
        )
        out_TD = torch.mm(attended, self._output)
        x_TD = torch.addcmul(x_TD, self._unit(out_TD), self._post_attention)
        both_TD = self._feed_forward(self._unit(x_TD))
        x_TD = torch.addcmul(x_TD, self._unit(both_TD), self._post_feedforward)
        return (x_TD * scalar).view(batch_size, length, size)

    def _unit(self, x: Tensor) -> Tensor:
        """x over its length (and eps), sqrt(D) short of the norm's value."""
        return x / torch.hypot(torch.linalg.vector_norm(x, dim=-1, keepdim=True), self._floor)

    def _attend(
        self,
        qkv_BLPH: Tensor,
        rope_LH: tuple[Tensor, Tensor],
        mask: Tensor | None,
        cache: Slots,
        whole_prefix: bool,
    ) -> Tensor:
        """Attention before the output projection, [T, N H]."""
        num_heads, num_kv_heads = self._config.num_heads, self._geometry.num_kv_heads
        length = torch.linalg.vector_norm(qkv_BLPH, dim=-1, keepdim=True)
        unit = qkv_BLPH / torch.hypot(length, self._head_floor)
        qk = unit[:, :, : num_heads + num_kv_heads] * self._qk_weight
        cos, sin = rope_LH
        half = qk.shape[-1] // 2
        swapped = torch.cat((qk[..., half:], qk[..., :half]), dim=-1)
        qk = torch.addcmul(qk * cos[:, None], swapped, sin[:, None]).transpose(1, 2)
        value = unit[:, :, -num_kv_heads:].transpose(1, 2)
        k_BGKH, v_BGKH = cache.write_and_view(
            self._layer, qk[:, num_heads:], value, whole_prefix=whole_prefix
        )
        q_BNLH = qk[:, :num_heads]
        if mask is None and k_BGKH.shape[2] <= _MAX_PLAIN_KEYS:
            out_BNLH = _plain_attention(q_BNLH, k_BGKH, v_BGKH)
        else:
            out_BNLH = F.scaled_dot_product_attention(
                q_BNLH, k_BGKH, v_BGKH, attn_mask=mask, scale=1.0, enable_gqa=True
            )
        return out_BNLH.transpose(1, 2).reshape(qkv_BLPH.shape[0] * qkv_BLPH.shape[1], -1)

    def _feed_forward(self, unit_TD: Tensor) -> Tensor:
        """Dense MLP and experts, each normed, summed; [T, D]."""
        moe, num_tokens = self._config.moe, unit_TD.shape[0]
        branches = torch.mm(unit_TD, self._branches)
        gate_TA, up_TA, score_TE = branches.split(self._branch_sizes, dim=1)
        weight_TE = self.router(score_TE)
        slope = torch.addcmul(self._gelu_linear, gate_TA, gate_TA, value=_GELU_CUBIC).mul_(gate_TA)
        hidden_TA = slope.sigmoid_().mul_(gate_TA).mul_(up_TA)
        for_dense, for_experts = hidden_TA.split(self._hidden_sizes, dim=1)
        for_experts.view(num_tokens, moe.num_experts, -1).mul_(weight_TE[:, :, None])
        outputs = unit_TD.new_empty(2, num_tokens, unit_TD.shape[1])
        dense, experts = outputs.unbind()
        torch.mm(for_dense, self._dense_down, out=dense)
        torch.mm(for_experts, self._experts_down, out=experts)
        dense, experts = self._unit(outputs).unbind()
        return torch.addcmul(dense * self._post_dense, experts, self._post_experts)


def _plain_attention(q_BNLH: Tensor, k_BGKH: Tensor, v_BGKH: Tensor) -> Tensor:
    """Unmasked attention as two products and a softmax; the query heads of a KV head together."""
    groups, length = k_BGKH.shape[1], q_BNLH.shape[2]
    q_BGMH = q_BNLH.unflatten(1, (groups, -1)).flatten(2, 3)
    weight_BGMK = torch.softmax(torch.matmul(q_BGMH, k_BGKH.transpose(2, 3)), dim=-1)
    return torch.matmul(weight_BGMK, v_BGKH).unflatten(2, (-1, length)).flatten(1, 2)


def _columns(matrix: Tensor) -> Tensor:
    """[out, in] as a contiguous [in, out]."""
    return matrix.detach().t().contiguous()


def _weight(norm: nn.Module) -> Tensor:
    weight = norm.weight
    assert isinstance(weight, Tensor)
    return weight.detach()
