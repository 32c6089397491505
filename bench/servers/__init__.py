"""Servers that a run starts for itself: vLLM, SGLang, llama.cpp, transformers, or any command."""

from bench.servers.config import TAKES_STEPS, Engine, LaunchConfig
from bench.servers.process import Running, ServerFailedError, launched

__all__ = ["TAKES_STEPS", "Engine", "LaunchConfig", "Running", "ServerFailedError", "launched"]
