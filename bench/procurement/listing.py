"""The tables of a procurement report, from a study: each for the page, for parquet and for CSV."""

import math
from dataclasses import replace

from bench.digits import tidy
from bench.procurement.cell import Cell
from bench.procurement.fleet import SAFE_SHARE
from bench.procurement.inputs import Inputs
from bench.procurement.listing_beside import crossings, published, replies
from bench.procurement.study import Finalist, Judged, Study
from bench.procurement.tables import Column, DataTable, Value
from bench.procurement.words import key_words

_LATENCIES = (
    ("first_canvas_p95_s", "first delivery p95", "s"),
    ("canvas_gap_p95_s", "gap p95", "s"),
    ("end_to_end_p95_s", "end to end p95", "s"),
)
NEEDED = "devices_needed"
"""Key of the column with the fleet that the stated numbers ask for."""
_WHO = (
    Column("offer", "offer", is_text=True),
    Column("run_as", "run as", is_text=True),
    Column("decoding", "decoding", is_text=True, on_page=False),
    Column("precision", "precision", is_text=True, on_page=False),
    Column("batch_size", "batch", on_page=False),
)


def tables(study: Study) -> list[DataTable]:
    """Every table but that of the inputs, in the page's order."""
    return [
        ranking(study),
        ways(study),
        energy(study),
        memory(study),
        sensitivity(study),
        crossings(study),
        replies(study),
        published(study),
    ]


def ranking(study: Study) -> DataTable:
    """The best ways, cheapest first, the recommended one marked."""
    currency = study.inputs.currency
    has_load = study.inputs.load is not None
    columns = (
        *_WHO,
        Column("devices", "devices", on_page=has_load, is_count=True),
        Column(NEEDED, "as stated it takes", "devices", on_page=has_load, is_count=True),
        Column("cost_per_month", "cost", f"{currency} a month", on_page=has_load),
        Column("cost_per_mtok", "cost", f"{currency} a million tokens"),
        Column("end_to_end_p95_s", "end to end p95", "s", on_page=_has_times(study.inputs)),
        Column("joules_per_token", "energy", "J a token", on_page=not has_load),
        _served_column(study.inputs),
        Column("share_cheapest", "cheapest", "% of draws", scale=100, on_page=has_load),
        Column("is_recommended", "recommended", on_page=False),
        Column("decided_by", "size decided by", is_text=True, on_page=False),
    )
    rows = tuple(_ranking_row(each, is_best=each is study.best) for each in study.finalists)
    caption = "The cheapest way to run each offer in each decoding, of those that keep every limit."
    if has_load:
        caption = (
            "The cheapest way to run each offer in each decoding that keeps every limit in at "
            f"least {tidy(100 * SAFE_SHARE)} % of draws, or just the cheapest where none does, by "
            f"the fleet that is enough in {tidy(100 * SAFE_SHARE)} % of draws, if any is. The "
            "cheapest of all stands first in any case. Draws in which several cost the same are "
            "split among them."
        )
    chosen = next((i for i, each in enumerate(study.finalists) if each is study.best), None)
    return DataTable("ranking", caption, columns, rows, chosen)


def _ranking_row(finalist: Finalist, *, is_best: bool) -> tuple[Value, ...]:
    judged, fleet = finalist.judged, finalist.fleet
    times = judged.times
    return (
        *_who(judged),
        None if fleet is None else fleet.devices,
        None if fleet is None else _briefly(fleet.needed),
        None if fleet is None else fleet.cost_per_month,
        judged.cells["cost_per_mtok"] if fleet is None else _briefly(fleet.cost_per_mtok),
        times.end_to_end_p95_s,
        judged.cells["joules_per_token"],
        finalist.share_served,
        finalist.share_cheapest,
        is_best,
        None if fleet is None else fleet.decided_by or None,
    )


def _has_times(inputs: Inputs) -> bool:
    """Whether how long a request takes plays a part."""
    return inputs.load is not None or inputs.latency.is_stated


def _served_column(inputs: Inputs) -> Column:
    """Of draws in which the fleet serves in time; without a load, a request of a full batch."""
    name = "keeps limits" if inputs.load is None else "serves"
    return Column("share_served", name, "% of draws", scale=100, on_page=_has_times(inputs))


def _briefly(cell: Cell) -> Cell:
    """Without the reason why there is no interval, which the month's cost states already."""
    return replace(cell, why_no_interval="no interval" if cell.why_no_interval else "")


def ways(study: Study) -> DataTable:
    """Every way that fits its device, with what it costs, takes and keeps."""
    currency = study.inputs.currency
    has_load = study.inputs.load is not None
    costs = (
        Column(
            "cost_per_mtok",
            "cost at the stated utilisation" if has_load else "cost",
            f"{currency} a million tokens",
            on_page=not has_load,
        ),
        Column("cost_per_correct_answer", "cost", f"{currency} a correct answer", on_page=False),
    )
    energies = (
        Column("joules_per_token", "energy", "J a token", on_page=False),
        Column("site_joules_per_token", "energy, site", "J a token", on_page=False),
        Column("tok_per_s_per_w", "rate", "tok/s a watt", on_page=False),
        Column("tok_per_s_per_rack_unit", "rate", "tok/s a rack unit", on_page=False),
    )
    columns = (
        *_WHO,
        Column("class", "class", is_text=True, on_page=False),
        Column("delivered_tok_per_s", "delivered", "tok/s"),
        Column("devices", "devices", on_page=has_load, is_count=True),
        Column("fleet_cost_per_mtok", "cost", f"{currency} a million tokens", on_page=has_load),
        *costs,
        *(Column(key, name, unit) for key, name, unit in _LATENCIES),
        Column("is_allowed", "keeps every limit as stated"),
        _served_column(study.inputs),
        Column("decided_by", "size decided by", is_text=True, on_page=False),
        Column("reasons", "why not", is_text=True, on_page=False),
        *energies,
        Column("accuracy", "accuracy", "%", scale=100, on_page=False),
        Column("steps", "steps", on_page=False),
        Column("prompt_tokens", "prompt", "tokens", on_page=False),
        Column("reply_tokens", "reply", "tokens", on_page=False),
        Column("op_floor_tok_per_s", "op floor", "tok/s", on_page=False),
        Column("streaming_floor_tok_per_s", "streaming floor", "tok/s", on_page=False),
        Column("source", "source", is_text=True, on_page=False),
        Column("notes", "notes", is_text=True, on_page=False),
    )
    rows = []
    for judged in study.judged:
        point, times = judged.way.point, judged.times
        rows.append(
            (
                *_who(judged),
                str(point.kind),
                point.system_tok_per_s,
                None if judged.fleet is None else judged.fleet.devices,
                None if judged.fleet is None else judged.fleet.cost_per_mtok,
                *(judged.cells[column.key] for column in costs),
                *(getattr(times, key) for key, _, _ in _LATENCIES),
                judged.is_allowed,
                judged.share_served if judged.is_allowed else None,
                None if judged.fleet is None else judged.fleet.decided_by or None,
                "; ".join(judged.reasons) or None,
                *(judged.cells[column.key] for column in energies),
                point.accuracy,
                point.steps,
                point.prompt_tokens,
                point.reply_tokens,
                point.op_floor_tok_per_s,
                point.streaming_floor_tok_per_s,
                point.source,
                "; ".join(point.notes) or None,
            )
        )
    caption = "Every way to run every offer."
    if has_load:
        caption += (
            " A way keeps every limit as stated where it does at its own numbers; it may be "
            f"recommended where its fleet serves in {tidy(100 * SAFE_SHARE)} % of draws."
        )
    return DataTable("ways", caption, columns, tuple(rows))


def energy(study: Study) -> DataTable:
    """Energy and density of the finalists."""
    keys = (
        ("joules_per_token", "device", "J a token"),
        ("site_joules_per_token", "site", "J a token"),
        ("tok_per_s_per_w", "rate", "tok/s a watt"),
        ("tok_per_s_per_rack_unit", "density", "tok/s a rack unit"),
    )
    columns = (*_WHO, *(Column(key, name, unit) for key, name, unit in keys))
    rows = tuple(
        (*_who(each.judged), *(each.judged.cells[key] for key, _, _ in keys))
        for each in study.finalists
    )
    return DataTable("energy", "Energy of the same ways.", columns, rows)


def memory(study: Study) -> DataTable:
    """What each finalist holds, and what is left, in GB."""
    names = (
        ("weights_bytes", "weights"),
        ("kv_bytes", "keys and values"),
        ("canvas_bytes", "canvases"),
        ("library_bytes", "overhead"),
        ("memory_bytes", "device"),
        ("head_room_bytes", "left"),
    )
    columns = (
        *_WHO,
        *(
            Column(key, name, "GB", scale=1e-9, is_bare=key == "memory_bytes")
            for key, name in names
        ),
    )
    rows = tuple(
        (*_who(each.judged), *(getattr(each.judged.way.memory, key, None) for key, _ in names))
        for each in study.finalists
    )
    return DataTable("memory", "Memory of the same ways, every row full.", columns, rows)


def sensitivity(study: Study) -> DataTable:
    """The tornado: a row a number that moves the cost."""
    unit = cost_unit(study.inputs)
    columns = (
        Column("number", "number", is_text=True),
        Column("key", "key", is_text=True, on_page=False),
        Column("unit", "unit", is_text=True),
        Column("low", "low"),
        Column("value", "value"),
        Column("high", "high"),
        Column("is_assumed_change", "range is a tenth either way", on_page=False),
        Column("cost_low", "cost at low", unit),
        Column("cost_high", "cost at high", unit),
        Column("switches_at", "answer changes at"),
        Column("becomes", "then recommended", is_text=True),
    )
    found = tuple(each.judged.way for each in study.finalists)
    rows = tuple(
        (
            key_words(bar.key, study.inputs, found),
            bar.key,
            bar.unit,
            bar.low,
            bar.value,
            bar.high,
            bar.is_assumed_change,
            _finite(bar.cost_low),
            _finite(bar.cost_high),
            bar.switches_at,
            swing.becomes or None,
        )
        for swing in study.swings
        for bar in [swing.bar]
    )
    caption = "One number moved at a time; a cost is n/a where nothing can serve the load."
    return DataTable("sensitivity", caption, columns, rows)


def cost_unit(inputs: Inputs) -> str:
    """Of what ways are ranked by."""
    per = "a million tokens" if inputs.load is None else "a month"
    return f"{inputs.currency} {per}"


def _who(judged: Judged) -> tuple[Value, ...]:
    point = judged.way.point
    run_as = f"{point.decoding} {point.precision}, batch {point.batch_size}"
    who = judged.way.offer.label, run_as, point.decoding, point.precision, point.batch_size
    return who


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
