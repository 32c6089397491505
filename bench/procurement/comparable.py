"""What is refused: points that are not to be compared, and runs that cannot tell quality."""

from collections.abc import Sequence

from bench.procurement.cell import NumberClass
from bench.procurement.inputs import Quality
from bench.procurement.measured import RANDOM_WEIGHTS
from bench.procurement.operating_point import OperatingPoint


def check_comparable(points: Sequence[OperatingPoint]) -> None:
    """Refuses points that are not to be held against each other.

    Raises:
        ValueError: their rates are defined differently, or measured ones did different work.
    """
    first: dict[str, OperatingPoint] = {}
    for point in points:
        for what, said, judged in (
            ("rate is", point.definition, True),
            ("work was", point.work, point.kind is NumberClass.MEASURED and bool(point.work)),
        ):
            if not judged:
                continue
            other = first.setdefault(what, point)
            theirs = other.definition if what == "rate is" else other.work
            if theirs != said:
                raise ValueError(
                    f"{point.source} and {other.source} cannot be compared: their {what}"
                    f" {said!r} and {theirs!r}; give runs of one definition and one workload"
                )


def check_quality(points: Sequence[OperatingPoint], quality: Quality) -> None:
    """Refuses runs of random weights where answers are to be good enough.

    Raises:
        ValueError: a floor is set, a point has random weights, and `speed_only` was not stated.
    """
    if quality.accuracy_floor is None or quality.speed_only:
        return
    for point in points:
        if point.accuracy.why_unknown == RANDOM_WEIGHTS:
            raise ValueError(
                f"{point.source} has random weights, which cannot reach quality.accuracy_floor"
                f" {quality.accuracy_floor:g}; measure with real weights, remove the floor, or set"
                " quality.speed_only: true"
            )
