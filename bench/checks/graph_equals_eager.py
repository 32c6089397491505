"""Whether steps that are captured or compiled generate what the same steps give when just called.

The same loaded model answers the point's first prompt twice, once through its wrapper and once
without it. A captured graph runs the same kernels on the same numbers, so tokens and every
position's trace must be equal; a compiled step rounds differently, so its tokens alone must be.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

import model as engine
from bench.backends import Delivery
from bench.backends.native import NativeSession
from bench.build import build_sessions, build_workload
from bench.checks import Finding
from bench.schema import RunConfig
from model.transformer import StepWrapper, Unwrapped

_NEW_TOKENS_A_CANVAS, _CANVASES, _DECODED = 1, 2, 32


def check(config: RunConfig) -> Finding:
    """Compares the point's execution with none."""
    if config.execution.name == "eager":
        return Finding(None, "execution is eager: there is nothing to compare")
    (session,) = build_sessions(["check"], [config], 0)
    assert isinstance(session, NativeSession)
    canvas = session.identity.canvas_length
    limit = _DECODED if canvas is None else (_CANVASES - 1) * canvas + _NEW_TOKENS_A_CANVAS
    session = replace(session, trace=engine.TraceLevel.POSITIONS, max_new_tokens=limit)
    prompt = build_workload(config).prompts[0].ids(session.encode)
    loaded = session.loaded.model
    wrapped = [_answer(session, prompt) for _ in range(2)][-1]  # the second one replays
    loaded.wrap_step = _bare(loaded.wrap_step)
    bare = _answer(session, prompt)
    same_tokens = all(np.array_equal(a, b) for a, b in zip(wrapped[0], bare[0], strict=True))
    largest = max(
        (float(np.abs(a - b).max()) for a, b in zip(wrapped[1], bare[1], strict=True)), default=0.0
    )
    exact = config.execution.name == "cuda_graph"
    passed = same_tokens and (largest == 0 or not exact)
    return Finding(
        passed,
        f"{config.execution.name} against the same steps called: tokens "
        f"{'equal' if same_tokens else 'differ'}, largest difference of "
        f"{'entropies (nat)' if canvas else 'scores'} {largest:g}",
    )


def _bare(wrapper: StepWrapper) -> StepWrapper:
    """Steps as they are, in the shapes the wrapper asked for."""
    bare = Unwrapped()
    bare.fixed_shapes = wrapper.fixed_shapes
    return bare


def _answer(session: NativeSession, prompt: list[int]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """What was decided at every step, and the numbers behind it."""
    decided, numbers = [], []
    for event in _deliveries(session, prompt):
        decided.append(np.asarray(event.rows[0].slots))
        if event.trace is not None:
            assert event.trace.accepted is not None
            assert event.trace.argmax is not None
            assert event.trace.entropy_nat is not None
            decided += [event.trace.accepted, event.trace.argmax]
            numbers.append(event.trace.entropy_nat)
        if event.top_score is not None:
            numbers.append(event.top_score)
    return decided, numbers


def _deliveries(session: NativeSession, prompt: list[int]) -> Iterator[Delivery]:
    return (e for e in session.answer([prompt], [0]) if isinstance(e, Delivery))
