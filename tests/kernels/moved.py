"""What a denoise step's kernels plan to move, Triton's and torch's together, against the floor.

Counted as in `tests.model.planned`, but launch by launch without a GPU: weights and
cache whenever a kernel is given them, other tensors above `L2_BYTES` likewise, smaller ones where
they no longer fit into the second-level cache. A small tensor's first launch is the one that writes
it. Expert weights count by the share of experts that uniform routing touches.
"""

from collections import Counter
from typing import Any

from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from model.diffusion import DiffusionTransformer
from model.precision import Precision
from model.work import expected_distinct_experts, forward_work
from tests.kernels.compiling import Launch, launches
from tests.kernels.launches import _group
from tests.kernels.passes import CONTEXT, denoising
from tests.model.planned import _L2, _UNTOUCHED, L2_BYTES, _bytes, _changed, _key, _tensors

_GATHERS = ("torch embedding", "torch index_select")
_EXPERTS = ("gate_up_kernel", "down_kernel")
_TILE_OF_A_ROW = "row_statistics"
_TABLES_AT = {"qkv_rows": 3, "qkv_kernel": 6}  # rotary tables among the arguments, then q
_SOON_AT = {"norm_rows": 18}  # weights that a later kernel reads, and that count there


def planned_bytes(model: DiffusionTransformer) -> Counter[str]:
    """By op group, of a step of a fused model without data that is not a canvas's first."""
    canvas = model.config.canvas_length or 0
    run = denoising(model, slots=CONTEXT + canvas)
    counter = _Counter(model)
    with launches(compiled=(), watch=counter.see), counter:
        run()
    return counter.moved


def floor_bytes(model: DiffusionTransformer, precision: Precision) -> dict[str, float]:
    """By op group: the least that such a step has to move."""
    groups = forward_work(model.config, "denoise", precision, context=CONTEXT)
    return {group.name: group.bytes for group in groups}


class _Counter(TorchDispatchMode):
    """Sums bytes by op group; torch's own operations are seen by being inside."""

    def __init__(self, model: DiffusionTransformer) -> None:
        super().__init__()
        self.moved: Counter[str] = Counter()
        named = (*model.named_parameters(), *model.named_buffers())
        self._owners = {_key(tensor): name for name, tensor in named}
        self._l2 = _L2()
        self._seen: dict[int, StorageWeakRef] = {}  # held, so that no later storage has its key
        self._read_of_tables: dict[int, Tensor] = {}
        config = model.config
        distinct = expected_distinct_experts(config, config.canvas_length or 0)
        self._expert_share = distinct / config.moe.num_experts

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        given = {_key(tensor) for tensor in _tensors((args, kwargs))}
        fresh = [tensor for tensor in _tensors(result) if _key(tensor) not in given]
        name = func._schema.name.removeprefix("aten::")
        if (fresh or _changed(func, args, kwargs)) and name not in _UNTOUCHED:
            self.see(Launch(f"torch {name}", args, kwargs, None), fresh)
        return result

    def see(self, launch: Launch, fresh: list[Tensor] | None = None) -> None:
        leaves = [
            getattr(leaf, "base", leaf) for leaf in tree_leaves((self._read(launch), fresh or []))
        ]
        tensors = {_key(leaf): leaf for leaf in leaves if isinstance(leaf, Tensor)}
        conditions = any(
            self._owners.get(key, "").startswith("self_conditioning.") for key in tensors
        )
        group = "self_conditioning" if conditions else _group(launch, self._owners)
        for key, tensor in tensors.items():
            self.moved[group] += round(self._touched(launch, key, tensor, fresh or []))

    def _read(self, launch: Launch) -> tuple[Any, ...]:
        """The arguments; in place of rotary tables what is read of them: a row a position."""
        soon = _SOON_AT.get(launch.name)
        if soon is not None:
            return (*launch.args[:soon], *launch.args[soon + 1 :])
        at = _TABLES_AT.get(launch.name)
        if at is None:
            return launch.args
        *tables, q_BLNH = launch.args[at : at + 3]
        rows = [
            self._read_of_tables.setdefault(
                _key(table), table.new_empty(q_BLNH.shape[1], table.shape[1])
            )
            for table in tables
        ]
        return (*launch.args[:at], *rows, *launch.args[at + 2 :])

    def _touched(self, launch: Launch, key: int, tensor: Tensor, fresh: list[Tensor]) -> float:
        owner = self._owners.get(key, "")
        if not owner and tensor.untyped_storage().nbytes() <= L2_BYTES:
            first = key not in self._seen
            self._seen.setdefault(key, StorageWeakRef(tensor.untyped_storage()))
            return self._l2.touch(tensor, write=first)
        if launch.name in _GATHERS and all(tensor is not each for each in fresh):
            return _bytes(fresh[0])
        if launch.name == _TILE_OF_A_ROW:  # it looks into one tile of each row
            return _bytes(tensor) / launch.args[3].shape[-1]
        return _bytes(tensor) * (self._expert_share if launch.name in _EXPERTS else 1)
