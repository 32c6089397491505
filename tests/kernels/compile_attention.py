"""`python -m tests.kernels.compile_attention`: attention kernels for sm_90a at the model's sizes.

Prints registers, spills and shared memory of each; fails on a default that spills. `--all` compiles
the candidates of `tests.gpu.time_attention` too.
"""

import sys
import time
from collections.abc import Iterator

import torch

from tests.gpu.attention_cases import CANDIDATES, SHAPES, inputs
from tests.kernels.compile_sm90 import SHARED_LIMIT, compile_only, inspect


def calls(every: bool) -> Iterator[tuple[str, bool, tuple]]:
    for shape in SHAPES:
        q, k, v, sight = inputs(shape, torch.device("cpu"))
        yield shape.name, True, (q[0], k[0], v[0], sight, None)
        for label, tiles in CANDIDATES[shape.kind] if every else ():
            yield f"{shape.name} {label}", False, (q[0], k[0], v[0], sight, tiles)


def main() -> int:
    from model.kernels.attention import attention, attention_quantised

    failures = 0
    seen: set[str] = set()
    with compile_only() as compiled:
        for label, is_default, (q, k, v, sight, tiles) in calls("--all" in sys.argv):
            compiled.clear()
            begin = time.monotonic()
            try:
                attention(q, k, v, sight=sight, tiles=tiles)
                attention_quantised(q, k, v, sight=sight, tiles=tiles)
            except Exception as error:
                print(f"{label:40} FAILED {str(error)[:200]}", flush=True)
                failures += is_default
            for kernel in compiled:
                if kernel.hash in seen:
                    continue
                seen.add(kernel.hash)
                one = inspect(kernel)
                bad = one.spills > 0 or one.shared > SHARED_LIMIT
                failures += bad and is_default
                print(
                    f"{label:40} {one.name:20} regs {one.registers:3} spills {one.spills:3} "
                    f"smem {one.shared:6} {' '.join(one.products)}{'  BAD' if bad else ''}"
                    f" {time.monotonic() - begin:.1f} s",
                    flush=True,
                )
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
