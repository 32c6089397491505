"""The routed feed-forward: router and experts.

Legend: T tokens, D model, E experts, K experts a token, F expert hidden.
"""

import torch
from torch import Tensor, nn

from model.config import ModelConfig
from model.layers import Linear
from model.ops import Ops


class Router(nn.Module):
    """Chooses K experts a token from the residual.

    The rounding chain (norm, times scale, times D^-0.5, each in the activation dtype, then an fp32
    softmax) is the upstream one; fusing it differently moves tokens to other experts.
    """

    def __init__(self, config: ModelConfig, ops: Ops) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(config.hidden_size))
        self.projection = Linear(config.hidden_size, config.moe.num_experts)
        self.per_expert_scale = nn.Parameter(torch.ones(config.moe.num_experts))
        self._top_k = config.moe.top_k
        self._root = config.hidden_size**-0.5
        self._route = ops.route

    def forward(self, normed_TD: Tensor) -> tuple[Tensor, Tensor]:
        """Returns expert indices [T, K] and their weights [T, K] (fp32, times the expert's scale).

        Args:
            normed_TD: the residual, normed without a weight.
        """
        scores_TE = self.projection(normed_TD * self.scale * self._root)
        return self._route(scores_TE, self.per_expert_scale, self._top_k)


class Experts(nn.Module):
    """The experts' gated MLPs, fused: gate_up [E, 2F, D] and down [E, D, F]."""

    def __init__(self, config: ModelConfig, ops: Ops) -> None:
        super().__init__()
        moe, size = config.moe, config.hidden_size
        self.gate_up = nn.Parameter(torch.empty(moe.num_experts, 2 * moe.hidden_size, size))
        self.down = nn.Parameter(torch.empty(moe.num_experts, size, moe.hidden_size))
        self._experts = ops.experts

    def forward(self, x_TD: Tensor, expert_TK: Tensor, weight_TK: Tensor) -> Tensor:
        return self._experts(x_TD, expert_TK, weight_TK, self.gate_up, self.down)
