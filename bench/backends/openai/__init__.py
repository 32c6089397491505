"""Any OpenAI-compatible server behind HTTP: what it says, when it arrives, and what that is worth.

The HTTP library is imported by `client`, `judge`, `network`, `session` and `hello` alone.
"""

from bench.backends.openai.config import TIMED, OpenAiConfig

__all__ = ["TIMED", "OpenAiConfig"]
