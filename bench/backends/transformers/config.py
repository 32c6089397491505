"""The upstream implementation's knobs and which points it can run; imports neither it nor torch."""

from dataclasses import dataclass
from enum import Enum
from importlib.util import find_spec

from bench.backends import Backend, BackendConfig

# Member names are what a user types and what transformers calls them.
Experts = Enum("Experts", ["grouped_mm", "batched_mm", "eager"])
Attention = Enum("Attention", ["sdpa", "eager"])
Cache = Enum("Cache", ["dynamic", "static"])

INSTALL = "pip install 'canvasbench[transformers]'"


@dataclass(kw_only=True, slots=True)
class TransformersConfig(BackendConfig):
    """How transformers runs a model. Our engine's `kernels` and `execution` do not apply to it.

    Attributes:
        experts, attention: implementations by transformers' own names.
        cache: dynamic grows with the text; static has its final size from the start.
        compiled: what transformers compiles by itself: decoder, later encoder passes and sampler,
            or the autoregressive forward; needs a static cache.
    """

    name: Backend = Backend.transformers
    experts: Experts = Experts.grouped_mm
    attention: Attention = Attention.sdpa
    cache: Cache = Cache.dynamic
    compiled: bool = False

    def __post_init__(self) -> None:
        if self.compiled and self.cache is not Cache.static:
            raise ValueError(
                f"backend.compiled=true has no effect with backend.cache={self.cache.name}; "
                "valid: backend.cache=static"
            )

    def check(
        self, *, precision: str, decoding: str, device: str, batch_size: int, early_stop: bool
    ) -> None:
        """Refuses a point that transformers cannot run or would not tell enough about.

        Raises:
            ValueError: the reason and what is valid; or that the package is not installed.
        """
        if precision == "fp8":
            raise ValueError(
                "precision fp8 is not to be had with backend=transformers: it takes fp8 weights "
                "from quantised checkpoints only and runs this architecture's experts in bf16; "
                "valid: fp32, bf16"
            )
        if self.compiled and decoding == "autoregressive" and device == "cpu":
            raise ValueError(
                "backend.compiled=true has no effect on an autoregressive model with device=cpu, "
                "which transformers does not compile there; valid: backend.compiled=false"
            )
        if self.compiled and decoding == "diffusion" and self.experts is Experts.eager:
            raise ValueError(
                "backend.compiled=true does not go with backend.experts=eager, whose loop over "
                "experts transformers cannot compile; valid: grouped_mm, batched_mm"
            )
        if batch_size > 1 and decoding == "diffusion" and early_stop:
            raise ValueError(
                f"batch_size {batch_size} with backend=transformers needs sampler=forced or "
                "sampler.early_stop=false: it does not tell the rows' own steps of a canvas"
            )
        if find_spec("transformers") is None:
            raise ValueError(f"backend=transformers needs a package that is missing: {INSTALL}")
