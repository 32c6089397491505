"""The simulated backend in plain types, and the session they describe."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields

from bench.backends import Backend, BackendConfig
from bench.backends.simulated.clocks import Clock, RealClock, VirtualClock
from bench.backends.simulated.faults import (
    Crash,
    EmptyAnswers,
    Fault,
    ForeignProcess,
    Hang,
    InertKnob,
    NonFiniteEntropy,
    SlowShare,
    SlowSteps,
    Throttle,
    TruncatedAnswers,
    UnbalancedLedger,
)
from bench.backends.simulated.pace import ChosenTiming, process_factor
from bench.backends.simulated.recording import Recording
from bench.backends.simulated.runs import read_recording
from bench.backends.simulated.session import Knobs, SimulatedSession
from bench.backends.simulated.synthetic import Asked, SyntheticConfig, make_recording

CLOCKS: dict[str, type[RealClock] | type[VirtualClock]] = {
    "real": RealClock,
    "virtual": VirtualClock,
}
FAULTS: dict[str, type[Fault]] = {
    "slow_steps": SlowSteps,
    "slow_share": SlowShare,
    "throttle": Throttle,
    "foreign_process": ForeignProcess,
    "non_finite_entropy": NonFiniteEntropy,
    "unbalanced_ledger": UnbalancedLedger,
    "inert_knob": InertKnob,
    "empty_answers": EmptyAnswers,
    "truncated_answers": TruncatedAnswers,
    "crash": Crash,
    "hang": Hang,
}
TIMINGS = ("recorded", "chosen")


@dataclass(kw_only=True, slots=True)
class FaultConfig:
    """One fault: its kind and the parameters that `bench.backends.simulated.faults` gives it.

    Attributes:
        kind: a name of `FAULTS`.
        point, process_id: the only point and the only process that have it; null for all.
    """

    kind: str
    point: str | None = None
    process_id: int | None = None
    request: int | None = None
    request_id: int | None = None
    step: int | None = None
    index: int | None = None
    num_requests: int | None = None
    slots: int | None = None
    factor: float | None = None
    share: float | None = None
    seconds: float | None = None
    knob: str | None = None
    how: str | None = None
    reason: str | None = None
    marker: str | None = None

    def fault(self) -> Fault:
        """The fault described.

        Raises:
            ValueError: an unknown kind, a parameter it does not have, or one it lacks.
        """
        if self.kind not in FAULTS:
            raise ValueError(f"fault {self.kind!r} is unknown; valid: {', '.join(FAULTS)}")
        made = FAULTS[self.kind]
        valid = ", ".join(f.name for f in fields(made))
        given = {
            f.name: value
            for f in fields(self)
            if f.name not in ("kind", "point", "process_id")
            and (value := getattr(self, f.name)) is not None
        }
        try:
            return made(**given)
        except TypeError:
            raise ValueError(
                f"fault {self.kind} was given {', '.join(given) or 'nothing'}; "
                f"its parameters: {valid}"
            ) from None


@dataclass(kw_only=True, slots=True)
class TimingConfig:
    """How long forwards take.

    Attributes:
        source: recorded | chosen. Recorded times are a synthetic recording's own constants, or
            those of the run; the rest of these knobs belongs to chosen ones.
        request_ms: host time of a batch beside its forwards.
        distribution, spread: see `ChosenTiming`.
        process_spread: standard deviation of the logarithm of a process's own factor.
    """

    source: str = "recorded"
    prefill_ms: float = 10.0
    step_ms: float = 10.0
    commit_ms: float = 10.0
    fused_ms: float = 10.0
    decode_ms: float = 10.0
    request_ms: float = 0.0
    distribution: str = "constant"
    spread: float = 0.0
    process_spread: float = 0.0

    def __post_init__(self) -> None:
        if self.source not in TIMINGS:
            raise ValueError(f"timing.source is {self.source!r}; valid: {', '.join(TIMINGS)}")
        if self.process_spread < 0:
            raise ValueError(f"timing.process_spread is {self.process_spread}; it must be >= 0")

    def timing(self, process_id: int, seed: int) -> ChosenTiming | None:
        """The chosen timing of a process, None where the recording says it."""
        if self.source == "recorded":
            return None
        return ChosenTiming(
            prefill_s=self.prefill_ms / 1e3,
            denoise_s=self.step_ms / 1e3,
            commit_s=self.commit_ms / 1e3,
            fused_s=self.fused_ms / 1e3,
            decode_s=self.decode_ms / 1e3,
            request_s=self.request_ms / 1e3,
            distribution=self.distribution,
            spread=self.spread,
            process_factor=process_factor(self.process_spread, process_id, seed),
        )


@dataclass(kw_only=True, slots=True)
class SimulatedConfig(BackendConfig):
    """What to play, how fast, and what goes wrong.

    Attributes:
        run: a run folder to replay; null plays `synthetic`.
        point: the run's point to replay; null for that of the same name, or the run's only one.
        clock: real | virtual; virtual time is exact and free, but timeouts know nothing of it, and
            its telemetry is a made-up device's.
    """

    name: Backend = Backend.simulated
    run: str | None = None
    point: str | None = None
    synthetic: SyntheticConfig = field(default_factory=SyntheticConfig)
    timing: TimingConfig = field(default_factory=TimingConfig)
    faults: list[FaultConfig] = field(default_factory=list)
    clock: str = "real"

    def __post_init__(self) -> None:
        if self.clock not in CLOCKS:
            raise ValueError(f"clock is {self.clock!r}; valid: {', '.join(CLOCKS)}")


def simulated_session(
    config: SimulatedConfig,
    *,
    model: str = "synthetic",
    decoding: str = "diffusion",
    point_id: str | None = None,
    prompts: Sequence[Asked] | None = None,
    knobs: Knobs | None = None,
    clock: Clock | None = None,
) -> SimulatedSession:
    """A session as configured.

    Args:
        model, decoding: what a synthetic recording claims to be; a run says it itself.
        point_id: of the point that is measured; chooses the point to replay and its faults.
        prompts: what a synthetic recording answers, such as a workload's; null makes some up.
        knobs: null takes those of the recording.
        clock: instead of the configured kind, so that several sessions can share one.

    Raises:
        ValueError: no such run or point, one of another decoding or with other commits, or a value
            out of range.
    """
    seed, process_id = (knobs.seed, knobs.process_id) if knobs else (0, 0)
    recording = _recording(config, model, decoding, point_id, prompts, seed)
    if config.run is not None and recording.decoding != decoding:
        raise ValueError(
            f"run {config.run} holds a recording of a model that is {recording.decoding}; "
            f"{decoding} was asked for"
        )
    recorded = recording.fused_commit
    if config.timing.source == "recorded" and knobs and recorded not in (None, knobs.fused_commit):
        raise ValueError(
            f"run {config.run} was recorded with commit={'fused' if recorded else 'separate'} and "
            "has no times of other commits; valid: the same, or backend.timing.source=chosen"
        )
    return SimulatedSession(
        recording,
        config.timing.timing(process_id, seed),
        [
            fault.fault()
            for fault in config.faults
            if fault.point in (None, point_id) and fault.process_id in (None, process_id)
        ],
        knobs=knobs,
        clock=clock or CLOCKS[config.clock](),
    )


def _recording(
    config: SimulatedConfig,
    model: str,
    decoding: str,
    point_id: str | None,
    prompts: Sequence[Asked] | None,
    seed: int,
) -> Recording:
    if config.run is None:
        return make_recording(
            config.synthetic, decoding=decoding, model=model, prompts=prompts, seed=seed
        )
    return read_recording(config.run, config.point or point_id)
