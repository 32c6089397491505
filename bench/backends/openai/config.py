"""How a server is reached and what is said of it; imports neither the HTTP client nor torch."""

import re
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

from bench.backends import Backend, BackendConfig
from bench.backends.openai.request import Endpoint, RequestKnobs
from bench.servers.config import Engine, LaunchConfig

TIMED = (
    "request handed to the HTTP client until the bytes of its last text were read from the socket: "
    "connecting, queueing, prefill, detokenisation and the network included; host clock"
)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(kw_only=True, slots=True)
class OpenAiConfig(BackendConfig):
    """An OpenAI-compatible endpoint.

    Attributes:
        url: where its API begins, as http://127.0.0.1:8000/v1; empty for one that is started.
        served_model: the model's name there; empty for one that is started.
        launch: the server that each process starts for itself; engine none for one that runs.
        key_variable: the environment variable that holds the key, null for none. The key itself has
            no place in a configuration.
        connections: requests under way at a time: a new one is sent for each that ends.
        rate_per_s: requests sent at the times of a Poisson process instead, however many are then
            under way; null for none.
        arrivals: a file of the times at which requests are sent, as `arrivals.read_arrivals` reads
            it; null for none.
        canvas_length: of the model it serves, null for an autoregressive one; the harness takes it
            from the point's model.
        device: what it runs on, as its operator says; null for unknown.
        drafter: how it drafts tokens for verification, as its operator says: none where it does
            not; null for unknown.
        running_usage, token_ids, temperature: as in `RequestKnobs`.
        metrics_url: of its Prometheus page, null to leave its counters alone.
        max_denoising_steps: the step cap it was started with, null where unknown; held against its
            counters.
        early_stop: off where it was started so that every canvas takes all of these.
        connect_s, first_byte_s, gap_s, whole_s: deadlines, as in `client.Deadlines`.

    Raises:
        ValueError: a value out of range, or an address or name that is none.
    """

    name: Backend = Backend.openai
    url: str = ""
    served_model: str = ""
    launch: LaunchConfig = field(default_factory=LaunchConfig)
    endpoint: Endpoint = Endpoint.chat
    key_variable: str | None = None
    connections: int = 1
    rate_per_s: float | None = None
    arrivals: str | None = None
    canvas_length: int | None = None
    device: str | None = None
    drafter: str | None = None
    running_usage: bool = True
    token_ids: bool = False
    temperature: float | None = None
    metrics_url: str | None = None
    max_denoising_steps: int | None = None
    early_stop: bool = True
    connect_s: float = 10.0
    first_byte_s: float = 600.0
    gap_s: float = 120.0
    whole_s: float = 1500.0

    def __post_init__(self) -> None:
        self._check_address()
        if self.metrics_url is not None:
            _check_url("backend.metrics_url", self.metrics_url)
        variable = self.key_variable
        if variable is not None and not _VARIABLE.fullmatch(variable):
            # The value is not repeated: it may be the key itself.
            raise ValueError(
                "backend.key_variable is no variable's name; valid: the name of an environment "
                "variable that holds the key, as OPENAI_API_KEY"
            )
        for name in ("connections", "canvas_length", "max_denoising_steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"backend.{name} is {value}; it must be >= 1")
        for name in ("rate_per_s", "connect_s", "first_byte_s", "gap_s", "whole_s"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"backend.{name} is {value}; it must be > 0")
        self._check_one_load()

    @property
    def starts_server(self) -> bool:
        return self.launch.engine is not Engine.none

    @property
    def closed(self) -> bool:
        """Whether a request waits for another one's end."""
        return self.rate_per_s is None and self.arrivals is None

    def process_key(self) -> str:
        """Loads of one server share a process, and so its connection to it."""
        return repr(replace(self, connections=1, rate_per_s=None, arrivals=None))

    def request(self, *, ignore_eos: bool) -> RequestKnobs:
        """How the server is asked."""
        return RequestKnobs(
            endpoint=self.endpoint,
            model=self.served_model,
            ignore_eos=ignore_eos,
            running_usage=self.running_usage,
            token_ids=self.token_ids,
            temperature=self.temperature,
        )

    def _check_address(self) -> None:
        if not self.starts_server:
            _check_url("backend.url", self.url)
            if not self.served_model:
                raise ValueError(
                    "backend.served_model is empty; it must be a name the server knows"
                )
            return
        told = ("url", "served_model", "metrics_url", "max_denoising_steps", "device")
        for name in told:
            if value := getattr(self, name):
                raise ValueError(
                    f"backend.{name} is {value} with backend.launch.engine="
                    f"{self.launch.engine.name}, whose server tells it itself"
                )

    def _check_one_load(self) -> None:
        given = {
            "connections": None if self.connections == 1 else self.connections,
            "rate_per_s": self.rate_per_s,
            "arrivals": self.arrivals,
        }
        several = [f"backend.{name}={value}" for name, value in given.items() if value is not None]
        if len(several) > 1:
            raise ValueError(
                f"{' and '.join(several)} are different loads; valid: one of connections, "
                "rate_per_s and arrivals"
            )


def _check_url(name: str, url: str) -> None:
    """Refuses what is no plain address; what may hold a secret is not repeated."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  # raises where it is no number
    except ValueError:
        raise ValueError(f"{name} is no address; valid: http(s)://HOST:PORT/PATH") from None
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError(
            f"{name} holds a user, a query or a fragment; valid: http(s)://HOST:PORT/PATH, with "
            "the key in backend.key_variable's variable"
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{name} is {url!r}; valid: http(s)://HOST:PORT/PATH")
