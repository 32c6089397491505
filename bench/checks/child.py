"""A check's process: a point on standard input, a finding on standard output, as JSON."""

import json
import os
import sys
from dataclasses import asdict
from typing import Any

import torch

from bench.checks import Finding
from bench.compose import restore_point
from bench.worker import die_with_parent


def main() -> None:
    """Runs the check named on the command line."""
    die_with_parent()
    # The finding keeps the pipe to itself: what libraries print goes to the log.
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    described: dict[str, Any] = json.loads(sys.stdin.read())
    point = restore_point(**described)
    torch.set_num_threads(point.config.threads or os.cpu_count() or 1)
    json.dump(asdict(_find(sys.argv[1], point.config)), replies)
    replies.flush()


def _find(name: str, config: Any) -> Finding:
    if name == "graph_equals_eager":
        from bench.checks.graph_equals_eager import check
    else:
        from bench.checks.op_groups import check
    return check(config)


if __name__ == "__main__":
    main()
