"""A server's own counters, read before and after a run: steps and canvases of all its requests.

vLLM counts a commit's forward as a denoising step and whole canvases as committed, whatever an EOS
or the limit cut off: canvases = committed / C, denoise steps = steps - canvases. An autoregressive
server has no such series.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

STEPS = "vllm:diffusion_num_denoising_steps_total"
POSITIONS = "vllm:diffusion_num_canvas_positions_total"
COMMITTED = "vllm:diffusion_num_committed_tokens_total"
GENERATED = "vllm:generation_tokens_total"

_SAMPLE = re.compile(
    r"^(?P<name>[a-zA-Z_:][\w:]*)(?:\{(?P<labels>.*)\})?\s+(?P<value>\S+)(?:\s+-?\d+)?$"
)
_LABEL = re.compile(r'(?P<name>[a-zA-Z_]\w*)="(?P<value>(?:[^"\\]|\\.)*)"')


def totals(exposition: str, model: str | None = None) -> dict[str, float]:
    """Every series' sum over its labels, from Prometheus' text format.

    Args:
        model: leave out samples whose `model_name` is another.

    Raises:
        ValueError: a line that is no sample.
    """
    found: dict[str, float] = {}
    for name, labels, value in _samples(exposition):
        if model is None or labels.get("model_name", model) == model:
            found[name] = found.get(name, 0.0) + value
    return found


def _samples(exposition: str) -> Iterator[tuple[str, dict[str, str], float]]:
    for line in map(str.strip, exposition.splitlines()):
        if not line or line.startswith("#"):
            continue
        sample = _SAMPLE.match(line)
        if sample is None:
            raise ValueError(f"metrics line {line[:80]!r} is no sample")
        labels = {
            label["name"]: label["value"] for label in _LABEL.finditer(sample["labels"] or "")
        }
        try:
            yield sample["name"], labels, float(sample["value"])
        except ValueError:
            raise ValueError(f"metrics line {line[:80]!r} has no number") from None


@dataclass(frozen=True, slots=True)
class ServerWork:
    """What a server did between two readings, all its requests together.

    Attributes:
        canvases, denoise_steps: None where they cannot be told; `reason` then says why, but of an
            autoregressive server, which has none.
        generated_tokens: as the server counts tokens of answers, None where it does not.
    """

    canvases: int | None
    denoise_steps: int | None
    reason: str | None
    generated_tokens: int | None = None

    @property
    def steps_per_canvas(self) -> float | None:
        """Mean denoise steps a canvas, commits left out."""
        if not self.canvases or self.denoise_steps is None:
            return None
        return self.denoise_steps / self.canvases


def server_work(
    before: Mapping[str, float], after: Mapping[str, float], canvas_length: int | None
) -> ServerWork:
    """Steps and canvases from two readings of `totals`; of an autoregressive server its tokens."""
    generated = _difference(before, after, GENERATED)
    tokens = None if generated is None else int(generated)
    if canvas_length is None:
        return ServerWork(None, None, None, tokens)
    steps, positions, committed = (
        _difference(before, after, name) for name in (STEPS, POSITIONS, COMMITTED)
    )
    if steps is None or positions is None or committed is None:
        return ServerWork(None, None, "no_diffusion_counters", tokens)
    if min(steps, positions, committed) < 0:
        return ServerWork(None, None, "counters_went_back", tokens)
    if committed % canvas_length or not math.isclose(positions, steps * canvas_length):
        return ServerWork(None, None, "counters_do_not_fit_the_canvas_length", tokens)
    canvases = int(committed / canvas_length)
    if steps < canvases:
        return ServerWork(None, None, "fewer_forwards_than_canvases", tokens)
    return ServerWork(canvases, int(steps) - canvases, None, tokens)


def _difference(before: Mapping[str, float], after: Mapping[str, float], name: str) -> float | None:
    """A counter's growth; one that has not counted yet may not be there."""
    return after[name] - before.get(name, 0.0) if name in after else None


def contradicts(
    work: ServerWork,
    *,
    canvases: int | None,
    tokens: int | None,
    max_denoising_steps: int | None,
    forced: bool,
) -> list[str]:
    """What the server's counters hold against a run, as reasons; empty when nothing.

    Args:
        canvases, tokens: as the client counted them, None where it could not.
        max_denoising_steps: the step cap the server is said to have, None for unknown.
        forced: whether every canvas is to take exactly so many steps.
    """
    reasons = []
    if canvases is not None and work.canvases is not None and work.canvases != canvases:
        reasons.append("canvases_differ_from_the_servers")
    if tokens is not None and work.generated_tokens not in (None, tokens):
        reasons.append("tokens_differ_from_the_servers")
    mean = work.steps_per_canvas
    if mean is None or max_denoising_steps is None:
        return reasons
    if mean > max_denoising_steps:
        reasons.append("max_denoising_steps_without_effect")
    elif forced and mean != max_denoising_steps:
        reasons.append("early_stop_without_effect")
    return reasons
