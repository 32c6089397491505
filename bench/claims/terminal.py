"""Claims and verdicts in a terminal of 100 columns: the verdict first, then what is behind it."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from bench.claims.claim import Claim
from bench.claims.verdict import Outcome, comparable_first, is_comparable
from bench.claims.words import difference, figure, percent, promised_too, told
from bench.digits import NOT_AVAILABLE
from bench.screen import screen

_STYLES = {
    Outcome.REPRODUCED: "bold green",
    Outcome.WITHIN_TOLERANCE: "bold green",
    Outcome.NOT_REPRODUCED: "bold red",
}
_MARKS = {"same": "", "different": "differs", "unknown": "unknown"}

Plain = Mapping[str, Any]


def print_claims(claims: Sequence[Claim], console: Console | None = None) -> None:
    """One row a claim, then where each stands."""
    out = screen(console)
    table = _table("claim", "published", "relation", "metric", "device", "hangs on", wrap=False)
    for claim in claims:
        table.add_row(
            claim.name,
            claim.published,
            claim.relation,
            claim.metric,
            claim.conditions.device or "any",
            "content" if claim.depends_on_content else "fixed work",
        )
    out.print(table)
    sources: dict[str, list[str]] = {}
    for claim in claims:
        sources.setdefault(f"{claim.source.title}, {claim.source.date}", []).append(claim.name)
    for source, names in sources.items():
        out.print(Text(f"{source}: {', '.join(names)}", style="dim"))


def print_verdicts(
    found: Sequence[Plain],
    limits: Mapping[str, str],
    left_out: Mapping[str, str | None],
    console: Console | None = None,
) -> None:
    """All verdicts, then each with its evidence (`bench.claims.dossier.Dossier.plain`).

    What is not comparable comes last, and without its evidence where something else has some.

    Args:
        limits: of the run, by title (`bench.report.limits_of`); they hold for every verdict.
        left_out: verdicts on other claims that the run preregistered (`bench.claims.kept.unshown`).
    """
    out = screen(console)
    found = comparable_first(found)
    fold = any(map(is_comparable, found))
    for own in found:
        line = Text(f"{own['verdict']:<17}", style=_STYLES.get(own["verdict"], "bold"))
        line.append(f"{own['claim']['name']}: {own['claim']['published']}", style="none")
        out.print(line)
    if left_out:
        out.print(Text(promised_too(left_out), style="bold"))
    for title, lead in limits.items():
        out.print(Text.assemble((f"{title}.", "bold"), f" {lead}"))
    for own in found:
        out.print()
        _verdict(out, own, evidence=is_comparable(own) or not fold)
    if fold and not is_comparable(found[-1]):
        out.print()
        _say(out, "conditions of what is not comparable: claims.html, or --json", style="dim")


def _verdict(out: Console, own: Plain, *, evidence: bool) -> None:
    claim, n = own["claim"], own["n"]
    out.print(
        Text(f"{own['verdict']}  {claim['title']}", style=_STYLES.get(own["verdict"], "bold"))
    )
    for reason in own["reasons"]:
        _say(out, f"{reason}")
    if own["point"] is None or not evidence:
        return
    sizes = ", ".join(f"{count} {level}" for level, count in n.items() if level != "needed")
    parts = [
        f"by {claim['metric']}, point {own['point']}",
        f"n: {sizes}",
        own["interval_is"] or "no interval",
        own["promise"],
    ]
    if own["denominator"]:
        parts.insert(1, f"over {own['denominator']}")
    _say(out, f"{'; '.join(parts)}", style="dim")
    if own["points_alike"]:
        others = ", ".join(own["points_alike"])
        _say(out, f"other points under the same conditions: {others}", style="dim")
    _conditions(out, own["conditions"])
    _definitions(out, own)
    _decomposition(out, own)
    _baselines(out, own["baselines"])
    for oddity in own["oddities"]:
        _say(out, f"odd: {oddity}")
    for left_open in claim["open"]:
        _say(out, f"the source leaves open: {left_open}", style="dim")


def _conditions(out: Console, conditions: Sequence[Plain]) -> None:
    table = _table("condition", "published", "here", "")
    for own in sorted(conditions, key=lambda c: (not c["blocks"], not c["blocking"])):
        mark = "BLOCKS" if own["blocks"] else _MARKS[own["state"]]
        name = own["name"] if own["blocking"] else f"({own['name']})"
        table.add_row(name, own["published"], own["actual"], mark)
    out.print(table)
    _say(out, "in brackets: disclosed; the verdict does not hang on it", style="dim")


def _definitions(out: Console, own: Plain) -> None:
    if not own["definitions"]:
        return
    table = _table("the same run by definition", "value", "95 %", "/ published", "")
    for each in own["definitions"]:
        said = [word for word in ("claims", "closest") if each[f"is_{word}"]]
        table.add_row(
            each["metric"],
            *told(each["value"], each["interval"]),
            NOT_AVAILABLE if each["ratio"] is None else f"{each['ratio']:.3f}",
            ", ".join("the claim's" if word == "claims" else word for word in said),
        )
    out.print(table)
    spread = own["definitions_spread"]
    if spread is not None and len(own["definitions"]) > 1:
        _say(out, f"largest over smallest definition: {spread:.2f}")


def _decomposition(out: Console, own: Plain) -> None:
    found, floors = own["decomposition"], own["floors"]
    if found is None:
        return
    table = _table("", "ms a block", "forwards", "ms a forward", "of op floor", "of streaming")
    for each in (found["published"], found["measured"]):
        if each is not None:
            table.add_row(
                each["name"],
                figure(each["block_ms"]),
                NOT_AVAILABLE if each["forwards"] is None else f"{each['forwards']:g}",
                figure(each["forward_ms"]),
                percent(each["op_floor_share"]),
                percent(each["streaming_floor_share"]),
            )
    out.print(table)
    if floors is not None:
        out.print(
            Text(
                f"  floors of {floors['device']} by its data sheet: "
                f"op {figure(floors['op_ms'])} ms a forward ({figure(floors['op_rate'])} tok/s), "
                f"streaming {figure(floors['streaming_ms'])} ms "
                f"({figure(floors['streaming_rate'])} tok/s)",
                style="dim",
            )
        )
    _say(out, f"{difference(found)}")


def _baselines(out: Console, found: Sequence[Plain]) -> None:
    if not found:
        return
    table = _table("diffusion, measured, over", "kind", "tok/s", "of its floor", "ratio")
    for own in found:
        table.add_row(
            own["name"],
            own["kind"],
            figure(own["tok_per_s"]),
            percent(own["floor_share"]),
            figure(own["ratio"]),
        )
    out.print(table)


def _say(out: Console, text: str, style: str = "") -> None:
    out.print(Padding(Text(text, style=style), (0, 0, 0, 2)))


def _table(*names: str, wrap: bool = True) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False, show_edge=False)
    for name in names:
        table.add_column(name, no_wrap=not wrap)
    return table
