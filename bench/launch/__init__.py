"""Where a sweep's processes run: on this machine, as jobs of SLURM, or on a Ray cluster."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.budget import Budget
from bench.plan import Task
from bench.schema import LauncherConfig, RayConfig, SlurmConfig
from bench.supervise import Supervisor


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What every launcher is told.

    Attributes:
        refusable: nothing was measured yet, so what the user can mend ends the run.
        fits_together: whether the loaded models of these tasks fit beside each other here.
        on_batch: called after every timed batch, as far as the launcher learns of it.
        budget: of time; spent, no further process is started here.
    """

    run_folder: Path
    blocks: Sequence[Sequence[Task]]
    seed: int
    refusable: bool
    fits_together: Callable[[Sequence[Task]], bool]
    on_batch: Callable[[], None]
    budget: Budget = field(default_factory=lambda: Budget(None))


def launch(config: LauncherConfig, given: Launch) -> None:
    """Measures all blocks; what fails becomes a failure row.

    Raises:
        ValueError: the cluster cannot be reached, its extra is not installed, the disk is full, or
            (only where `refusable`) the configuration cannot be used.
    """
    if isinstance(config, SlurmConfig):
        from bench.launch.slurm import run_on_slurm

        run_on_slurm(config, given)
    elif isinstance(config, RayConfig):
        from bench.launch.ray_cluster import run_on_ray

        run_on_ray(config, given)
    else:
        _run_here(given)


def _run_here(given: Launch) -> None:
    supervisor = Supervisor(
        given.run_folder,
        given.seed,
        given.fits_together,
        given.on_batch,
        given.budget,
    )
    refusable = given.refusable
    try:
        for block in given.blocks:
            supervisor.run(block, refusable=refusable)
            refusable = False
    except BaseException:
        supervisor.kill_all()
        raise
