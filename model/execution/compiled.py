"""`execution=compiled`: the sampler's whole step as one torch.compile graph.

Shapes of the canvas are static, the prefix's length is not: what grows with it is marked so, and
one graph serves every canvas of every request. A second one is built when a sliding layer's ring
first comes round, as until then new keys follow the cached ones and sliding and full layers hold
equally many; another batch size, left padding, number of threads, or early stop switched on or off
builds one too. The first step of a canvas that also commits the one before it is not compiled.

On a processor inductor is asked for its C++ wrapper, since Python between small kernels costs as
much as they do. Tried on the tiny model and left out for being slower than MKL's matrix products:
freezing (prepacked weights) and max_autotune (inductor's own products).
"""

import warnings
from collections.abc import Callable
from types import FunctionType
from typing import Any, ParamSpec, TypeVar, cast

import torch

from model.diffusion import FinishedCanvas
from model.transformer import Pass, Surroundings

_P = ParamSpec("_P")
_R = TypeVar("_R")


class Compiled:
    """Compiles the step functions of one model, each at its first call.

    Raises:
        ValueError: the model is on a processor and inductor finds no C++ compiler.
    """

    fixed_shapes = False

    def __init__(self, device: torch.device) -> None:
        self._options: dict[str, Any] = {
            # Nothing changes a loaded model, and no other model shares its graphs (see `_wrap`).
            "guard_filter_fn": torch.compiler.skip_guard_on_all_nn_modules_unsafe
        }
        if device.type == "cpu":
            _require_cxx()
            self._options["cpp_wrapper"] = True
        self._wrapped: dict[object, Callable[..., Any]] = {}

    def __call__(self, step: Callable[_P, _R], kind: Pass, /) -> Callable[_P, _R]:
        if kind != "denoise":
            return step
        if step not in self._wrapped:
            self._wrapped[step] = self._wrap(step)
        return cast(Callable[_P, _R], self._wrapped[step])

    def _wrap(self, step: Callable[_P, _R]) -> Callable[_P, _R]:
        assert isinstance(step, FunctionType)
        # Dynamo keeps graphs by code object; a copy of it keeps those of two models apart.
        own = FunctionType(step.__code__.replace(), step.__globals__, step.__name__)
        compiled = torch.compile(own, dynamic=False, fullgraph=True, options=dict(self._options))
        marked: Surroundings | None = None

        def run(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            nonlocal marked
            # Both parts of a fused pass write through views of one buffer: no graph takes that.
            if any(isinstance(argument, FinishedCanvas) for argument in args):
                return step(*args, **kwargs)
            for argument in args:
                if isinstance(argument, Surroundings) and argument is not marked:
                    for tensor, dimension in argument.growing():
                        torch._dynamo.mark_dynamic(tensor, dimension)
                    marked = argument
            return compiled(*args, **kwargs)

        # Constants that functions keep in an lru_cache are recomputed in the graph, by design.
        warnings.filterwarnings("ignore", message="(?s)Dynamo detected a call to a `functools.lru")
        return run


def _require_cxx() -> None:
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler as error:
        raise ValueError(
            "execution 'compiled' needs a C++ compiler and none was found; "
            "install g++, set CXX to one, or use execution=eager"
        ) from error
