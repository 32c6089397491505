"""Kinds of forwards, by the names of `model.sampling.Phase`, and what counts as which.

A fused forward writes a finished canvas to the cache and is step 1 of the next canvas at once: in
all that is timed it is a phase of its own, in all that is counted a denoise step and a commit.
"""

from typing import Final

FUSED: Final = "fused"
DENOISING = ("denoise", FUSED)
"""In which a canvas is denoised: a sampler's step each."""
COMMITTING = ("commit", FUSED)
"""In which a finished canvas is written to the cache."""

TIMED = {
    "step_ms": "denoise",
    "commit_ms": "commit",
    "fused_ms": FUSED,
    "prefill_ms": "prefill",
    "decode_ms": "decode",
}
"""Times of a forward (metrics of `points`), each with the phase that it is the median of."""

SEPARATE: Final = "separate"
"""How canvases are committed (`commit_mode` of `points`): in forwards of their own, or FUSED."""
