"""The feed-forward of a folded block: dense MLP and routed experts of one normalised residual.

Small experts all run, as column blocks of the matrix that the dense MLP uses: arithmetic is cheaper
than calls. Larger ones run for their own tokens only, grouped.

Legend: T tokens, D model, F dense hidden, E experts, K experts a token, R = T * K routed rows, X
expert hidden, A = F + E X hidden columns.
"""

import torch
from torch import Tensor, nn

from model.config import ModelConfig
from model.ops.grouping import by_row, grouped_mm, mix, sort_by_expert
from model.transformer import Block

_GROUPED_FROM = 1 << 14  # values of an expert's matrix; between the tiny and the mini preset's
_GELU_LINEAR, _GELU_CUBIC = 1.5957691216057308, 0.07135481282638533  # 2 sqrt(2 / pi) (1, 0.044715)


def make_feed_forward(block: Block, config: ModelConfig) -> "FeedForward":
    """The cheaper form of a block's feed-forward."""
    hidden_size = config.moe.hidden_size
    fits = hidden_size % 4 == config.hidden_size % 4 == 0  # rows of whole 16 bytes
    is_large = hidden_size * config.hidden_size >= _GROUPED_FROM
    return (GroupedFeedForward if is_large and fits else DenseFeedForward)(block, config)


def unit(x: Tensor, floor: Tensor) -> Tensor:
    """x over its length (and eps), sqrt(D) short of the norm's value."""
    return x / torch.hypot(torch.linalg.vector_norm(x, dim=-1, keepdim=True), floor)


def columns(matrix: Tensor) -> Tensor:
    """[out, in] as a contiguous [in, out]."""
    return matrix.detach().t().contiguous()


def norm_weight(norm: nn.Module) -> Tensor:
    weight = norm.weight
    assert isinstance(weight, Tensor)
    return weight.detach()


class FeedForward(nn.Module):
    """Dense MLP and experts, each normed, summed; the forms differ in how experts run."""

    router: nn.Module

    def __init__(self, block: Block, config: ModelConfig) -> None:
        super().__init__()
        self._moe, self._dense_size = config.moe, config.dense_hidden_size
        size, device = config.hidden_size, block.layer_scalar.device
        # |x| / sqrt(D) is the root mean square, so every folded weight carries a factor sqrt(D).
        root = size**0.5
        self._floor = torch.tensor((size * config.rms_norm_eps) ** 0.5, device=device)
        self._gelu_linear = torch.tensor(_GELU_LINEAR, device=device)
        self._dense_down = columns(block.dense.down.weight)
        self._post_dense = norm_weight(block.post_dense_norm) * root
        self._post_experts = norm_weight(block.post_experts_norm) * root

    def of(self, unit_TD: Tensor) -> Tensor:
        """Of the residual over its length, [T, D]; no `forward`, which costs a module's call."""
        outputs = unit_TD.new_empty(2, *unit_TD.shape)
        self._run(unit_TD, *outputs.unbind())
        dense_TD, experts_TD = unit(outputs, self._floor).unbind()
        return torch.addcmul(dense_TD * self._post_dense, experts_TD, self._post_experts)

    def _run(self, unit_TD: Tensor, dense_TD: Tensor, experts_TD: Tensor) -> None:
        """Writes what both halves give."""
        raise NotImplementedError

    def _gated_gelu(self, gate: Tensor, up: Tensor) -> Tensor:
        """gelu_tanh(gate) * up, as x sigmoid(2 sqrt(2 / pi) (x + 0.044715 x^3))."""
        slope = torch.addcmul(self._gelu_linear, gate, gate, value=_GELU_CUBIC).mul_(gate)
        return slope.sigmoid_().mul_(gate).mul_(up)


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


class DenseFeedForward(FeedForward):
    """All experts for every token: two products, three with the dense MLP's."""

    def __init__(self, block: Block, config: ModelConfig) -> None:
        super().__init__(block, config)
        self.router = FoldedRouter(config.moe.top_k)
        self._hidden_sizes = [self._dense_size, self._moe.num_experts * self._moe.hidden_size]
        self._branch_sizes = [sum(self._hidden_sizes)] * 2 + [self._moe.num_experts]
        self._expert_sizes = (self._moe.num_experts, self._moe.hidden_size)
        gate, up, expert_gate, expert_up, router = _branches(block, config)
        merged = (gate, expert_gate.flatten(0, 1), up, expert_up.flatten(0, 1), router)
        self._merged = columns(torch.cat(merged))
        self._experts_down = _experts_down(block).transpose(1, 2).flatten(0, 1).contiguous()

    def _run(self, unit_TD: Tensor, dense_TD: Tensor, experts_TD: Tensor) -> None:
        gate_TA, up_TA, score_TE = torch.mm(unit_TD, self._merged).split(self._branch_sizes, dim=1)
        weight_TE = self.router(score_TE)
        hidden_TA = self._gated_gelu(gate_TA, up_TA)
        for_dense, for_experts = hidden_TA.split(self._hidden_sizes, dim=1)
        by_expert = for_experts.view(-1, *self._expert_sizes)
        by_expert.mul_(weight_TE[:, :, None])
        torch.mm(for_dense, self._dense_down, out=dense_TD)
        torch.mm(for_experts, self._experts_down, out=experts_TD)


class TopRouter(nn.Module):
    """Scores [T, E] to the K best experts [T, K] and their weights, a softmax of their scores."""

    def __init__(self, top_k: int) -> None:
        super().__init__()
        self._top_k = top_k

    def forward(self, score_TE: Tensor) -> tuple[Tensor, Tensor]:
        score_TK, expert_TK = torch.topk(score_TE, self._top_k, dim=-1)
        return expert_TK, torch.softmax(score_TK, dim=-1)


class GroupedFeedForward(FeedForward):
    """Each token's own experts: rows in expert order, two grouped products."""

    def __init__(self, block: Block, config: ModelConfig) -> None:
        super().__init__(block, config)
        self.router = TopRouter(config.moe.top_k)
        self._branch_sizes = [self._dense_size] * 2 + [self._moe.num_experts]
        gate, up, expert_gate, expert_up, router = _branches(block, config)
        self._merged = columns(torch.cat((gate, up, router)))
        expert_gate_up = torch.cat((expert_gate, expert_up), dim=1)
        self._gate_up_EDX = expert_gate_up.detach().transpose(1, 2).contiguous()
        self._down_EXD = _experts_down(block).transpose(1, 2).contiguous()

    def _run(self, unit_TD: Tensor, dense_TD: Tensor, experts_TD: Tensor) -> None:
        gate_TF, up_TF, score_TE = torch.mm(unit_TD, self._merged).split(self._branch_sizes, dim=1)
        expert_TK, weight_TK = self.router(score_TE)
        torch.mm(self._gated_gelu(gate_TF, up_TF), self._dense_down, out=dense_TD)
        order_R, end_E = sort_by_expert(expert_TK, self._moe.num_experts)
        rows_RD = unit_TD[order_R // self._moe.top_k]
        gate_up = grouped_mm(rows_RD, self._gate_up_EDX, end_E)
        hidden_RX = self._gated_gelu(*gate_up.chunk(2, dim=1))
        hidden_RX.mul_(by_row(weight_TK, order_R)[:, None])
        out_RD = grouped_mm(hidden_RX, self._down_EXD, end_E)
        experts_TD.copy_(mix(out_RD, order_R, self._moe.top_k))


def _branches(block: Block, config: ModelConfig) -> tuple[Tensor, ...]:
    """All that multiplies the normed residual, with the norms' weights in it.

    The router's factor D^-0.5 and the sqrt(D) that `unit` falls short by cancel.

    Returns:
        gate and up of the dense MLP [F, D], those of the experts [E, X, D], router [E, D].
    """
    root = config.hidden_size**0.5
    for_dense = norm_weight(block.pre_dense_norm) * root
    for_experts = norm_weight(block.pre_experts_norm) * root
    gate_up = block.dense.gate_up.weight * for_dense
    expert_gate_up = block.experts.gate_up * for_experts
    router = block.router.projection.weight * block.router.scale
    return *gate_up.chunk(2), *expert_gate_up.chunk(2, dim=1), router


def _experts_down(block: Block) -> Tensor:
    """[E, D, X] with each expert's scale in it."""
    scale_E = block.router.per_expert_scale
    return (block.experts.down * scale_E[:, None, None]).detach()
