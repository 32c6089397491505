"""Whether two points answer equally well, so that their speeds may be ranked.

A point's speed and its answers are joined by config hash. No correction is made for many pairs:
that could only hide a difference, and the error to avoid here is a ranking that hides one.
"""

from dataclasses import dataclass
from math import comb

import pandas as pd

from bench.digits import NOT_AVAILABLE, digits
from bench.report.style import percent_text, plural, with_interval
from bench.report.view import Point, View
from bench.stats import LEVEL


@dataclass(frozen=True, slots=True)
class Quality:
    """Accuracy of two points, held against each other.

    Attributes:
        p_value: of equal accuracy, two-sided; None where an accuracy is unknown.
        n: prompts a point; the smaller number where they differ.
        paired: both answered the same prompts (exact McNemar test), else Fisher's exact test.
    """

    mine: Point
    theirs: Point
    p_value: float | None = None
    n: int = 0
    paired: bool = False

    @property
    def differs(self) -> bool | None:
        """Significantly at 5 %; None where that is unknown."""
        return None if self.p_value is None else self.p_value < LEVEL

    @property
    def clause(self) -> str:
        """What a sentence that holds two speeds against each other must go on to say."""
        if self.differs:
            return f", but their accuracy differs ({self._values})"
        return ", quality unknown" if self.differs is None else ""

    @property
    def sentence(self) -> str:
        """Both accuracies, and whether they allow the speeds to be compared as equals."""
        mine, theirs = self.mine.estimate("accuracy"), self.theirs.estimate("accuracy")
        if mine.value is None or theirs.value is None:
            return "Accuracy: n/a for at least one of them, so this is speed without known quality."
        both = (
            f"Accuracy: {self.mine.name} {with_interval(mine, '%', scale=100)}, "
            f"{self.theirs.name} {with_interval(theirs, '%', scale=100)}."
        )
        if self.differs is None:
            return f"{both} It is unknown whether they differ."
        if not self.differs:
            return f"{both} This run does not tell the accuracies apart ({self._test})."
        worse = self.mine if mine.value < theirs.value else self.theirs
        return (
            f"{both} The difference is significant ({self._test}): {worse.name} is less accurate, "
            "so these speeds are not speeds at equal quality and rank nothing."
        )

    @property
    def remark(self) -> str:
        """The same for one line of a terminal."""
        told = {
            True: f", a significant difference ({self._test}): no speeds at equal quality",
            False: f", not told apart ({self._test})",
            None: "",
        }
        return f"accuracy {self._values}{told[self.differs]}"

    @property
    def _values(self) -> str:
        mine, theirs = (p.number("accuracy") for p in (self.mine, self.theirs))
        return f"{percent_text(mine)} against {percent_text(theirs)}"

    @property
    def _test(self) -> str:
        name = "McNemar" if self.paired else "Fisher"
        return f"{name}, p {_p_text(self.p_value)}, n = {plural(self.n, 'prompt')}"


def compare_quality(view: View, mine: Point, theirs: Point) -> Quality:
    """Tests whether the accuracies of two points differ.

    Pairs by prompt where both were asked the same ones: a problem that is hard for one is mostly
    hard for the other, and what tells is the prompts that only one got right.
    """
    if mine.number("accuracy") is None or theirs.number("accuracy") is None:
        return Quality(mine, theirs)
    ours, others = _answers(view, mine), _answers(view, theirs)
    same = mine.text("prompts_sha256") == theirs.text("prompts_sha256")
    if same and len(ours) and set(ours.index) == set(others.index):
        gained, lost = int((ours & ~others).sum()), int((~ours & others).sum())
        return Quality(mine, theirs, mcnemar_p_value(gained, lost), len(ours), paired=True)
    counts = [_counts(mine, ours), _counts(theirs, others)]
    if any(n == 0 for _, n in counts):
        return Quality(mine, theirs)
    from scipy.stats import fisher_exact  # slow to import, seldom needed

    found = fisher_exact([[right, n - right] for right, n in counts])
    return Quality(mine, theirs, float(found.pvalue), min(n for _, n in counts))


def mcnemar_p_value(gained: int, lost: int) -> float:
    """Two-sided exact p of as many wins as losses: the binomial tail at one half, doubled."""
    n = gained + lost
    tail = sum(comb(n, i) for i in range(min(gained, lost) + 1))
    return min(1.0, 2 * tail / 2**n)


def _answers(view: View, point: Point) -> "pd.Series[bool]":
    """Right or wrong by prompt, of the rows that carry the point's config hash."""
    requests = view.content("requests", "config_hash", "request_id", "correct")
    own = requests[requests["config_hash"] == point.text("config_hash")].dropna(subset=["correct"])
    return own.set_index("request_id")["correct"].astype(bool).sort_index()


def _counts(point: Point, answers: "pd.Series[bool]") -> tuple[int, int]:
    """Right answers and judged ones; from the row where the answers themselves are not there."""
    if len(answers):
        return int(answers.sum()), len(answers)
    n = point.count("num_prompts") or 0
    return round((point.number("accuracy") or 0.0) * n), n


def _p_text(p_value: float | None) -> str:
    if p_value is None:
        return NOT_AVAILABLE
    return "< 0.001" if p_value < 0.001 else f"= {digits(p_value)}"
