"""A profile in sentences: what its page, its terminal table and its figures say in words."""

from typing import Any

from bench.digits import NOT_AVAILABLE, digits
from bench.profile.advice import main_rows
from bench.profile.diff import ProfileDiff
from bench.profile.folder import Profile
from bench.profile.names import HOST, MAIN_PHASES, MERGED_FEED_FORWARD
from bench.report.style import percent_text, plural
from bench.report.view import as_number


def group_name(group: object) -> str:
    """An op group in words: "self conditioning"; Python outside of all of them is the loop."""
    own = {HOST: "generation loop", MERGED_FEED_FORWARD: "dense and experts"}
    return own.get(str(group), str(group).replace("_", " "))


def words(value: Any) -> str:
    """A fact, or n/a for what is unknown."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return NOT_AVAILABLE if value is None else str(value)


def headline(profile: Profile) -> str:
    """Where most of a step goes, and how much of it nothing runs."""
    rows = main_rows(profile)
    if rows.empty:
        return "No denoise or decode step was recorded"
    first, step = rows.iloc[0], str(rows["phase"].iloc[0])
    gap_share = float(rows["gap_ms"].sum() / rows["total_ms"].sum())
    idle = "the device is idle" if profile.info["on_gpu"] else "Python runs between operations"
    return (
        f"Largest part of a {step} step: {group_name(first['op_group'])}, "
        f"{percent_text(first['share'])}; for {percent_text(gap_share)} of the step {idle}"
    )


def not_a_speed() -> str:
    return (
        "Steps ran under a profiler, which adds work: their parts can be held against each other, "
        "and profiles against profiles. How fast a point is, canvasbench run measures."
    )


def overhead_sentence(profile: Profile) -> str:
    """What the profiler costs a step, and how sure that is."""
    rows = profile.panes.overhead
    own = rows[rows["phase"].isin(MAIN_PHASES)]
    if own.empty:
        return "The profiler's cost a step is unknown."
    row: Any = own.iloc[0]
    overhead, drift = as_number(row["overhead"]), as_number(row["drift"])
    more = (
        NOT_AVAILABLE if overhead is None else f"{100 * overhead:+.3g} % of a {row['phase']} step"
    )
    noisy = ""
    if row["profiled_ms"] < min(row["plain_before_ms"], row["plain_after_ms"]):
        noisy = ", and the profiled ones were quicker than both: the machine changed in between"
    elif overhead is None and drift is not None:
        noisy = ", more than the cost"
    return (
        f"Its cost, measured over the same {plural(int(row['forwards']), 'forward')}: {more} "
        f"({digits(row['profiled_ms'])} ms with it, "
        f"{digits(row['plain_before_ms'])} ms before and {digits(row['plain_after_ms'])} ms after "
        f"without; those two differ by {percent_text(drift)}{noisy})."
    )


def limits(profile: Profile) -> list[tuple[str, str]]:
    """What a reader must know of this profile: title and text."""
    info = profile.info
    found = [("Profiled: no measurement of speed", f"{not_a_speed()} {overhead_sentence(profile)}")]
    asked, executed = info.get("execution"), info.get("executed")
    if executed != asked:
        found.append(
            (
                f"Eager, though the point asks for {asked}",
                "A profiler sees little of a graph or a compiled step: kernels without the "
                "operations that launched them. --as-executed records that.",
            )
        )
    elif executed != "eager":
        found.append(
            (
                f"As executed: {executed}",
                "Op groups are known only where a kernel's name tells them; all else is in other.",
            )
        )
    if info.get("emulated"):
        found.append(
            (
                "Precision is emulated",
                "This processor computes it in a wider type: what takes long here says nothing "
                "about a GPU, and there are no floors.",
            )
        )
    if info.get("weights") == "dummy":
        found.append(("Random weights", "Times mean something, contents nothing."))
    return found


def diff_headline(diff: ProfileDiff) -> str:
    """What became slower most, or that nothing did."""
    change_ms = diff.total_after_ms - diff.total_before_ms
    total = (
        f"B takes {digits(diff.total_after_ms)} ms for the forwards that take A "
        f"{digits(diff.total_before_ms)} ms"
    )
    first = diff.groups.iloc[0]
    if first["change_ms"] <= 0:
        return f"No op group is slower: {total}"
    sure = "" if first["clear"] else ", no more than the forwards' own spread"
    return (
        f"{group_name(first['op_group']).capitalize()} became slower most: "
        f"{digits(first['change_ms'])} ms of {digits(change_ms)} ms more{sure}; {total}"
        if change_ms > 0
        else f"{group_name(first['op_group']).capitalize()} became slower by "
        f"{digits(first['change_ms'])} ms{sure}, all together faster: {total}"
    )
