"""From command-line overrides to the points of a sweep, through Hydra's compose API.

One command line is one run: `a=1,2` sweeps an axis, and the axes named in `sweep` (the
experiment's), or in each sweep of its `stage`, are swept too unless the command line sets them.
Every point comes out as a typed `RunConfig`. With `rehearsal=true` an experiment X is X_rehearsal.
"""

import hashlib
import itertools
import json
import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from enum import Enum
from typing import Any

from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException, ValidationError

from bench.known_keys import GROUPS, suggestion
from bench.later import without_later
from bench.redact import redact
from bench.schema import (
    BACKENDS,
    LAUNCHERS,
    WORKLOADS,
    BlockDiffusionConfig,
    GreedyConfig,
    MeasureConfig,
    RunConfig,
    WorkloadConfig,
    register,
)

DecodingOf = Callable[[str], str]

# What a run is called and where it lies does not change what is measured.
_NOT_HASHED = ("run_dir", "sweep", "stages", "stage", "rehearsal", "launcher", "time_budget_s")
_REHEARSAL = "_rehearsal"


@dataclass(frozen=True, slots=True)
class Point:
    """One configuration of a sweep, with its place in it.

    Attributes:
        point_id: decoding, precision and whatever else the sweep varies; unique in the run.
        config_hash: of everything that can change a measurement.
    """

    point_id: str
    config_hash: str
    config: RunConfig
    resolved: dict[str, Any]


def compose_points(
    overrides: Sequence[str], decoding_of: DecodingOf, *, default_sweep: bool = True
) -> list[Point]:
    """Every point of the run that `overrides` ask for, in sweep order, without repeats.

    Args:
        default_sweep: whether the axes of the experiment that are not overridden are swept.
        decoding_of: tells a model's decoding ("diffusion" or "autoregressive") from its name or
            path.

    Raises:
        ValueError: an unknown key, a wrong type or choice, a stage or rehearsal that the experiment
            has not, or a knob of diffusion without effect.
    """
    register()
    GlobalHydra.instance().clear()
    with initialize_config_module("configs", version_base="1.3"):
        fixed, axes = _split(_parse(overrides))
        fixed = _rehearsed(fixed)
        base = _compose([*fixed, *(f"{key}={values[0]}" for key, values in axes.items())], False)
        given = {override.split("=", 1)[0].lstrip("+~") for override in fixed} | set(axes)
        sweeps = [
            axes | {key: text.split(",") for key, text in own.items() if key not in given}
            for own in _sweeps(base)
        ]
        return _points(fixed, sweeps if default_sweep else [axes], decoding_of)


def _sweeps(base: DictConfig) -> list[dict[str, str]]:
    """The axes that an experiment sweeps by itself, one sweep or those of the stage asked for."""
    if not base.stages:
        if base.stage is not None:
            raise ValueError(f"stage={base.stage} has no effect: this experiment has no stages")
        return [_axes(base.sweep)]
    if base.stage not in base.stages:
        raise ValueError(f"stage {base.stage!r} is unknown; valid: {', '.join(base.stages)}")
    return [_axes(own) for own in base.stages[base.stage].sweeps]


def _axes(sweep: DictConfig) -> dict[str, str]:
    found = OmegaConf.to_container(sweep)
    assert isinstance(found, dict)
    return {str(key): str(text) for key, text in found.items()}


def _rehearsed(fixed: list[str]) -> list[str]:
    """The overrides with the experiment's rehearsal in its place, where one is asked for."""
    chosen = dict(override.partition("=")[::2] for override in fixed)
    if chosen.get("rehearsal", "").lower() not in ("true", "yes", "on", "1"):
        return fixed
    name = chosen.get("experiment", "default")
    known = GlobalHydra.instance().config_loader().get_group_options("experiment")
    if name + _REHEARSAL not in known:
        valid = [each.removesuffix(_REHEARSAL) for each in known if each.endswith(_REHEARSAL)]
        raise ValueError(f"experiment {name!r} has no rehearsal; valid: {', '.join(valid)}")
    others = [override for override in fixed if not override.startswith("experiment=")]
    return [*others, f"experiment={name}{_REHEARSAL}"]


def restore_point(point_id: str, config_hash: str, resolved: dict[str, Any]) -> Point:
    """A point as run.json keeps it.

    Raises:
        ValueError: the configuration is not the one that was hashed, or no longer valid.
    """
    sampler = BlockDiffusionConfig if resolved.get("sampler") else GreedyConfig
    base = OmegaConf.structured(RunConfig)
    launcher = resolved.get("launcher", {}).get("name", "local")
    backend = resolved.get("backend", {}).get("name", "native")
    tasks = resolved.get("workload", {}).get("tasks")
    for key, schema in (
        ("launcher", LAUNCHERS[launcher]),
        ("backend", BACKENDS[backend]),
        ("sampler", sampler),
        ("workload", WORKLOADS.get(tasks, WorkloadConfig)),
        ("measure", MeasureConfig),
    ):
        base[key] = OmegaConf.structured(schema)
    try:
        whole = OmegaConf.merge(base, resolved)
        assert isinstance(whole, DictConfig)
        config, plain = _typed(whole)
    except OmegaConfBaseException as error:
        raise ValueError(f"point {point_id}: {_one_line(error)}") from error
    if _digest(plain) != config_hash:
        raise ValueError(
            f"point {point_id} was configured as {config_hash}, now as {_digest(plain)}; "
            "a changed configuration is another run"
        )
    return Point(point_id, config_hash, config, plain)


def _parse(overrides: Sequence[str]) -> list[Override]:
    parser = OverridesParser.create()
    found = []
    for override in overrides:
        try:
            found.append(parser.parse_override(override))
        except HydraException as error:
            raise ValueError(_unreadable(parser, override, error)) from error
    for own in found:
        if own.is_sweep_override() and own.get_key_element().partition(".")[0] in _NOT_HASHED:
            raise ValueError(
                f"{own.input_line} names several values of what a whole run has one of; "
                "a value with a comma in it stands in quotes of its own"
            )
    return found


def _unreadable(parser: OverridesParser, override: str, error: HydraException) -> str:
    """What is wrong with an override; that quotes mend it, where they do."""
    key, _, value = override.partition("=")
    is_text = value and value[0] not in "=[{"
    for quote in "'\"" if is_text else "":
        quoted = f"{key}={quote}{value}{quote}"
        try:
            parser.parse_override(quoted)
        except HydraException:
            continue
        whole = f'"{quoted}"' if quote == "'" else shlex.quote(quoted)
        return f"override {override} needs quotes of its own around its value: {whole}"
    said = (line for line in str(error).splitlines() if not line.startswith("Error parsing"))
    return f"override {override} cannot be read: {next(said)}"


def _split(overrides: list[Override]) -> tuple[list[str], dict[str, list[str]]]:
    """Plain overrides, and swept keys with their values."""
    fixed: list[str] = []
    axes: dict[str, list[str]] = {}
    for override in overrides:
        if override.is_sweep_override():
            axes[override.get_key_element()] = list(override.sweep_string_iterator())
        else:
            assert override.input_line is not None
            fixed.append(override.input_line)
    return fixed, axes


def _points(
    fixed: list[str], sweeps: list[dict[str, list[str]]], decoding_of: DecodingOf
) -> list[Point]:
    varying = _varying(sweeps)
    found: dict[str, Point] = {}
    dropped: set[str] = set()
    used: set[str] = set()
    choices = [
        dict(zip(axes, values, strict=True))
        for axes in sweeps
        for values in itertools.product(*axes.values())
    ]
    for choice in choices:
        lines = [*fixed, *(f"{key}={value}" for key, value in choice.items())]
        model = choice.get("model")
        if model is None:
            model = str(_compose([o for o in lines if not o.startswith("sampler")], False).model)
        decoding = decoding_of(model)
        knobs = {line for line in lines if line.startswith(("sampler.", "commit="))}
        if decoding == "autoregressive":
            dropped |= knobs
            others = (o for o in lines if not o.startswith(("sampler", "commit=")))
            lines = ["sampler=greedy", *others]
        else:
            used |= knobs
        config, resolved = _typed(_compose(lines, True))
        digest = _digest(resolved)
        own = [
            f"{key.rsplit('.', 1)[-1]}={choice[key]}"
            for key in varying
            if f"{key}={choice.get(key)}" in lines
        ]
        name = "-".join([decoding, config.precision.name, *own])
        if digest not in found:
            taken = {point.point_id for point in found.values()}
            found[digest] = Point(_unique(name, taken), digest, config, resolved)
    without_effect = sorted(dropped - used)
    if without_effect:
        raise ValueError(
            f"{without_effect[0]} has no effect: no point of this run is a diffusion model"
        )
    return list(found.values())


def _varying(sweeps: list[dict[str, list[str]]]) -> list[str]:
    """Keys that tell points apart by name, besides decoding and precision."""
    values: dict[str, set[str]] = {}
    for axes in sweeps:
        for key, own in axes.items():
            values.setdefault(key, set()).update(own)
    unnamed = ("model", "precision")
    return [
        key
        for key, own in values.items()
        if key not in unnamed
        and not key.startswith("measure.")
        and not any(value.startswith("${") for value in own)  # follows another key
        and (len(own) > 1 or any(key not in axes for axes in sweeps))
    ]


def _unique(name: str, taken: set[str]) -> str:
    names = itertools.chain([name], (f"{name}-{i}" for i in itertools.count(2)))
    return next(candidate for candidate in names if candidate not in taken)


def _compose(overrides: list[str], check: bool) -> DictConfig:
    """Composes one configuration; `check` also demands that nothing is missing."""
    try:
        config = compose("config", overrides)
        if check:
            OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
        return config
    except (HydraException, OmegaConfBaseException) as error:
        raise ValueError(_one_line(error)) from error
    except (ValueError, OverflowError) as error:  # as of workload=0, which names no choice
        raise ValueError(f"{' '.join(overrides)}: {_one_line(error)}") from error


def _typed(config: DictConfig) -> tuple[RunConfig, dict[str, Any]]:
    """The dataclass, whose checks run here, and its plain form with enums as names."""
    unknown = sorted({str(key) for key in config} - set(RunConfig.__dataclass_fields__))
    for group in GROUPS:
        schema = OmegaConf.get_type(config, group)
        assert schema is not None
        known = {field.name for field in fields(schema)}
        unknown += [f"{group}.{key}" for key in config[group] if key not in known]
    if unknown:
        raise ValueError(f"key {unknown[0]!r} is unknown{suggestion(unknown[0])}")
    typed = OmegaConf.to_object(config)
    assert isinstance(typed, RunConfig)
    # Home folders do not enter a result; paths are expanded again where they are used.
    plain = json.loads(redact(json.dumps(asdict(typed), default=_enum_name)))
    plain |= {"run_dir": None, "stages": {}}
    return typed, plain


def _enum_name(value: Any) -> str:
    assert isinstance(value, Enum)
    return value.name


def _digest(resolved: dict[str, Any]) -> str:
    hashed = {key: value for key, value in resolved.items() if key not in _NOT_HASHED}
    kept = without_later(hashed)
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:12]


def _one_line(error: BaseException) -> str:
    """What is wrong with a configuration in one line that names the valid choices."""
    cause = error.__cause__ or error
    if isinstance(cause, ConfigKeyError | AttributeError) and "not in" in str(cause):
        key = str(getattr(cause, "full_key", None) or cause)
        return (
            f"key {key!r} is unknown{suggestion(key)}; `canvasbench run --cfg job` prints all keys"
        )
    if isinstance(cause, ValidationError):
        return f"{cause.full_key}: {str(cause).splitlines()[0]}"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if "Available options" in str(error):
        begin = next(i for i, line in enumerate(lines) if line.startswith("Available options"))
        options = itertools.takewhile(lambda line: ":" not in line, lines[begin + 1 :])
        return f"{lines[0].removeprefix(chr(39))}; valid: {', '.join(options)}"
    return lines[0]
