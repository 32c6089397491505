"""The experiment that claims describe, as overrides of `canvasbench run`.

Fixed work takes random weights, as its content cannot matter; what depends on content needs real
ones. Conditions come from the claims and cannot be overridden; how the measuring is done can, the
backend included. A server that is started for it gets the published flags; of one that runs already
the operator says where it runs, and its counters have to bear the steps out.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from importlib.resources import files
from math import ceil

import yaml

from bench.claims.claim import SPEEDS, Claim
from bench.claims.judge import Judgement
from bench.claims.verdict import Outcome
from bench.devices import DEVICES
from bench.servers.engines import PUBLISHED_VLLM_ARGS

_PROCESSES = 8
"""Of `measure=publish`, so that a verdict hangs on an interval between processes."""
_FEWEST_PROMPTS = 4
"""A process is asked; what it costs is loading a model."""
_SHIPPED = ("tiny-diffusion", "tiny-autoregressive")
"""Presets whose weights come with the package."""
_AGREED = {
    "device": "device",
    "precision": "precision",
    "batch_size": "batch_size",
    "workload": "workload",
    "prompt_tokens": "workload.prompt_tokens",
    "max_new_tokens": "workload.max_new_tokens",
    "eos_policy": "workload.eos_policy",
}
"""Conditions that all claims of a run share, and the keys they become."""
_ENGINE = "backend.launch.engine"


def without_drafter(claims: Sequence[Claim]) -> tuple[list[Claim], list[Claim]]:
    """The claims that can be measured, and those that need a drafter, which nothing here has."""
    needing = [claim for claim in claims if _drafter(claim) != "none"]
    return [claim for claim in claims if claim not in needing], needing


def unmeasurable(claim: Claim) -> Judgement:
    """The verdict on a claim that needs a drafter; nothing is measured for it."""
    reason = f"drafter: published {_drafter(claim)}, and no engine here has one"
    return Judgement(claim, Outcome.NOT_COMPARABLE, None, None, None, None, 0, (), (reason,), ())


def overrides_for(
    claims: Sequence[Claim], given: Sequence[str], device_here: Callable[[str], str | None]
) -> list[str]:
    """Overrides of `canvasbench run` for one run that can judge all claims.

    Args:
        given: the user's overrides; they replace how it is measured, never what.
        device_here: names this machine's device (`bench.claims.claim.Conditions.device`) behind
            "cpu" or "cuda"; None where there is none.

    Raises:
        ValueError: claims that need different runs, an override that contradicts them, a device
            that is not here, or real weights that were not given.
    """
    users = dict(line.split("=", 1) for line in given)
    agreed = {name: _agreed(claims, name) for name in _AGREED}
    steps = _agreed(claims, "steps")
    kinds = {claim.kind for claim in claims}
    if len(kinds) > 1:
        raise ValueError(f"{_names(claims)} need different runs: {' and '.join(sorted(kinds))}")
    fixed, models = not claims[0].depends_on_content, _models(claims)
    device, workload = agreed.pop("device"), agreed.pop("workload")
    if fixed:
        own = ["experiment=fixed_work"]
    else:
        tiny = device == "simulated" or all(model in _SHIPPED for model in models)
        if not tiny:
            _check_weights(claims, models, users)
        workload = workload or ("tiny" if tiny else "text")
        own = [f"workload={workload}"]
    if not fixed and workload != "long_context":
        agreed.pop("prompt_tokens")  # the prompts are as long as they are
    server = _Server.asked_for(users)
    own += _where(device, device_here) if server is not _Server.RUNS else _said(device, users)
    own += [f"model={','.join(models)}"]
    own += [f"{_AGREED[name]}={value}" for name, value in agreed.items() if value is not None]
    own += _steps(steps, fixed=fixed, server=server)
    own += _asked(claims, models, server, fixed=fixed)
    return _merged(own, _measuring(claims, own, users, fixed=fixed), users, _names(claims))


def _drafter(claim: Claim) -> str:
    found = [claim.conditions.drafter, None if claim.over is None else claim.over.drafter]
    return next((drafter for drafter in found if drafter not in (None, "none")), "none") or "none"


def _agreed(claims: Sequence[Claim], name: str) -> str | int | None:
    """A condition that is the same in all claims that state it."""
    stated = {getattr(c.conditions, name) for c in claims} - {None}
    if len(stated) > 1:
        both = " and ".join(sorted(map(str, stated)))
        raise ValueError(f"{_names(claims)} need different runs: {name} {both}")
    return stated.pop() if stated else None


def _models(claims: Sequence[Claim]) -> list[str]:
    """Every model that a claim is about or divides by, diffusion first."""
    found: list[str] = []
    for claim in claims:
        below = [] if claim.over is None else [claim.over.model]
        for model in (claim.conditions.model, *below):
            if model is None:
                raise ValueError(f"claim {claim.name} names no model, so nothing can be measured")
            if model not in found:
                found.append(model)
    return found


def _check_weights(
    claims: Sequence[Claim], models: Sequence[str], users: Mapping[str, str]
) -> None:
    """Refuses to measure contents without real weights, or two models with one's."""
    if users.get("weights", "dummy") == "dummy":
        raise ValueError(
            f"{_names(claims)}: content-dependent, so random weights cannot tell; "
            "give the released ones as weights=PATH"
        )
    if len(models) > 1:
        raise ValueError(
            f"{_names(claims)}: weights=PATH holds one model of {', '.join(models)}; "
            "measure each alone and judge a run that holds both"
        )


def _where(device: str | int | None, device_here: Callable[[str], str | None]) -> list[str]:
    """Keys that put the run on the claims' device, which has to be here."""
    if device == "simulated":
        return ["backend=simulated"]
    if device is None:
        return ["device=cuda" if device_here("cuda") else "device=cpu"]
    kind = "cuda" if device in DEVICES else "cpu"
    here = device_here(kind)
    if str(here).lower() != str(device).lower():
        found = f"here it is {here}" if here else "this machine has no GPU"
        raise ValueError(
            f"the claim is about device {device}; {found}, so it cannot be measured here"
        )
    return [f"device={kind}"]


class _Server(Enum):
    """Who answers: no server, one that runs, one that is started for the run."""

    NONE, RUNS, STARTS = range(3)

    @classmethod
    def asked_for(cls, users: Mapping[str, str]) -> "_Server":
        if users.get("backend") != "openai":
            return cls.NONE
        return cls.RUNS if users.get(_ENGINE, "none") == "none" else cls.STARTS


def _said(device: str | int | None, users: Mapping[str, str]) -> list[str]:
    """Nothing where the operator of a server has said that it runs on the claims' device."""
    told = users.get("backend.device")
    if device is None or str(told).lower() == str(device).lower():
        return []
    said = "nobody says where the server runs" if told is None else f"the server runs on {told}"
    raise ValueError(
        f"the claim is about device {device}; {said}; valid: backend.device={device}, where it does"
    )


def _asked(
    claims: Sequence[Claim], models: Sequence[str], server: _Server, *, fixed: bool
) -> list[str]:
    """How a server is asked: random prompts as token ids, which one endpoint alone takes."""
    if server is _Server.RUNS and len(models) > 1:
        raise ValueError(
            f"{_names(claims)}: a server serves one model of {', '.join(models)}; "
            "measure each alone and judge a run that holds both"
        )
    return ["backend.endpoint=completions"] if fixed and server is not _Server.NONE else []


def _steps(steps: str | int | None, *, fixed: bool, server: _Server) -> list[str]:
    """The step cap: the sampler's, or that with which a server that runs was started."""
    if server is _Server.RUNS:
        found = ["sampler=block_diffusion"] if fixed else []
        if steps is not None:
            kind, _, count = str(steps).rpartition(" ")
            early_stop = str(kind != "forced").lower()
            found += [f"backend.max_denoising_steps={count}", f"backend.early_stop={early_stop}"]
        return found
    if steps is None:
        return []
    kind, _, count = str(steps).rpartition(" ")
    forced = [] if fixed or kind != "forced" else ["sampler=forced"]
    return [*forced, f"sampler.max_denoising_steps={count}"]


def _measuring(
    claims: Sequence[Claim], own: Sequence[str], users: Mapping[str, str], *, fixed: bool
) -> list[str]:
    """How it is measured unless the user says otherwise: enough processes and prompts."""
    engine = _engine(claims, own, users, fixed=fixed)
    is_speed = any(claim.metric in SPEEDS for claim in claims)
    needed = max(claim.min_requests for claim in claims)
    found = [*engine, f"measure={'publish' if is_speed else 'screening'}", "measure.num_repeats=1"]
    if fixed:
        batch_size = max(claim.conditions.batch_size or 1 for claim in claims)
        prompts = max(_FEWEST_PROMPTS, ceil(needed / _processes(users)))
        found.append(f"workload.num_prompts={ceil(prompts / batch_size) * batch_size}")
    elif needed > _default_prompts(own):
        found.append(f"workload.num_prompts={needed}")
    return found


def _engine(
    claims: Sequence[Claim], own: Sequence[str], users: Mapping[str, str], *, fixed: bool
) -> list[str]:
    """What runs the model: our kernels, or the published flags of a vLLM that is started."""
    if _Server.asked_for(users) is _Server.NONE:
        return ["kernels=triton"] if "device=cuda" in own else ["execution=eager"] if fixed else []
    if users.get(_ENGINE) != "vllm":
        return []
    flags = PUBLISHED_VLLM_ARGS[claims[0].conditions.decoding]
    quoted = ",".join(f"'{flag}'" for flag in flags)
    return [f"backend.launch.args=[{quoted}]"]


def _processes(users: Mapping[str, str]) -> int:
    """Processes of a point, as the user has it or as `measure=publish` does."""
    told = users.get("measure.num_processes", "")
    if told.isdigit() and int(told):
        return int(told)
    return 1 if users.get("measure") == "screening" else _PROCESSES


def _default_prompts(own: Sequence[str]) -> int:
    """Prompts of the chosen workload when it is not told how many."""
    name = next(line for line in own if line.startswith("workload=")).partition("=")[2]
    found = files("configs") / "workload" / f"{name}.yaml"
    if not found.is_file():
        raise ValueError(f"workload {name!r} is unknown")
    return int(yaml.safe_load(found.read_text(encoding="utf-8"))["num_prompts"])


def _merged(
    own: Sequence[str], measuring: Sequence[str], users: Mapping[str, str], names: str
) -> list[str]:
    """All overrides, the user's instead of ours where that is theirs to choose."""
    stated = dict(line.split("=", 1) for line in own)
    for key, value in users.items():
        if key in stated and stated[key] != value:
            raise ValueError(f"{key}={value} contradicts {names}: {key}={stated[key]}")
    chosen = [line for line in measuring if line.split("=", 1)[0] not in users]
    return [*own, *chosen, *(f"{key}={value}" for key, value in users.items() if key not in stated)]


def _names(claims: Iterable[Claim]) -> str:
    names = [claim.name for claim in claims]
    return f"claim{'s' if len(names) > 1 else ''} {', '.join(names)}"
