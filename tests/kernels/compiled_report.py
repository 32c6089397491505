"""`python -m tests.kernels.compiled_report --write`: what every kernel is on sm_90a, as a page.

The page of the installed Triton lies in `tests/kernels/compiled`; without `--write` it is made anew
and compared. Fails where a kernel does not keep its bars. Takes minutes and no GPU.
"""

import difflib
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import torch
import triton

from bench.tune.candidates import gated_tiles, head_tiles, qkv_products
from model import preset
from model.kernels.block import retile
from model.kernels.tile_files import file_of, read_table, shipped
from model.kernels.tiles import FP8, TileTable
from model.precision import Precision
from tests.kernels.compiling import SHARED_LIMIT_BYTES
from tests.kernels.launches import Counted, Kernel, counted
from tests.kernels.moved import floor_bytes, planned_bytes
from tests.kernels.passes import CONTEXT, fused, passes
from tests.kernels.resources import AUTOREGRESSIVE, DIFFUSION, PRECISIONS, Row, cases, rows

FOLDER = Path(__file__).parent / "compiled"
COUNTED_WITH = "NVIDIA H200"


def page_of(version: str) -> Path:
    """Where the page of a version of Triton belongs."""
    return FOLDER / f"triton-{version}.md"


def main() -> int:
    found = rows(cases())
    pair = models()
    page = f"{resource_table(found)}\n{launch_tables(pair)}\n{byte_table(pair)}"
    path = page_of(triton.__version__)
    if "--write" in sys.argv:
        FOLDER.mkdir(exist_ok=True)
        path.write_text(page)
    before = path.read_text() if path.exists() else ""
    changed = list(difflib.unified_diff(before.splitlines(), page.splitlines(), lineterm="", n=0))
    faults = [f"{row.kernel} {row.tile}: {', '.join(row.faults)}" for row in found if row.faults]
    print("\n".join([*changed, *faults, f"{len(found)} rows, {len(faults)} faults, {path}"]))
    return 1 if changed or faults else 0


_HEAD = """\
# Kernels compiled for sm_90a by Triton {version}

Made and compared by `python -m tests.kernels.compiled_report`, without a GPU: every kernel of
`model/kernels` at the released pair's sizes, batch 1, as a launch on a Hopper GPU compiles it, with
every shipped table of tiles and every tile that `canvasbench tune` may choose.

Bars: no spills; at most {limit:,} bytes of shared memory; products of the experts and dense ones
native wgmma (of e4m3 in fp8); TMA where the tile asks for it; griddepcontrol where launches
overlap. {rows} rows, {faulty} with a fault.

regs: registers a thread; spills: STL and LDL instructions; smem: bytes of shared memory; waits:
griddepcontrol. Used by: pass, `tune` (a candidate), `other` (no pass of the pair).

| kernel | tile | regs | spills | smem | products | TMA | waits | used by |
|---|---|---|---|---|---|---|---|---|
"""
_LAUNCHES = """\
## Launches

With the tiles of {device}, batch 1, {context:,} positions cached, a step as a CUDA graph holds it
(copies into and out of the graph are not in it). Kernels named `torch` are torch's own, its
products cuBLAS's; each counts once, though some are more on a GPU.

A denoise step of {sliding} sliding and {full} full layers; elsewhere: before, after, and what the
first layer has besides. "Every fused launch": with all that `canvasbench tune` may turn on, which
nothing has timed yet: q/k/v product with norms, rotation and cache; routing with the sort;
the experts' and the dense MLP's hidden rows made and quantised by the product before them.

"""
_BYTES = """\
## Bytes

What the kernels of a denoise step are given to read and write, batch 1, {context:,} positions
cached: expert weights by the share that uniform routing touches, small tensors where the
second-level cache cannot hold them (`tests/kernels/moved.py`). The floor is the least that the step
has to move (`model/work.py`).

"""


def resource_table(found: Mapping[Row, set[str]]) -> str:
    """The page's first part: one line a kernel, tile and outcome."""
    head = _HEAD.format(
        version=triton.__version__,
        limit=SHARED_LIMIT_BYTES,
        rows=len(found),
        faulty=sum(bool(row.faults) for row in found),
    )
    return head + "".join(f"{line(row)} {users(found[row])} |\n" for row in found)


def line(row: Row) -> str:
    """A row without its users."""
    one = row.resources
    products = ", ".join(one.products) or "-"
    yes = {True: "yes", False: "-"}
    fault = f" FAULT: {', '.join(row.faults)}" if row.faults else ""
    numbers = f"{one.registers} | {one.spills} | {one.shared_bytes}"
    return (
        f"| {row.kernel} | {row.tile}{fault} | {numbers} | "
        f"{products} | {yes[one.bulk_copies]} | {yes[one.waits]} |"
    )


def users(names: Iterable[str]) -> str:
    """`fp8 denoise, commit; bf16 decode (default)`: tables are named where not all use a row."""
    tables: dict[tuple[str, str], set[str]] = defaultdict(set)
    every = {path.stem for path in shipped()}
    plain = {name for name in names if " " not in name}
    for name in set(names) - plain:
        table, precision, what = name.split(" ", 2)
        tables[precision, what].add(table)
    by_precision: dict[str, list[str]] = defaultdict(list)
    for (precision, what), used in sorted(tables.items(), key=lambda item: _order(item[0])):
        one = f" ({', '.join(sorted(used))})" if used != every else ""
        by_precision[precision].append(what + one)
    parts = [f"{precision} {', '.join(each)}" for precision, each in by_precision.items()]
    return "; ".join([*parts, *sorted(plain)])


def _order(key: tuple[str, str]) -> tuple[str, str, int]:
    precision, what = key
    name, _, number = what.partition(" ")
    return precision, name, int(number or 0)


Pair = Mapping[Precision, tuple[Any, Any]]
"""The diffusion and the autoregressive model, without data, by precision."""


def models() -> Pair:
    """Those that are counted, with the tiles of a device that was measured."""
    pair = {
        precision: (fused(DIFFUSION, precision), fused(AUTOREGRESSIVE, precision))
        for precision in PRECISIONS
    }
    retile_all(pair, read_table(file_of(COUNTED_WITH)))
    return pair


def retile_all(pair: Pair, table: TileTable) -> None:
    """Gives all of them other tiles."""
    for both in pair.values():
        for model in both:
            retile(model, table)


def with_every_fused_launch(table: TileTable) -> TileTable:
    """What `canvasbench tune` makes of a table if all of them are quicker."""
    config = preset(DIFFUSION)
    tokens = config.canvas_length or 1
    for _, channels, depth, size in qkv_products(config):
        table = table.with_qkv(tokens, channels, depth, head_tiles(tokens, size)[0])
    gated = 2 * config.dense_hidden_size, config.hidden_size
    for dtype, count in product((FP8, torch.bfloat16), (1, tokens)):
        table = table.with_router(dtype, count, True)
        table = table.with_gated(dtype, count, *gated, gated_tiles(dtype, count)[0])
        up, down = table.for_experts(dtype, count)
        table = table.with_experts(dtype, count, replace(up, quantise=dtype == FP8), down)
    return table


Passes = Mapping[Precision, Mapping[str, Counted]]


def count(pair: Pair) -> Passes:
    """Launches by precision and pass."""
    found = {}
    for precision, both in pair.items():
        runs = passes(*both)
        found[precision] = {
            name: counted(both[name == "decode"], runs[name])
            for name in ("denoise", "commit", "fused", "decode")
        }
    return found


def launch_tables(pair: Pair) -> str:
    """The page's second part: launches of a layer and of a step, and of each pass."""
    table = read_table(file_of(COUNTED_WITH))
    passes_of = count(pair)
    retile_all(pair, with_every_fused_launch(table))
    fewest = count(pair)
    retile_all(pair, table)
    kinds = preset(DIFFUSION).layer_types
    head = _LAUNCHES.format(
        device=COUNTED_WITH,
        context=CONTEXT,
        sliding=kinds.count("sliding"),
        full=kinds.count("full"),
    )
    columns = [f"{each}{how}" for each in passes_of for how in ("", ", every fused launch")]
    lines = [
        *_step_table(passes_of, fewest, kinds),
        "",
        f"| a pass | {' | '.join(columns)} |",
        "|---" * (1 + len(columns)) + "|",
    ]
    for name in ("denoise", "commit", "fused", "decode"):
        totals = [str(of[p][name].whole.total()) for p in pair for of in (passes_of, fewest)]
        lines.append(f"| {name} | {' | '.join(totals)} |")
    return head + "\n".join([*lines, ""])


def byte_table(pair: Pair) -> str:
    """The page's last part: bytes that a denoise step plans to move, by op group."""
    planned = {precision: planned_bytes(both[0]) for precision, both in pair.items()}
    floors = {precision: floor_bytes(both[0], precision) for precision, both in pair.items()}
    heads = [name for each in pair for name in (f"{each} planned", "floor", "planned / floor")]
    lines = [f"| MB of | {' | '.join(heads)} |", "|---" * (1 + len(heads)) + "|"]
    groups = {name for each in (*planned.values(), *floors.values()) for name in each}
    for group in (*sorted(groups), "**all**"):
        cells = []
        for precision in pair:
            moved, least = (
                sum(each.values()) if group == "**all**" else each.get(group, 0)
                for each in (planned[precision], floors[precision])
            )
            ratio = f"{moved / least:.3f}" if least else "-"
            cells += [f"{moved / 1e6:,.1f}", f"{least / 1e6:,.1f}", ratio]
        lines.append(f"| {group} | {' | '.join(cells)} |")
    return _BYTES.format(context=CONTEXT) + "\n".join([*lines, ""])


def _step_table(passes_of: Passes, fewest: Passes, kinds: tuple[str, ...]) -> list[str]:
    columns, least = _step_columns(passes_of, kinds), _step_columns(fewest, kinds)
    heads = [
        name
        for precision in passes_of
        for name in (f"{precision} sliding layer", "full layer", "elsewhere", "step")
    ]
    lines = [f"| group | kernel | {' | '.join(heads)} |", "|---" * (2 + len(heads)) + "|"]
    named = sorted({kernel for column in columns for kernel in column})
    for group in dict.fromkeys(kernel.group for kernel in named):
        members = [kernel for kernel in named if kernel.group == group]
        lines += [_line(group, kernel.name, [c[kernel] for c in columns]) for kernel in members]
    for group in dict.fromkeys(kernel.group for kernel in named):
        sums = [sum(n for kernel, n in c.items() if kernel.group == group) for c in columns]
        lines.append(_line(f"**{group}**", "all", sums))
    return [
        *lines,
        _line("**all**", "", [column.total() for column in columns]),
        _line("**all**", "every fused launch", [column.total() for column in least]),
    ]


def _step_columns(passes_of: Passes, kinds: tuple[str, ...]) -> list[Counter[Kernel]]:
    columns: list[Counter[Kernel]] = []
    for step in (each["denoise"] for each in passes_of.values()):
        columns += [step.a_layer["sliding"], step.a_layer["full"]]
        columns += [step.elsewhere(kinds), step.whole]
    return columns


def _line(group: str, name: str, numbers: list[int]) -> str:
    return f"| {group} | {name} | {' | '.join(str(n) if n else '-' for n in numbers)} |"


if __name__ == "__main__":
    sys.exit(main())
