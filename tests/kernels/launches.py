"""How many kernels a pass launches, by op group: Triton's and those of torch, products included.

A torch operation that touches memory counts as one launch; a few are more on a GPU.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from model.kernels import OP_GROUPS
from model.transformer import Transformer
from tests.kernels.compiling import Launch, launches
from tests.kernels.passes import Run
from tests.model.planned import _UNTOUCHED, _changed, _key, _tensors

_BY_MATRIX = {
    "qkv": "projections",
    "output": "projections",
    "gate_up": "dense",
    "down": "dense",
    "router": "router",
}


class Kernel(NamedTuple):
    """What is counted; kernels of torch are named `torch ...`."""

    group: str
    name: str


class Counted(NamedTuple):
    """Launches by kernel.

    Attributes:
        a_layer: of one layer of each type, neither the first nor the last of the model.
        whole: of the whole pass.
    """

    a_layer: dict[str, Counter[Kernel]]
    whole: Counter[Kernel]

    def elsewhere(self, layer_types: tuple[str, ...]) -> Counter[Kernel]:
        """Outside of the layers, and what the first or last one has besides."""
        left = Counter(self.whole)
        for kind in layer_types:
            left.subtract(self.a_layer[kind])
        return left


def counted(model: Transformer, run: Run) -> Counted:
    """Of a pass over a fused model without data."""
    owners = {
        _key(tensor): name for name, tensor in (*model.named_parameters(), *model.named_buffers())
    }
    with launches(compiled=()) as found, _places(model, found) as places, _TorchToo(found):
        run()
    kernels = [Kernel(_group(launch, owners), launch.name) for launch in found]
    inside = slice(*places.get("self_conditioning", (0, 0)))
    kernels[inside] = [Kernel("self_conditioning", name) for _, name in kernels[inside]]
    kinds = model.config.layer_types
    a_layer = {}
    for kind in dict.fromkeys(kinds):
        layer = next(i for i in range(1, len(kinds) - 1) if kinds[i] == kind)
        a_layer[kind] = Counter(kernels[slice(*places[f"blocks.{layer}"])])
    return Counted(a_layer, Counter(kernels))


class _TorchToo(TorchDispatchMode):
    """Appends operations of torch that touch memory."""

    def __init__(self, found: list[Launch]) -> None:
        super().__init__()
        self._found = found

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        given = {_key(tensor) for tensor in _tensors((args, kwargs))}
        is_new = any(_key(tensor) not in given for tensor in _tensors(result))
        name = func._schema.name.removeprefix("aten::")
        if (is_new or _changed(func, args, kwargs)) and name not in _UNTOUCHED:
            self._found.append(Launch(f"torch {name}", args, kwargs, None))
        return result


@contextmanager
def _places(model: nn.Module, found: list[Launch]) -> Iterator[dict[str, tuple[int, int]]]:
    """Which of the launches a module issued, by its name: from and to."""
    begun: dict[str, int] = {}
    places: dict[str, tuple[int, int]] = {}
    handles = []
    for name, module in model.named_modules():

        def entering(*_: object, name: str = name) -> None:
            begun[name] = len(found)

        def leaving(*_: object, name: str = name) -> None:
            places[name] = begun[name], len(found)

        handles.append(module.register_forward_pre_hook(entering))
        handles.append(module.register_forward_hook(leaving))
    try:
        yield places
    finally:
        for handle in handles:
            handle.remove()


def _group(launch: Launch, owners: Mapping[int, str]) -> str:
    """By the matrix that it multiplies with, else by the kernel's name."""
    leaves = [getattr(leaf, "base", leaf) for leaf in tree_leaves(launch.args)]
    names = [owners.get(_key(leaf), "") for leaf in leaves if isinstance(leaf, Tensor)]
    if launch.name == "torch mm" and "embedding.weight" in names:
        left, right = launch.args
        return "self_conditioning" if left.shape[1] > right.shape[1] else "logits"
    if launch.name not in OP_GROUPS or launch.name == "linear_kernel":
        for _, _, part, *_ in (name.split(".") for name in names if name.startswith("blocks.")):
            return _BY_MATRIX[part]
    return OP_GROUPS.get(launch.name, "other")
