"""`canvasbench profile`: what it does between arguments and an exit code."""

import os
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from bench.profile.diff import diff_profiles
from bench.profile.folder import (
    PROFILES,
    TRACE,
    Profile,
    create,
    open_profile,
    write_info,
    write_panes,
)
from bench.profile.page import write_diff, write_page
from bench.profile.terminal import print_diff, print_profile

_DIFF, _REPORT = "diff", "report"
_STEPS = 8


def profile(
    arguments: Sequence[str], *, out: Path | None, steps: int | None, as_executed: bool
) -> None:
    """Records a point, or does what the first argument says with what was recorded.

    Args:
        arguments: overrides of `canvasbench run`; or diff A B; or report DIR.
        out: the profile's folder; of diff the page to write.
        steps, as_executed: as for `record_point`; 8 steps unless it is said.

    Raises:
        ValueError: bad input.
    """
    if arguments and arguments[0] in (_DIFF, _REPORT):
        if as_executed or steps is not None:
            option = "--as-executed" if as_executed else "--steps"
            raise ValueError(f"{option} has no effect on {arguments[0]}")
        (_diff if arguments[0] == _DIFF else _report)([Path(a) for a in arguments[1:]], out)
        return
    steps = _STEPS if steps is None else steps
    folder = record_point(arguments, out, steps=steps, as_executed=as_executed)
    _shown(open_profile(folder))


def record_point(
    overrides: Sequence[str], out: Path | None, *, steps: int, as_executed: bool
) -> Path:
    """Records one point into a folder of its own and returns that; `_shown` adds the rest.

    Args:
        out: the folder, None for one of `PROFILES`.
        steps, as_executed: as for `bench.profile.record.record`.

    Raises:
        ValueError: bad input, or a point that does not fit this machine.
    """
    if steps < 1:
        raise ValueError(f"--steps is {steps}; it must be >= 1")
    import torch

    from bench import provenance
    from bench.affordable import refuse_if_none_fits
    from bench.build import check_point, decoding_of
    from bench.compose import compose_points
    from bench.profile.record import record
    from model.kernels import OP_GROUPS

    points = compose_points(overrides, decoding_of, default_sweep=False)
    if len(points) != 1:
        raise ValueError(
            f"a profile is of one point, these are {len(points)}; valid: one value a key"
        )
    (point,) = points
    config = point.config
    if config.run_dir is not None:
        raise ValueError(f"run_dir={config.run_dir} has no effect on a profile; valid: --out DIR")
    check_point(config)
    refuse_if_none_fits(points)
    now = datetime.now(UTC)
    folder = create(out or PROFILES / f"{now:%Y%m%dT%H%M%S}-{point.point_id}")
    torch.set_num_threads(config.threads or os.cpu_count() or 1)
    try:
        recording = record(config, folder / TRACE, steps=steps, as_executed=as_executed)
    except BaseException:
        with suppress(OSError):  # a trace may be there
            folder.rmdir()
        raise
    write_info(
        folder,
        {
            "created": now.isoformat(timespec="seconds"),
            "command": provenance.command_line(),
            "point_id": point.point_id,
            "config_hash": point.config_hash,
            "config": point.resolved,
            "model": config.model,
            "decoding": decoding_of(config.model),
            "precision": config.precision.name,
            "kernels": config.kernels.name,
            "execution": config.execution.name,
            "batch_size": config.batch_size,
            "threads": torch.get_num_threads(),
            "steps_asked": steps,
            "on_gpu": config.device != "cpu",
            "kernel_groups": dict(OP_GROUPS),
            **recording.plain(),
            "git": provenance.git_state(),
            "host": provenance.host(),
            "machine": provenance.machine(config.device, torch.get_num_threads()),
            "packages": provenance.packages(),
        },
    )
    return folder


def _report(folders: Sequence[Path], out: Path | None) -> None:
    if len(folders) != 1 or out is not None:
        raise ValueError("canvasbench profile report takes one profile folder and no --out")
    _shown(open_profile(folders[0]))


def _shown(profile: Profile) -> None:
    """Tables and page from the trace, the summary in the terminal."""
    write_panes(profile)
    page = write_page(profile)
    print_profile(profile)
    print(f"profile: {page}")


def _diff(folders: Sequence[Path], out: Path | None) -> None:
    if len(folders) != 2:
        raise ValueError(f"canvasbench profile diff takes two profile folders, not {len(folders)}")
    found = diff_profiles(*(open_profile(folder) for folder in folders))
    print_diff(found)
    if out is not None:
        print(f"page: {write_diff(found, out)}")
