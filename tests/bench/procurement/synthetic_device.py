"""A device whose truth is known: throughput and power by batch in closed form, campaigns by a seed.

A step streams weights (an autoregressive one those of the experts its tokens touch) and computes;
the longer of the two decides, with a smooth passage from one to the other. A process is quicker or
slower as a whole, each of its points a little more so, and single requests scatter with a long
tail, as measured processes do.
"""

from dataclasses import dataclass, replace

import numpy as np

from bench.procurement.cell import NumberClass
from bench.procurement.curves import Curve, Metric
from bench.stats import process_means

CANVAS, STEPS = 256, 16


@dataclass(frozen=True, slots=True)
class SyntheticDevice:
    """Times in milliseconds, power in watts.

    Attributes:
        process_sd, point_sd, request_sd: of logarithms, between processes, between the points of
            one, and between the requests of a point.
    """

    canvas_stream_ms: float = 9.5
    canvas_compute_ms: float = 2.6
    token_fixed_ms: float = 1.1
    token_experts_ms: float = 5.6
    token_compute_ms: float = 0.02
    idle_w: float = 250.0
    limit_w: float = 700.0
    process_sd: float = 0.015
    point_sd: float = 0.008
    request_sd: float = 0.03

    def rate(self, decoding: str, batch: float) -> float:
        """True tokens a second of the batch."""
        if decoding == "diffusion":
            compute = self.canvas_compute_ms * batch
            step_ms = (self.canvas_stream_ms**4 + compute**4) ** 0.25
            return 1e3 * batch * CANVAS / ((STEPS + 1) * step_ms)
        touched = 1 - (1 - 8 / 128) ** batch
        step_ms = self.token_fixed_ms + self.token_experts_ms * touched
        return 1e3 * batch / (step_ms + self.token_compute_ms * batch)

    def joules_per_token(self, decoding: str, batch: float) -> float:
        """True energy of a token; a batch draws the more power the larger it is."""
        load = batch / (batch + (0.1 if decoding == "diffusion" else 6.0))
        return (self.idle_w + (self.limit_w - self.idle_w) * load) / self.rate(decoding, batch)

    def value(self, decoding: str, metric: Metric, batch: float) -> float:
        if metric == "delivered_tok_per_s":
            return self.rate(decoding, batch)
        return self.joules_per_token(decoding, batch)

    def crossing(self, metric: Metric, low: float, high: float) -> float:
        """The true batch at which the autoregressive sibling overtakes, by bisection."""
        sign = 1 if metric == "delivered_tok_per_s" else -1

        def lead(batch: float) -> float:
            values = (self.value(d, metric, batch) for d in ("autoregressive", "diffusion"))
            own, other = values
            return sign * (own - other)

        assert lead(low) < 0 < lead(high)
        for _ in range(60):
            middle = (low * high) ** 0.5
            low, high = (middle, high) if lead(middle) < 0 else (low, middle)
        return low


def campaign(
    device: SyntheticDevice,
    metric: Metric,
    *,
    batch_sizes: tuple[int, ...],
    processes: int,
    seed: int,
    requests: int = 8,
) -> tuple[Curve, Curve]:
    """What a few processes a sibling would have measured: the diffusion curve and the other."""
    rng = np.random.default_rng(seed)
    curves = []
    for decoding in ("diffusion", "autoregressive"):
        truth = np.array([device.value(decoding, metric, batch) for batch in batch_sizes])
        shape = (processes, len(batch_sizes))
        quick = rng.normal(0, device.process_sd, (processes, 1))
        quick = quick + rng.normal(0, device.point_sd, shape)
        spread = rng.exponential(device.request_sd, (*shape, requests)) - device.request_sd
        seconds = np.exp(spread) / (truth * np.exp(quick))[..., None]
        ids = np.repeat(np.arange(seconds[..., 0].size), requests)
        _, means = process_means(np.ones(ids.size), seconds.ravel(), ids)
        curves.append(
            Curve(
                decoding=decoding,
                metric=metric,
                kind=NumberClass.MEASURED,
                device="synthetic",
                precision="fp8",
                prompt_tokens=1024,
                reply_tokens=1024,
                steps=float(STEPS) if decoding == "diffusion" else None,
                batch_sizes=batch_sizes,
                values=tuple(map(tuple, means.reshape(shape).tolist())),
            )
        )
    return curves[0], curves[1]


def quiet(device: SyntheticDevice) -> SyntheticDevice:
    """The same device without any scatter."""
    return replace(device, process_sd=0.0, point_sd=0.0, request_sd=0.0)
