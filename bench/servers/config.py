"""Which server a run starts for itself, and how; imports neither torch nor an HTTP client."""

from dataclasses import dataclass, field
from enum import Enum

from bench.redact import redact

# Member names are what a user types.
Engine = Enum("Engine", ["none", "transformers", "vllm", "sglang", "llama_cpp", "command"])

PORT = "{port}"
"""What `args` of engine=command have where the port goes."""

TAKES_STEPS = (Engine.transformers, Engine.vllm)
"""Engines that are told a canvas's steps when they are started."""

_SECRET_FLAGS = ("--api-key", "--admin-api-key", "--hf-token")


@dataclass(kw_only=True, slots=True)
class LaunchConfig:
    """A server on 127.0.0.1 that is started before the first request and stopped after the last.

    It inherits this process's environment: that is where its keys and its devices are named.

    Attributes:
        engine: what is started; command is whatever `args` say, none starts nothing.
        model: a checkpoint folder (llama_cpp: a GGUF file), or a name that the engine itself looks
            up; null for the point's own.
        executable: the Python of the engine's environment (llama_cpp: the server itself), null for
            this one (llama_cpp: the llama-server on the path).
        args: further arguments as one would type them; for command all of them, the program first,
            with {port} where the port goes.
        port: 0 takes a free one.
        max_denoising_steps: the step cap of a diffusion model, null to leave it to the checkpoint.
        early_stop: false makes every canvas take all of these steps, whatever is on it.
        ready_s: seconds until it must answer: loading and compiling included.
        stop_s: seconds that it is given to end by itself.

    Raises:
        ValueError: a value out of range, or arguments that no run may have.
    """

    engine: Engine = Engine.none
    model: str | None = None
    executable: str | None = None
    args: list[str] = field(default_factory=list)
    port: int = 0
    max_denoising_steps: int | None = None
    early_stop: bool = True
    ready_s: float = 1800.0
    stop_s: float = 5.0

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65_535:
            raise ValueError(f"backend.launch.port is {self.port}; valid: 0 (a free one) to 65535")
        for name in ("ready_s", "stop_s"):
            value = getattr(self, name)
            if value <= 0:
                raise ValueError(f"backend.launch.{name} is {value}; it must be > 0")
        steps = self.max_denoising_steps
        if steps is not None and steps < 1:
            raise ValueError(f"backend.launch.max_denoising_steps is {steps}; it must be >= 1")
        self._check_forcing()
        self._check_arguments()

    def _check_forcing(self) -> None:
        steps, engine = self.max_denoising_steps, self.engine
        if steps is None and not self.early_stop:
            raise ValueError(
                "backend.launch.early_stop=false needs backend.launch.max_denoising_steps, the "
                "steps that every canvas is to take"
            )
        if steps is not None and engine not in TAKES_STEPS:
            raise ValueError(
                f"backend.launch.max_denoising_steps cannot be set for engine={engine.name}; "
                f"valid: {', '.join(known.name for known in TAKES_STEPS)}, or what the engine "
                "itself offers in backend.launch.args"
            )

    def _check_arguments(self) -> None:
        if self.engine is Engine.command:
            if not self.args:
                raise ValueError(
                    "backend.launch.args is empty; engine=command needs the whole command line"
                )
            if not self.port and not any(PORT in argument for argument in self.args):
                raise ValueError(
                    f"backend.launch.args have no {PORT}, so nobody knows where the server will "
                    f"listen; valid: an argument with {PORT}, or backend.launch.port"
                )
        for argument in self.args:
            flag = argument.partition("=")[0].replace("_", "-")
            if flag in _SECRET_FLAGS or "[redacted]" in redact(argument):
                # The value is not repeated.
                raise ValueError(
                    "backend.launch.args hold a secret, which would be stored with the run; valid: "
                    "the environment variable that the engine reads, as VLLM_API_KEY or HF_TOKEN"
                )
            if flag == "--trust-remote-code":
                raise ValueError(
                    f"backend.launch.args hold {argument}: code that comes with a checkpoint is "
                    "never run here"
                )
            if flag in ("--host", "--port") and self.engine is not Engine.command:
                raise ValueError(
                    f"backend.launch.args hold {flag}; a launched server listens on 127.0.0.1, at "
                    "backend.launch.port"
                )
