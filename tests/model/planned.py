"""What a denoise step plans to move on a GPU, counted without one: every operation torch is asked
for, by what it reads and writes.

The step itself runs (`model.sampling.block_diffusion.Denoiser`) on tensors without data, over the
model that `model.precision` makes for a Hopper GPU; asked for their device they answer CUDA, so it
takes the branches it takes there. `model.work` says what such a step has to move at least; the
ratio of the two is what the implementation wastes.

What counts:

- Weights and cache buffers: every read and write, at the bytes of the view that is given. Of
  grouped experts those that uniform routing is expected to touch.
- A tensor larger than `L2_BYTES`: likewise.
- Smaller ones live in a cache of `L2_BYTES` that drops the least recently used: reading what was
  dropped counts, and so does dropping what was written and is still needed.

Views are free, in-place operations read and write, expanded dimensions count once, a gather reads
as much as it returns, a scatter writes as much as it is given, and memory merely allocated is not
touched.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import prod
from typing import Any, cast
from unittest import mock

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from model import precision as precisions
from model.config import ModelConfig
from model.diffusion import DiffusionTransformer
from model.kv_cache import KVCache
from model.ops import Ops
from model.precision import Precision
from model.sampling.block_diffusion import CanvasState, Denoiser, DiffusionSampling
from model.sampling.noise import CanvasNoise
from model.vocabulary import Vocabulary
from model.work import expected_distinct_experts

L2_BYTES = 24 << 20
"""What may be relied on to stay in the second-level cache: half of Hopper's 50 MB, since either of
its two partitions may hold a copy of a line, and weights stream through it meanwhile."""

_META = torch.device("meta")
_IS_CUDA = cast(Any, Tensor.is_cuda).__get__
_UNTOUCHED = ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided")
_OVERWRITES = ("copy_", "fill_", "zero_")
_SCATTERS = ("index_copy_", "index_add_", "index_put_", "scatter_")
_GATHERS = ("embedding", "index", "index_select", "gather", "take")
_GROUPED = ("_grouped_mm", "_scaled_grouped_mm", "_scaled_grouped_mm_v2")
_OWN_GROUP = ("router", "experts", "dense", "self_conditioning")


@dataclass(frozen=True, slots=True)
class PlannedOp:
    """One operation of a step.

    Attributes:
        group: the op group of `model.work.forward_work` that it belongs to.
        name: torch's name of it.
        bytes: read and written in device memory, by all layers that have it.
    """

    group: str
    name: str
    bytes: float


def planned_ops(
    config: ModelConfig,
    ops: Ops,
    precision: Precision,
    *,
    context: int,
    batch_size: int = 1,
    vocabulary: Vocabulary = Vocabulary.EXACT,
    sampling: DiffusionSampling | None = None,
) -> list[PlannedOp]:
    """Every operation of a denoise step that is not a canvas's first, on a Hopper GPU.

    One layer of each type runs and stands for all of its type.

    Args:
        context: cached positions of every row.
        sampling: of at least two steps; the released one by default.
    """
    kinds = tuple(dict.fromkeys(config.layer_types))
    repeats = [config.layer_types.count(kind) for kind in kinds]
    few = replace(config, layer_types=kinds)
    assert config.canvas_length is not None
    distinct = expected_distinct_experts(config, batch_size * config.canvas_length)
    model = _hopper_model(few, ops, precision, vocabulary)
    with _OnGpu(), torch.no_grad():
        size = context + config.canvas_length
        cache = KVCache(few, batch_size, size, dtype=model.dtype, device=_META)
        cache.advance(context)
        shape = (2, batch_size, config.canvas_length)
        tokens = torch.zeros(shape, dtype=torch.int64, device=_META)
        noise = CanvasNoise(tokens[0], torch.zeros(shape, device=_META), tokens)
        denoiser = Denoiser(model, sampling or DiffusionSampling())
        ended = torch.zeros(batch_size, dtype=torch.bool, device=_META)
        state, _ = denoiser.step(CanvasState.fresh(noise.initial_BL, ended), cache, noise, 0)
        counter = _Counter(model, cache, distinct / config.moe.num_experts)
        with counter.following(model, repeats), counter:
            denoiser.step(state, cache, noise, 1)
    return counter.found


def by_group(ops: Sequence[PlannedOp]) -> dict[str, float]:
    """Bytes of each op group."""
    totals: dict[str, float] = {}
    for op in ops:
        totals[op.group] = totals.get(op.group, 0) + op.bytes
    return totals


def _hopper_model(
    config: ModelConfig, ops: Ops, precision: Precision, vocabulary: Vocabulary
) -> DiffusionTransformer:
    """The model as `model.precision` makes it for a GPU with bf16 and fp8 units."""
    with _META:
        model = DiffusionTransformer(config, ops).requires_grad_(False)
    with (
        mock.patch.object(precisions, "has_bf16_units", return_value=True),
        mock.patch.object(precisions, "has_fp8_units", return_value=True),
    ):
        for name, child in model.named_children():
            for part in child.children() if name == "blocks" else (child,):
                precisions.convert(part, precision)
        precisions.finish(model, precision, vocabulary)
    return model


class _OnGpu(TorchFunctionMode):
    """Tensors without data answer that they are on a GPU.

    torch has kernels of its own there for norms and attention; what stands for them here moves what
    they move.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func == _IS_CUDA:
            return True
        if func is F.rms_norm:
            return torch.ops.aten.native_layer_norm(args[0], args[1], None, None, 0.0)[0]
        if func is F.scaled_dot_product_attention:
            assert kwargs["attn_mask"] is None
            return torch.ops.aten._scaled_dot_product_flash_attention(*args)[0]
        return func(*args, **kwargs)


class _Counter(TorchDispatchMode):
    """Appends every operation that touches memory to `found`."""

    def __init__(self, model: DiffusionTransformer, cache: KVCache, expert_share: float) -> None:
        super().__init__()
        self.found: list[PlannedOp] = []
        self._expert_share = expert_share
        self._l2 = _L2()
        always = (*model.parameters(), *model.buffers(), *cache.storage())
        self._always = {_key(tensor) for tensor in always}
        embedding = model.embedding
        self._tables = {_key(t) for t in (*embedding.parameters(), *embedding.buffers())}
        self._vocab_size = model.config.vocab_size
        self._running: list[tuple[list[str], int]] = []

    @contextmanager
    def following(self, model: nn.Module, repeats: Sequence[int]) -> Iterator[None]:
        """Knows which module runs, and for how many layers each block stands."""

        def entering(path: list[str], layers: int) -> Callable[..., None]:
            return lambda *_: self._running.append((path, layers))

        def leaving(*_: object) -> None:
            self._running.pop()

        handles = []
        for name, module in model.named_modules():
            path = name.split(".")
            layers = repeats[int(path[1])] if len(path) > 1 and path[0] == "blocks" else 1
            handles.append(module.register_forward_pre_hook(entering(path, layers)))
            handles.append(module.register_forward_hook(leaving))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def __torch_dispatch__(
        self, func: OpOverload, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        given, results = _tensors((args, kwargs)), _tensors(result)
        own = {_key(tensor) for tensor in given}
        fresh = [tensor for tensor in results if _key(tensor) not in own]
        changed = _changed(func, args, kwargs)
        name = func._schema.name.removeprefix("aten::")
        if (fresh or changed) and name not in _UNTOUCHED:
            path, layers = self._running[-1] if self._running else ([], 1)
            moved = self._moved(name, "out" in kwargs, given, changed, fresh)
            self.found.append(PlannedOp(self._group(path, given, results), name, moved * layers))
        return result

    def _moved(
        self, name: str, has_out: bool, given: list[Tensor], changed: list[Tensor],
        fresh: list[Tensor],
    ) -> float:  # fmt: skip
        overwrites = has_out or name in _OVERWRITES or name in _SCATTERS
        unread = {id(tensor) for tensor in changed} if overwrites else set()
        read = {_place(tensor): tensor for tensor in given if id(tensor) not in unread}
        most_read = _bytes(fresh[0]) if name in _GATHERS else None
        most_written = _bytes(given[-1]) if name in _SCATTERS else None
        return sum(self._touched(name, tensor, most_read) for tensor in read.values()) + sum(
            self._touched(name, tensor, most_written, write=True) for tensor in (*changed, *fresh)
        )

    def _touched(
        self, name: str, tensor: Tensor, most: int | None, *, write: bool = False
    ) -> float:
        is_large = tensor.untyped_storage().nbytes() > L2_BYTES
        if not is_large and _key(tensor) not in self._always:
            return self._l2.touch(tensor, write=write)
        size = _bytes(tensor)
        if most is not None:
            return min(size, most)
        return size * self._expert_share if name in _GROUPED and tensor.ndim == 3 else size

    def _group(self, path: list[str], given: list[Tensor], results: list[Tensor]) -> str:
        for group in _OWN_GROUP:
            if group in path:
                return group
        if "attention" in path:
            return "projections" if path[-1] in ("qkv", "output") else "attention"
        if path and path[0] in ("blocks", "final_norm"):
            return "norms"
        if self._tables.isdisjoint(map(_key, given)):
            return "sampling"
        is_logits = any(tensor.shape[-1] == self._vocab_size for tensor in results)
        return "logits" if is_logits else "self_conditioning"


class _L2:
    """A cache of whole tensors by recency; `touch` returns what device memory has to move."""

    def __init__(self) -> None:
        self._held: OrderedDict[int, tuple[StorageWeakRef, int, bool]] = OrderedDict()

    def touch(self, tensor: Tensor, *, write: bool) -> int:
        storage = tensor.untyped_storage()
        held = self._held.pop(_key(tensor), None)
        reference, dirty = (held[0], held[2]) if held else (StorageWeakRef(storage), False)
        self._held[_key(tensor)] = reference, storage.nbytes(), dirty or write
        return (0 if write or held else _bytes(tensor)) + self._drop()

    def _drop(self) -> int:
        """Written values that no longer fit go to device memory, unless nobody needs them."""
        moved = 0
        for key in [key for key, held in self._held.items() if held[0].expired()]:
            del self._held[key]
        while sum(size for _, size, _ in self._held.values()) > L2_BYTES:
            _, (_, size, dirty) = self._held.popitem(last=False)
            moved += size * dirty
        return moved


def _changed(func: OpOverload, args: Sequence[Any], kwargs: dict[str, Any]) -> list[Tensor]:
    """The arguments that an operation writes to."""
    arguments = func._schema.arguments
    passed = dict(zip((a.name for a in arguments), args, strict=False)) | kwargs
    written = [a.name for a in arguments if a.alias_info is not None and a.alias_info.is_write]
    return _tensors([passed.get(name) for name in written])


def _tensors(tree: object) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _key(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _place(tensor: Tensor) -> tuple[object, ...]:
    return _key(tensor), tensor.storage_offset(), tuple(tensor.shape), tensor.stride()


def _bytes(tensor: Tensor) -> int:
    """Of distinct values: a dimension of stride 0 holds one."""
    sizes = zip(tensor.shape, tensor.stride(), strict=True)
    return prod(size if stride else 1 for size, stride in sizes) * tensor.element_size()
