"""Any OpenAI-compatible server behind HTTP: what it says, when it arrives, and what that is worth.

The HTTP library is imported by `client`, `judge`, `network` and `session` alone.
"""

from bench.backends.openai.config import OpenAiConfig

__all__ = ["OpenAiConfig"]
