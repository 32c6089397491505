"""Kernel tests run in a process of their own, whose triton interprets: test_in_interpreter.py."""

import os
from pathlib import Path

_RUNNER = "test_in_interpreter.py"
_TESTS = {path.name for path in Path(__file__).parent.glob("test_*.py")} - {_RUNNER}

collect_ignore = [_RUNNER] if os.environ.get("TRITON_INTERPRET") == "1" else sorted(_TESTS)
