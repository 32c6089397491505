"""Kernel tests run in a process of their own, whose triton interprets: test_in_interpreter.py.

Where it compiles instead, that needs a triton that does not interpret.
"""

import os
from pathlib import Path

_PLAIN = {"test_in_interpreter.py", "test_shipped_tiles.py", "test_vocabulary_launches.py"}
_TESTS = {path.name for path in Path(__file__).parent.glob("test_*.py")} - _PLAIN

collect_ignore = sorted(_PLAIN if os.environ.get("TRITON_INTERPRET") == "1" else _TESTS)
