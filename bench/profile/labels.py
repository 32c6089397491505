"""Names the op group of everything that a model runs, for a profiler to see."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

from torch import nn
from torch.profiler import record_function

from bench.profile.names import GROUP_RANGE, MERGED_FEED_FORWARD
from model.folded import FoldedBlock
from model.folded_feed_forward import FeedForward
from model.transformer import Transformer

_MODULES = {
    "attention": "attention",
    "attention.qkv": "projections",
    "attention.output": "projections",
    "dense": "dense",
    "router": "router",
    "experts": "experts",
    "self_conditioning": "self_conditioning",
    "final_norm": "norms",
}
"""Parts of a model, by the end of their name, and the op group they are."""
_A_BLOCK = 2  # parts of a block's name


@contextmanager
def labelled(model: Transformer) -> Iterator[None]:
    """Puts a range around every op group for as long as the context lasts.

    A block is norms but for what has a range of its own in it; products between those are
    projections (`bench.profile.names.group_of`).
    """
    embedding, ops = model.embedding, model.ops
    with ExitStack() as stack:
        methods: list[tuple[str, nn.Module, str]] = [
            ("logits", embedding, "logits"),
            ("self_conditioning", embedding, "soft"),
            ("self_conditioning", embedding, "soft_of_believed"),
        ]
        for name, module in model.named_modules():
            group = _group_of(name)
            if group is not None:
                stack.enter_context(_ranged(module, group))
            if isinstance(module, FoldedBlock):
                methods.append(("attention", module, "attend"))
            if isinstance(module, FeedForward):
                methods.append((MERGED_FEED_FORWARD, module, "of"))
        for group, owner, method in methods:
            owner.__dict__[method] = _in_range(getattr(owner, method), group)
            stack.callback(owner.__dict__.pop, method)
        model.ops = replace(
            ops,
            sample=_in_range(ops.sample, "sampling"),
            settle=_in_range(ops.settle, "sampling"),
        )
        stack.callback(setattr, model, "ops", ops)
        yield


def _group_of(name: str) -> str | None:
    parts = name.split(".")
    for end, group in _MODULES.items():
        if parts[-end.count(".") - 1 :] == end.split("."):
            return group
    return "norms" if parts[0] == "blocks" and len(parts) == _A_BLOCK else None


@contextmanager
def _ranged(module: nn.Module, group: str) -> Iterator[None]:
    ranges: list[record_function] = []

    def enter(*_: Any) -> None:
        ranges.append(record_function(GROUP_RANGE + group))
        ranges[-1].__enter__()

    def leave(*_: Any) -> None:
        ranges.pop().__exit__(None, None, None)

    hooks = [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _in_range(function: Callable[..., Any], group: str) -> Callable[..., Any]:
    def ranged(*args: Any) -> Any:
        with record_function(GROUP_RANGE + group):
            return function(*args)

    return ranged
