"""Made-up figures, tables and a page: every class of number, unknown ones, hostile strings."""

from bench.procurement.cell import Cell, NumberClass
from bench.procurement.marks import Series, Stamp
from bench.procurement.page import KeyFigure, Notice, Page, Section, Summary
from bench.procurement.plots import Crossing, Floor, Line, Panel
from bench.procurement.plots_cost import MemoryBar, SwingBar, Trade
from bench.procurement.tables import Column, DataTable, amount

HOSTILE = (
    "<script>document.title='owned'</script>",
    "<img src=x onerror=alert(1)>",
    "{{ 7 * 7 }} ${7*7} $\\frac{1}{2}$",
    "\u202egnp.exe \u0000 \U0001f4a3",
    '" onmouseover="alert(1)',
)
STAMP = Stamp("Made-up devices", "2026-01-02")
BATCHES = (1, 2, 4, 8, 16, 32)
DIFFUSION, SIBLING = Series("diffusion", "fp8"), Series("autoregressive", "fp8")
_MEASURED, _PUBLISHED, _PROJECTED, _ASSUMED = NumberClass


def cell(
    value: float | None,
    kind: NumberClass = _PROJECTED,
    *,
    spread: float | None = 0.08,
    source: str = "",
) -> Cell:
    """A made-up number with limits `spread` either side."""
    if value is None:
        return Cell(None, None, None, kind, "", "made up", why_unknown="not measured")
    if spread is None:
        return Cell(value, None, None, kind, "", "made up", source=source)
    return Cell(value, value * (1 - spread), value * (1 + spread), kind, "", "made up", source)


def panels(factor: float = 1.0) -> tuple[Panel, ...]:
    """Three devices: one measured, one projected, one projected with a published point."""
    return tuple(
        Panel(
            name,
            (
                Line(
                    DIFFUSION,
                    BATCHES,
                    tuple(cell(factor * speed * 900 * b / (1 + b / 9), kind) for b in BATCHES),
                ),
                Line(
                    SIBLING,
                    BATCHES,
                    tuple(cell(factor * speed * 260 * b / (1 + b / 60), kind) for b in BATCHES),
                ),
                *(
                    (Line(DIFFUSION, (1,), (cell(1_100, _PUBLISHED, spread=None),)),)
                    if name == "H100 SXM"
                    else ()
                ),
            ),
            tuple(
                Floor(
                    floor,
                    decoding,
                    BATCHES,
                    tuple(speed * factor * scale * b / (1 + b / knee) for b in BATCHES),
                )
                for floor, more in (("op floor", 1.25), ("streaming floor", 1.7))
                for decoding, scale, knee in (
                    ("diffusion", more * 900, 12),
                    ("autoregressive", more * 260, 90),
                )
            ),
        )
        for name, speed, kind in (
            ("H200 SXM", 1.4, _MEASURED),
            ("H100 SXM", 1.0, _PROJECTED),
            ("L40S", 0.3, _PROJECTED),
        )
    )


def crossings() -> tuple[Crossing, ...]:
    return tuple(
        Crossing(
            name,
            DIFFUSION,
            BATCHES,
            tuple(cell(3.5 * (1 + b / 60) / (1 + b / knee), kind) for b in BATCHES),
            at,
            told,
        )
        for name, kind, knee, at, told in (
            ("H200 SXM", _MEASURED, 9, cell(26, _MEASURED), "they meet at 26 (24 to 28)"),
            ("H100 SXM", _PROJECTED, 14, cell(None), "none in range"),
        )
    )


def trades() -> tuple[Trade, ...]:
    found = []
    for name, price, latency, kind in (
        ("H200", 0.30, 0.8, _MEASURED),
        ("H100", 0.36, 1.1, _PROJECTED),
        ("L40S", 0.55, 3.5, _ASSUMED),
    ):
        for of, ratio in ((DIFFUSION, 1.0), (SIBLING, 2.4)):
            for batch in BATCHES:
                seconds = latency * ratio * (1 + batch / 9)
                found.append(
                    Trade(
                        f"{name} {of.decoding} batch {batch}",
                        of,
                        cell(seconds, kind),
                        cell(price * ratio * (1 + 9 / batch) / 3, kind),
                        seconds < 4,
                        is_front=name == "H200" and of is DIFFUSION,
                        is_chosen=name == "H200" and batch == 16 and of is DIFFUSION,
                    )
                )
    return tuple(found)


def swings() -> tuple[SwingBar, ...]:
    return (
        SwingBar("price of an hour, h200", "2.20", "4.10", 0.24, 0.45, True),
        SwingBar(f"steps a canvas {HOSTILE[0]}", "12", "24", 0.26, 0.41, False),
        SwingBar("utilisation", "40 %", "80 %", 0.38, 0.27, False),
        SwingBar("power price", "0.08", "0.25", 0.30, 0.33, False),
    )


def memory_bars() -> tuple[MemoryBar, ...]:
    return (
        MemoryBar("H200 SXM, fp8, batch 16", _parts(27.2, 14, 6), 141e9, True),
        MemoryBar("L40S, bf16, batch 8", _parts(51.6, 7, 3), 48e9, False),
    )


def _parts(*sizes: float) -> tuple[tuple[str, float], ...]:
    names = ("weights", "keys and values", "canvases", "overhead")
    return tuple((n, s * 1e9) for n, s in zip(names, (*sizes, 3.0), strict=True))


def table(rows: int = 3, hostile: str = "") -> DataTable:
    """A table with words, numbers of every class, unknown ones and a count."""
    columns = (
        Column("option", "option", is_text=True),
        Column("decoding", "decoding", is_text=True),
        Column("batch_size", "batch"),
        Column("cost_per_mtok", "cost", "$ a million tokens"),
        Column("end_to_end_p95_s", "end to end p95", "s"),
        Column("joules_per_token", "energy", "J a token"),
        Column("share_cheapest", "cheapest", "% of draws", scale=100),
    )
    kinds = tuple(NumberClass)
    made = tuple(
        (
            f"device {index} {hostile}".strip(),
            "diffusion" if index % 2 else "autoregressive",
            2**index,
            cell(0.3 + 0.07 * ((index * 5) % 7), kinds[index % 4]),
            cell(None if index == 1 else 2.5 - 0.3 * index, _PROJECTED),
            cell(0.4 + index / 10, _ASSUMED),
            cell(1 / (index + 2), _PROJECTED, spread=None),
        )
        for index in range(rows)
    )
    return DataTable("ranking", "Made-up ways to run made-up devices.", columns, made, 1)


def page(uris: dict[str, str] | None = None, hostile: str = "") -> Page:
    """A page with all of its parts; `hostile` stands wherever a user's words can."""
    summary = Summary(
        answer=f"Rent 2 \N{MULTIPLICATION SIGN} H200 {hostile} running diffusion in fp8: "
        "0.312 USD a million tokens",
        lead=("That is 3,120 USD a month for 40 requests a second; every limit is kept.",),
        figures=tuple(
            KeyFigure(label, amount(made))
            for label, made in (
                ("USD a million tokens", cell(0.312)),
                ("USD a month", cell(3120)),
                ("end to end p95, s", cell(1.9, _MEASURED)),
                ("joules a token", cell(0.44, _ASSUMED)),
                ("correct answers, %", cell(None)),
            )
        ),
        certainty=("Cheapest in 87 % of 10,000 draws; the H100 is in 13 %.",),
        changes=(
            f"An hour of h200 {hostile} above 3.62 USD: the H100 becomes cheapest.",
            "More than 19 steps a canvas: the sibling becomes cheapest.",
        ),
        ranking=table(5, hostile),
        basis="3 measured, 2 published, 24 projected and 9 assumed numbers.",
    )
    sections = tuple(
        Section(name, heading, "How to read it.", (uris or {}).get(name, ""), heading, tables)
        for name, heading, tables in (
            ("throughput", "Throughput against batch", (_renamed("points", 40, hostile),)),
            ("cost", "Cost against latency", (_renamed("costs", 6, hostile),)),
            ("energy", "Energy", ()),
            ("memory", "Memory", ()),
            ("sensitivity", "What matters most", ()),
            ("crossover", "Crossover", ()),
        )
    )
    return Page(
        title=f"Made-up load {hostile}",
        date="2026-01-02",
        summary=summary,
        notices=(
            Notice("Random weights", f"Nothing here says anything about answers. {hostile}", True),
            Notice("Projected", "Most numbers are projected."),
        ),
        sections=sections,
        inputs=_renamed("inputs", 4, hostile),
        definitions=(("delivered tokens", "up to and including the first end token."),),
        provenance=(("inputs", f"made-up.yaml {hostile}"), ("sha256", "0" * 64)),
        raw=f"title: made up {hostile}\n",
    )


def _renamed(name: str, rows: int, hostile: str) -> DataTable:
    made = table(rows, hostile)
    return DataTable(name, f"Made-up {name} {hostile}".strip(), made.columns, made.rows)
