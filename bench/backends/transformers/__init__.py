"""The upstream implementation, `transformers`, behind the backend protocol: a baseline.

Its package is imported by `session` alone, which `bench.build` imports only when it is asked for.
"""

from bench.backends.transformers.config import INSTALL, TransformersConfig

__all__ = ["INSTALL", "TransformersConfig"]
