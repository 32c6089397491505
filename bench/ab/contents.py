"""What the arms answer: a run of either's own, of more prompts than speeds need.

On one machine the same code answers a prompt the same way every time, so each is asked once, and
any prompt that is answered otherwise was changed by the code.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.ab.arm import Arm
from bench.ab.prepared import run
from bench.golden.check import changed_prompts
from bench.golden.show import named
from bench.golden.table import golden_points
from bench.store import Run

FOLDER = "contents"
"""Of a comparison's: holds a run an arm."""


def answer(arms: Mapping[str, Arm], overrides: Sequence[str], folder: Path) -> None:
    """Runs every arm into a folder of its name.

    Args:
        overrides: arguments of `canvasbench run`.

    Raises:
        ValueError: an arm's code cannot be run so, in the words of that code.
    """
    folder.mkdir()
    for name, arm in arms.items():
        run(arm, overrides, folder / name)


def changed_lines(baseline: Run, candidate: Run) -> dict[str, list[str]]:
    """By point: how many prompts are answered otherwise, and the first of them with what differs.

    Points without weights that have a hash, or of other prompts, are left out.

    Raises:
        ValueError: a run has no finished point, or a damaged table.
    """
    theirs = {point.point_id: point for point in golden_points(baseline)}
    found = {}
    for ours in golden_points(candidate):
        own = theirs.get(ours.point_id)
        if own is None or own.work["prompts_sha256"] != ours.work["prompts_sha256"]:
            continue
        if [a.request_id for a in own.answers] != [a.request_id for a in ours.answers]:
            continue
        if changed := tuple(changed_prompts(own, ours)):
            said = f"{len(changed)} of {len(ours.answers)} prompts are answered otherwise"
            found[ours.point_id] = [said, *named(changed)]
    return found
