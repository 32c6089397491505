"""`execution=cuda_graph`: a whole step captured once and replayed, so the host issues one launch.

A graph belongs to what it was captured with: the cache and the rotary tables, which it reads in
place, are part of its key; everything else is copied into the graph's own inputs before a replay
and out of its outputs after it. How long the prefix is stands in the cache, on the device, so one
graph a step (denoise, commit, both fused, decode) serves every canvas of every request. Another
batch size, early stop switched on or off, or another cache is another graph; the loop keeps its
cache, and replaces it only for a request that is longer than any before
(`model.kv_cache.SpareCache`).
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any, ParamSpec, TypeVar, cast

import torch
from torch import Tensor, nn

from model.transformer import AnyPrefix, Pass

_P = ParamSpec("_P")
_R = TypeVar("_R")
_MAX_GRAPHS = 16  # a step; the least recently used one goes


class CudaGraphs:
    """Captures the step functions of one model.

    Raises:
        ValueError: the model is not on a CUDA device.
    """

    fixed_shapes = True

    def __init__(self, device: torch.device) -> None:
        if device.type != "cuda":
            raise ValueError(
                f"execution 'cuda_graph' needs a CUDA device, not {device.type}; "
                "valid here: eager, compiled"
            )
        self._steps: dict[object, Callable[..., Any]] = {}
        # One pool for all: graphs replay one after the other and results are copied out at once.
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, step: Callable[_P, _R], kind: Pass, /) -> Callable[_P, _R]:
        if step not in self._steps:
            self._steps[step] = _Captured(step, self._pool)
        return cast(Callable[_P, _R], self._steps[step])


class _Captured:
    """A step function that captures a graph for each new key and replays it from then on."""

    def __init__(self, step: Callable[..., Any], pool: Any) -> None:
        self._step = step
        self._pool = pool
        self._graphs: OrderedDict[Hashable, _Graph] = OrderedDict()

    def __call__(self, *args: Any) -> Any:
        key = tuple(_key(argument) for argument in args)
        graph = self._graphs.get(key)
        if graph is None:
            if len(self._graphs) >= _MAX_GRAPHS:
                self._graphs.popitem(last=False)
            graph = self._graphs[key] = _Graph(self._step, args, self._pool)
        self._graphs.move_to_end(key)
        return graph.replay(args)


class _Graph:
    """One captured step with its own inputs and outputs."""

    def __init__(self, step: Callable[..., Any], args: tuple[Any, ...], pool: Any) -> None:
        self._inputs = [tensor.clone() for tensor in _tensors(args)]
        inputs = iter(self._inputs)
        own = _replace(args, lambda _: next(inputs))
        # A first run outside the capture: libraries allocate and kernels compile in it.
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            step(*own)
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, pool=pool):
            self._result = step(*own)
        self._outputs = list(_tensors(self._result))

    def replay(self, args: tuple[Any, ...]) -> Any:
        _copy(self._inputs, list(_tensors(args)))
        self._graph.replay()
        results = [torch.empty_like(tensor) for tensor in self._outputs]
        _copy(results, self._outputs)
        copies = iter(results)
        return _replace(self._result, lambda _: next(copies))


def _copy(targets: list[Tensor], sources: list[Tensor]) -> None:
    """One launch a dtype."""
    by_dtype: dict[torch.dtype, tuple[list[Tensor], list[Tensor]]] = {}
    for target, source in zip(targets, sources, strict=True):
        group = by_dtype.setdefault(target.dtype, ([], []))
        group[0].append(target)
        group[1].append(source)
    for target_group, source_group in by_dtype.values():
        torch._foreach_copy_(target_group, source_group)


def _in_place(value: Any) -> bool:
    return isinstance(value, nn.Module | AnyPrefix)


def _children(value: Any) -> Iterator[tuple[str, Any]]:
    """What of a value may hold tensors to be copied, by field, key or index."""
    if is_dataclass(value) and not isinstance(value, type):
        yield from ((field.name, getattr(value, field.name)) for field in fields(value))
    elif isinstance(value, dict):
        yield from value.items()
    elif isinstance(value, tuple | list):
        yield from ((str(index), item) for index, item in enumerate(value))


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif not _in_place(value):
        for _, child in _children(value):
            yield from _tensors(child)


def _replace(value: Any, new: Callable[[Tensor], Tensor]) -> Any:
    """The same structure with other tensors, in the order of `_tensors`."""
    if isinstance(value, Tensor):
        return new(value)
    if _in_place(value):
        return value
    if isinstance(value, dict):
        return {name: _replace(child, new) for name, child in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(_replace(child, new) for child in value)
    if is_dataclass(value) and not isinstance(value, type):
        return type(value)(**{name: _replace(child, new) for name, child in _children(value)})
    return value


def _key(value: Any) -> Hashable:
    """What is read in place by its identity, what is copied by its shape, all else by value."""
    if isinstance(value, Tensor):
        return tuple(value.shape), value.dtype
    if isinstance(value, nn.Module):
        return id(value)
    if isinstance(value, AnyPrefix):
        tables = (table for pair in value.tables.values() for table in pair)
        return value.cache.identity, *((table.data_ptr(), table.shape) for table in tables)
    children = list(_children(value))
    if children or is_dataclass(value) or isinstance(value, tuple | list | dict):
        return type(value).__name__, tuple((name, _key(child)) for name, child in children)
    return value if isinstance(value, Hashable) else id(value)
