"""Tables beside the ranking: crossovers, reply lengths, published figures and the inputs."""

from collections.abc import Sequence

from bench.procurement.cell import Cell, NumberClass
from bench.procurement.distribution import Distribution, mean, words
from bench.procurement.inputs import Inputs, Offer
from bench.procurement.study import Study
from bench.procurement.tables import Column, DataTable, Value
from bench.procurement.ways import lengths
from bench.procurement.words import device_label


def crossings(study: Study) -> DataTable:
    """Where the autoregressive sibling overtakes, by metric, device, precision, context, steps."""
    columns = (
        Column("device", "device", is_text=True),
        Column("precision", "precision", is_text=True),
        Column("prompt_tokens", "prompt", "tokens"),
        Column("steps", "steps", "a canvas"),
        Column("metric", "by", is_text=True),
        Column("batch_size", "overtakes at", "requests at once"),
        Column("no_crossing_share", "resamples without", "%", scale=100),
        Column("outcome", "outcome", is_text=True),
        Column("from_batch", "from batch", on_page=False),
        Column("to_batch", "to batch", on_page=False),
        Column("reply_tokens", "reply", "tokens", on_page=False),
    )
    rows = tuple(
        (
            device_label(each.device),
            each.precision,
            each.prompt_tokens,
            each.steps,
            {"delivered_tok_per_s": "tok/s", "joules_per_token": "J a token"}[each.metric],
            each.batch_size,
            each.no_crossing_share,
            each.outcome,
            *each.range,
            each.reply_tokens,
        )
        for each in study.crossings
    )
    caption = (
        "The batch from which on the autoregressive sibling delivers more, or takes less energy; "
        "n/a: none in the range looked at, which is that of the batches that fit the device."
    )
    if any(offer.power_w is not None for offer in study.inputs.offers):
        caption += " Energy is that of the projected power here, not of a stated one."
    return DataTable("crossings", caption, columns, rows)


def replies(study: Study) -> DataTable:
    """Reply lengths that the autoregressive sibling answers sooner, one request at a time."""
    columns = (
        Column("device", "device", is_text=True),
        Column("precision", "precision", is_text=True),
        Column("prompt_tokens", "prompt", "tokens"),
        Column("steps", "steps", "a canvas"),
        Column("tokens", "sooner up to", "tokens"),
        Column("windows", "sooner at lengths", is_text=True),
    )
    rows = tuple(
        (
            device_label(each.device),
            each.precision,
            each.prompt_tokens,
            each.steps,
            each.length.tokens,
            ", ".join(f"{first:,} to {last:,}" for first, last in each.length.windows) or "none",
        )
        for each in study.replies
    )
    caption = "Replies that the autoregressive sibling has finished sooner, one request at a time."
    return DataTable("replies", caption, columns, rows)


def published(study: Study) -> DataTable:
    """What others published about the offered devices; a check, not a part of any number above."""
    columns = (
        Column("device", "device", is_text=True),
        Column("engine", "engine", is_text=True),
        Column("precision", "precision", is_text=True),
        Column("decoding", "decoding", is_text=True),
        Column("drafter", "drafted by", is_text=True),
        Column("batch_size", "batch"),
        Column("value", "published"),
        Column("unit", "unit", is_text=True),
        Column("definition", "definition", is_text=True),
        Column("steps", "steps", on_page=False),
        Column("tag", "read", is_text=True, on_page=False),
    )
    rows = tuple(
        (
            each.device_label,
            each.engine,
            each.precision,
            each.decoding,
            each.drafter,
            each.batch_size,
            each.cell,
            each.unit,
            each.definition,
            each.steps,
            each.tag,
        )
        for each in study.published
    )
    caption = (
        "Published by others about the offered devices, each by its own definition and work; no "
        "number above is made of them. What drafts tokens for others to be verified (multi-token "
        "prediction, MTP) is another way to run than any above."
    )
    return DataTable("published", caption, columns, rows)


def inputs_table(inputs: Inputs) -> DataTable:
    """Every number of the inputs file with its class and source."""
    columns = (
        Column("input", "input", is_text=True),
        Column("of", "of", is_text=True),
        Column("value", "value", is_count=True),
        Column("unit", "unit", is_text=True),
        Column("source", "source", is_text=True),
    )
    top = [("power price", inputs.power_price_per_kwh), ("PUE", inputs.pue)]
    rows = [_input_row(name, "all", cell) for name, cell in top if cell is not None]
    rows += [_input_row(name, of, cell) for name, of, cell in _load_numbers(inputs)]
    for offer in inputs.offers:
        rows += [
            _input_row(name, offer.label, cell)
            for name, cell in _offer_numbers(offer)
            if cell is not None
        ]
    rows += [
        _input_row(name, "limits", _assumed(value, unit, ""))
        for name, value, unit in (
            ("limit of the first delivery", inputs.latency.first_canvas_s, "s"),
            ("limit of a gap", inputs.latency.canvas_gap_s, "s"),
            ("limit end to end", inputs.latency.end_to_end_s, "s"),
            ("least accuracy", inputs.quality.accuracy_floor, "share"),
        )
        if value is not None
    ]
    return DataTable("inputs", "The inputs.", columns, tuple(rows))


def _load_numbers(inputs: Inputs) -> list[tuple[str, str, Cell]]:
    """What is asked of the fleet, and the lengths that every projection rests on."""
    load, (prompt, reply) = inputs.load, lengths(inputs)
    unstated = "not stated; a measured way stands at its own"
    if load is None:
        return [
            ("prompt, mean", "projections", _assumed(prompt, "tokens", unstated)),
            ("reply, mean", "projections", _assumed(reply, "tokens", unstated)),
        ]
    found = [
        ("requests a second", "the load", load.requests_per_s),
        ("requests at once, mean", "the load", _mean_of(load.concurrency, "requests")),
        ("denoise steps a canvas", "the load", load.steps_per_canvas),
        ("reply, mean", "the load", _mean_of(load.reply_tokens, "tokens")),
        ("prompt, mean", "the load", _mean_of(load.prompt_tokens, "tokens")),
    ]
    if load.prompt_tokens is None:
        found.append(("prompt, mean", "projections", _assumed(prompt, "tokens", unstated)))
    return [(name, of, cell) for name, of, cell in found if cell is not None]


def _mean_of(distribution: Distribution | None, unit: str) -> Cell | None:
    if distribution is None:
        return None
    return _assumed(mean(distribution), unit, f"stated as: {words(distribution)}")


def _assumed(value: float, unit: str, source: str) -> Cell:
    return Cell(value, None, None, NumberClass.ASSUMED, unit, "as stated", source)


def _offer_numbers(offer: Offer) -> Sequence[tuple[str, Cell | None]]:
    return (
        ("price of an hour", offer.price_per_hour),
        ("purchase price", offer.purchase_price),
        ("years of use", offer.amortisation_years),
        ("host power", offer.host_power_w),
        ("idle power", offer.idle_power_w),
        ("power under load", offer.power_w),
        ("rack units", offer.rack_units),
        ("utilisation", offer.utilisation),
    )


def _input_row(name: str, of: str, cell: Cell) -> tuple[Value, ...]:
    return name, of, cell, cell.unit, cell.source or None
