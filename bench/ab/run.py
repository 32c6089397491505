"""`canvasbench ab`: a base revision against this checkout, in fresh processes that take turns."""

import contextlib
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.ab.aa_blocks import read_recorded
from bench.ab.arm import Arm
from bench.ab.asked import asked, asked_of_contents
from bench.ab.blocks import MAX_PAIRS
from bench.ab.contents import FOLDER, answer
from bench.ab.held import detectable
from bench.ab.interpreter import interpreter
from bench.ab.judged import compared
from bench.ab.measuring import LOOKS, PLACES_FILE, Measuring, Pairs
from bench.ab.prepared import Prepared, prepare
from bench.ab.source import Source, source
from bench.budget import Budget
from bench.comparison import Comparison, ExitCode
from bench.comparison.metrics import Metric, chosen
from bench.merge import publish_tables
from bench.preregistration import digest
from bench.redact import redact
from bench.shards import shards
from bench.store import RunFolder

DEFAULT_METRICS = (
    "step_ms",
    "decode_ms",
    "delivered_tok_per_s",
    "decode_tok_per_s",
    "peak_rss_bytes",
    "peak_device_allocated_bytes",
    "steps_per_canvas",
    "accuracy",
)
"""Those of them that a point does not have are left out."""
_RUNS = Path("results") / "runs"
_NAMES = ("baseline", "candidate")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be compared, and how.

    Attributes:
        base: a git revision.
        candidate: another; None is the checkout as it is.
        metrics: names of `bench.comparison.METRICS`; None is the default.
        bound: relative change that matters; for an accuracy a difference.
        budget_s: from the first throw-away process on.
        out: a folder that is not there yet; None is results/runs/ab-<timestamp>.
        overrides: of the default point, key=value.
        seed: of the blocks' order.
        aa: a folder of A/A blocks of this machine; a bound that they do not allow is refused.
    """

    base: str
    candidate: str | None = None
    metrics: Sequence[str] | None = None
    bound: float
    budget_s: float
    out: Path | None = None
    overrides: Sequence[str] = ()
    seed: int = 0
    aa: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a comparison found.

    Attributes:
        held: by point and metric, what recorded A/A blocks say is detectable; empty without them.
        out: holds ab.json (the plan), places.jsonl, a run folder an arm, and in `contents` one of
            more prompts.
        stopped: why no more pairs were measured.
        failures: processes that failed and whatever else went wrong; with one, nothing passes.
    """

    comparison: Comparison
    plan: Mapping[str, Any]
    held: Mapping[str, float]
    out: Path
    pairs: int
    stopped: str
    failures: tuple[str, ...]
    wall_s: float

    @property
    def exit_code(self) -> ExitCode:
        code = self.comparison.exit_code
        return ExitCode.UNDECIDED if code is ExitCode.POSITIVE and self.failures else code


def run_ab(top: Path, wanted: Wanted, say: Callable[[str], None]) -> Found:
    """Measures base and candidate in turn until every metric has its verdict or time is out.

    Interrupted, it removes its worktrees, closes the run folders with what was finished and
    re-raises KeyboardInterrupt.

    Args:
        top: the checkout.
        say: told what happens, a line each.

    Raises:
        ValueError: anything the user can cause; nothing was measured then.
    """
    metrics = chosen(list(wanted.metrics or DEFAULT_METRICS))
    if not 0 < wanted.bound < 1:
        raise ValueError(f"bound {wanted.bound:g} must lie between 0 and 1: 0.02 is 2 %")
    if wanted.budget_s <= 0:
        raise ValueError(f"budget {wanted.budget_s:g} s must be above 0")
    path = wanted.out or _RUNS / f"ab-{datetime.now(UTC).strftime('%Y%m%dT%H%M%S')}"
    if path.exists():
        raise ValueError(f"{path} exists already; choose another --out")
    overrides = asked(wanted.overrides)
    recorded = None if wanted.aa is None else read_recorded(wanted.aa)
    with contextlib.ExitStack() as open_:
        arms = {
            name: _arm(open_, top, name, revision, say)
            for name, revision in zip(_NAMES, (wanted.base, wanted.candidate), strict=True)
        }
        say(f"baseline {arms['baseline'].source}, candidate {arms['candidate'].source}")
        begin, budget = time.monotonic(), Budget(wanted.budget_s)
        code = {name: arm.source.content() for name, arm in arms.items()}
        scratch = Path(open_.enter_context(tempfile.TemporaryDirectory(prefix="canvasbench-ab-")))
        prepared = {
            name: prepare(arm, overrides, scratch / name, MAX_PAIRS) for name, arm in arms.items()
        }
        _check_same_points(prepared)
        by_process = [metric for metric in metrics if metric.by_process]
        held = {}
        if recorded is not None:
            held = detectable(recorded, prepared["candidate"], by_process, wanted.bound)
        more = None if by_process == metrics else asked_of_contents(wanted.overrides)
        if more is not None:
            answer(arms, more, scratch / FOLDER)
        out = _made(path)
        if more is not None:
            shutil.move(scratch / FOLDER, out / FOLDER)
        plan = _plan(wanted, arms, metrics, prepared, more)
        (out / "ab.json").write_text(json.dumps(plan, indent=2) + "\n", encoding="utf-8")
        pairs = Pairs()
        with _run_folders(out, prepared, plan) as folders:
            stopped = Measuring(
                arms=prepared,
                folders=folders,
                by_process=by_process,
                bound=wanted.bound,
                budget=budget,
                seed=wanted.seed,
                log=out / PLACES_FILE,
                say=say,
                pairs=pairs,
            ).run()
        failures = [str(failure) for failure in pairs.failures]
        failures += [
            f"the {name}, {arm.source}, was changed while it was measured"
            for name, arm in arms.items()
            if arm.source.content() != code[name]
        ]
        return Found(
            comparison=compared(
                folders,
                metrics,
                wanted.bound,
                pairs,
                contents=None if more is None else out / FOLDER,
                stopped=stopped,
                same_code=_same_code(arms),
            ),
            plan=plan,
            held=held,
            out=out,
            pairs=2 * pairs.blocks,
            stopped=stopped,
            failures=tuple(failures),
            wall_s=time.monotonic() - begin,
        )


def _arm(
    open_: contextlib.ExitStack,
    top: Path,
    name: str,
    revision: str | None,
    say: Callable[[str], None],
) -> Arm:
    code = open_.enter_context(source(top, revision))
    arm = Arm(name, code, open_.enter_context(interpreter(code.tree, top, say)))
    arm.check_code()
    return arm


def _made(path: Path) -> Path:
    """The folder of a comparison, new."""
    try:
        path.mkdir(parents=True)
    except OSError as error:
        raise ValueError(f"{path} cannot be made: {error.strerror}") from error
    return path


def _check_same_points(prepared: Mapping[str, Prepared]) -> None:
    names = {arm: [point.point_id for point in own.points] for arm, own in prepared.items()}
    theirs, ours = (names[arm] for arm in _NAMES)
    if sorted(theirs) != sorted(ours):
        raise ValueError(
            f"the arms have other points: the baseline {', '.join(theirs) or 'none'}, the candidate"
            f" {', '.join(ours) or 'none'}; name a point that both have"
        )


def _plan(
    wanted: Wanted,
    arms: Mapping[str, Arm],
    metrics: Sequence[Metric],
    prepared: Mapping[str, Prepared],
    more: Sequence[str] | None,
) -> dict[str, Any]:
    """What is fixed before the first measurement, and its hash."""
    plan = {
        **{name: _told(arm.source) for name, arm in arms.items()},
        "metrics": [metric.name for metric in metrics],
        "bound": wanted.bound,
        "looks": list(LOOKS),
        "budget_s": wanted.budget_s,
        "overrides": [redact(each) for each in wanted.overrides],
        "contents": None if more is None else [redact(each) for each in more],
        "seed": wanted.seed,
        "config_hashes": {
            name: {point.point_id: point.config_hash for point in own.points}
            for name, own in prepared.items()
        },
        "prompts_sha256": {name: own.info.get("prompts_sha256") for name, own in prepared.items()},
    }
    return {**plan, "sha256": digest(plan)}


def _told(code: Source) -> dict[str, Any]:
    return {"name": code.name, "commit": code.commit, "dirty": code.dirty}


def _same_code(arms: Mapping[str, Arm]) -> bool:
    ours, theirs = (arms[name].source for name in _NAMES)
    return ours.commit == theirs.commit and not ours.dirty and not theirs.dirty


@contextlib.contextmanager
def _run_folders(
    out: Path, prepared: Mapping[str, Prepared], plan: Mapping[str, Any]
) -> Iterator[dict[str, Path]]:
    """A run folder an arm, written to until the context ends, and readable whatever ends it."""
    begin = time.monotonic()
    opened = {
        name: own.create(
            out / name,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            command=f"canvasbench ab, its {name}",
            ab={"arm": name, "plan_sha256": plan["sha256"]},
        )
        for name, own in prepared.items()
    }
    interrupted = True
    try:
        yield {name: folder.path for name, folder in opened.items()}
        interrupted = False
    finally:
        for folder in opened.values():
            _close(folder, interrupted=interrupted, wall_s=time.monotonic() - begin)


def _close(folder: RunFolder, *, interrupted: bool, wall_s: float) -> None:
    if shards(folder.path):
        publish_tables(folder.path, keep_shards=interrupted)
    folder.note(finished=not interrupted, interrupted=interrupted, wall_s=wall_s)
    folder.release()
