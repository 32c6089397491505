"""Recording A/A blocks: one tree in both arms, so that any difference found is a false alarm.

A batch is a file, DIR/NAME.parquet, written anew after each block and never touched again: a row a
place, point and metric. `bench.ab.calibrate` reads all batches of a folder.
"""

import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from bench.ab.arm import Arm
from bench.ab.asked import asked
from bench.ab.blocks import MAX_PAIRS, PAIRS, Place, block_orders
from bench.ab.interpreter import interpreter
from bench.ab.prepared import Prepared, prepare
from bench.ab.process import Half, ProcessFailedError, measure_pair
from bench.ab.source import source
from bench.parquet import write_table

COLUMNS = (
    "batch",
    "condition",
    "block",
    "place",
    "point",
    "metric",
    "value",
    "started",
    "commit",
    "dirty",
    "host",
    "config_hash",
)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_MAX_FAILURES = 3
_SEED = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """What is to be recorded.

    Attributes:
        folder: of all batches of a machine.
        batch: the file's name without its ending.
        blocks: of four processes a point.
        condition: how the machine was meanwhile, in words.
        revision: recorded from a worktree; None is the checkout, not to be edited meanwhile.
        overrides: of the default point, key=value.
    """

    folder: Path
    batch: str
    blocks: int
    condition: str
    revision: str | None
    overrides: Sequence[str]

    @property
    def path(self) -> Path:
        return self.folder / f"{self.batch}.parquet"

    def check(self) -> None:
        """Refuses what cannot be recorded.

        Raises:
            ValueError: a bad name, no blocks, or a batch that is there already.
        """
        if _NAME.fullmatch(self.batch) is None:
            raise ValueError(f"batch {self.batch!r} must consist of letters, digits, '.', '_', '-'")
        if self.blocks < 1:
            raise ValueError(f"{self.blocks} blocks; at least 1 is needed")
        if self.path.exists():
            raise ValueError(f"batch {self.path} exists already; nothing is ever added to a batch")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"{self.folder} cannot be made: {error.strerror}") from error


def record(top: Path, wanted: Recording, say: Callable[[str], None]) -> Path:
    """Records a batch of A/A blocks and returns its file.

    A block in which a process fails is left out and measured again. Interrupted, the file holds the
    blocks that were finished.

    Args:
        top: the checkout.
        say: told what happens, a line each.

    Raises:
        ValueError: anything the user can cause, or three processes failed.
    """
    wanted.check()
    overrides = asked(wanted.overrides)
    with (
        source(top, wanted.revision) as code,
        interpreter(code.tree, top, say) as python,
        tempfile.TemporaryDirectory(prefix="canvasbench-aa-") as scratch,
    ):
        say(f"recording {wanted.blocks} A/A blocks of {code} to {wanted.path}")
        ready = prepare(
            Arm("candidate", code, python), overrides, Path(scratch) / "warm-up", MAX_PAIRS
        )
        rows: list[dict[str, Any]] = []
        failures, content = 0, code.content()
        orders = block_orders(_SEED)
        for block in range(wanted.blocks):
            while True:
                try:
                    rows += _block(ready, next(orders), wanted, block, Path(scratch) / "block")
                    break
                except ProcessFailedError as error:
                    failures += 1
                    say(f"block {block} is measured again: a process failed: {error}")
                    if failures == _MAX_FAILURES:
                        raise ValueError(
                            f"{failures} processes failed, the last: {error}"
                        ) from error
            if code.content() != content:
                raise ValueError(
                    f"{code} was changed while it was measured; {block} blocks are kept. A"
                    " --revision is measured from a tree of its own"
                )
            write_table(wanted.path, pd.DataFrame(rows, columns=list(COLUMNS)))
            say(f"block {block + 1} of {wanted.blocks}")
    return wanted.path


def _block(
    ready: Prepared, order: Sequence[Place], wanted: Recording, block: int, folder: Path
) -> list[dict[str, Any]]:
    """The rows of four places; what the processes wrote is not kept.

    Raises:
        ProcessFailedError: one of them failed.
    """
    rows = []
    for pair in (order[:PAIRS], order[PAIRS:]):
        for point in ready.points:
            started = datetime.now(UTC).isoformat(timespec="seconds")
            folders = [folder / str(place.place) for place in pair]
            try:
                for each in folders:
                    each.mkdir(parents=True)
                found = measure_pair(*(Half(ready, point, pair[0].pair, each) for each in folders))
            finally:
                shutil.rmtree(folder)
            for failure in found:
                if isinstance(failure, ProcessFailedError):
                    raise failure
            for place, measured in zip(pair, found, strict=True):
                assert isinstance(measured, dict)
                keys = {
                    "batch": wanted.batch,
                    "condition": wanted.condition,
                    "block": block,
                    "place": place.place,
                    "point": point.point_id,
                    "started": started,
                    "commit": ready.arm.source.commit,
                    "dirty": ready.arm.source.dirty,
                    "host": str(ready.info.get("host")),
                    "config_hash": point.config_hash,
                }
                rows += [{**keys, "metric": n, "value": value} for n, value in measured.items()]
    return rows
