"""Every shipped tile, compiled for sm_90a without a GPU, keeps its bars and is as the page says."""

import os
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

triton = pytest.importorskip("triton")

from bench.tune.candidates import head_tiles  # noqa: E402
from model import preset  # noqa: E402
from model.kernels import OP_GROUPS, dense, experts, gated, glue, heads_fused  # noqa: E402
from model.kernels.block import retile  # noqa: E402
from model.kernels.prefetch_jit import THREADS  # noqa: E402
from model.kernels.tile_files import file_of, read_table, shipped  # noqa: E402
from model.kernels.tiles import FP8  # noqa: E402
from model.precision import Precision  # noqa: E402
from tests.kernels import compiled_report, compiling, moved, resources  # noqa: E402
from tests.kernels.passes import denoising  # noqa: E402

PAGE = compiled_report.page_of(triton.__version__)
needs_page = pytest.mark.skipif(not PAGE.exists(), reason=f"no page of Triton {triton.__version__}")
SAMPLE = ("gate_up_kernel", "down_kernel", "combine_quantised", "route_kernel", "settle_rows")


def test_the_pinned_version_has_a_page() -> None:
    lines = (Path(__file__).parents[2] / "constraints.txt").read_text().splitlines()
    (version,) = (one.removeprefix("triton==") for one in lines if one.startswith("triton=="))
    assert compiled_report.page_of(version).exists()


def test_a_denoise_step_compiles_as_published() -> None:
    """The kernels that move most of its bytes, and some small ones, with the H200's tiles."""
    cases = resources.pass_cases(Precision.FP8)
    step = next(case for case in cases if case.user == "nvidia-h200 fp8 denoise")
    found = resources.rows(iter([step]), compiled=SAMPLE)
    assert {row.kernel for row in found} == set(SAMPLE)
    assert not [row for row in found if row.faults]
    assert all(row.resources.waits for row in found if row.kernel != "settle_rows")
    if PAGE.exists():
        published = PAGE.read_text()
        assert not [row for row in found if f"\n{compiled_report.line(row)} " not in published]


@pytest.fixture(scope="module")
def pair() -> compiled_report.Pair:
    return compiled_report.models()


@needs_page
def test_launches_and_bytes_are_as_published(pair: compiled_report.Pair) -> None:
    page = PAGE.read_text()
    assert compiled_report.launch_tables(pair) in page
    assert compiled_report.byte_table(pair) in page


def test_a_layer_is_at_most_twelve_launches_with_every_fused_one(
    pair: compiled_report.Pair,
) -> None:
    table = read_table(file_of(compiled_report.COUNTED_WITH))
    compiled_report.retile_all(pair, compiled_report.with_every_fused_launch(table))
    found = compiled_report.count(pair)
    compiled_report.retile_all(pair, table)
    for passes in found.values():
        assert max(layer.total() for layer in passes["denoise"].a_layer.values()) <= 12


def test_bytes_that_are_asked_for_ahead_count_once(pair: compiled_report.Pair) -> None:
    model, table = pair[Precision.FP8][0], read_table(file_of(compiled_report.COUNTED_WITH))
    before = moved.planned_bytes(model)
    retile(model, table.with_soon(FP8, 256, 24, True))
    after = moved.planned_bytes(model)
    retile(model, table)
    assert after == before


@pytest.mark.parametrize("precision", resources.PRECISIONS)
def test_a_step_plans_at_most_a_twentieth_more_bytes_than_its_floor(
    pair: compiled_report.Pair, precision: Precision
) -> None:
    model = pair[precision][0]
    planned, floor = moved.planned_bytes(model), moved.floor_bytes(model, precision)
    assert 1 < sum(planned.values()) / sum(floor.values()) <= 1.05
    # The floor counts 2 bytes of a weight's scale and of a router's bias; the engine differs.
    assert not {name for name, least in floor.items() if planned[name] < 0.995 * least}


def test_a_kernel_that_passes_over_the_scores_once_more_is_seen(
    pair: compiled_report.Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = pair[Precision.BF16][0]
    before = sum(moved.planned_bytes(model).values())
    sample = model.ops.sample
    wasteful = replace(model.ops, sample=lambda raw, *rest: sample(raw.clone(), *rest))
    monkeypatch.setattr(model, "ops", wasteful)
    more = sum(moved.planned_bytes(model).values()) - before
    assert more == pytest.approx(2 * 2 * 256 * model.config.vocab_size, rel=0.01)


def test_a_step_that_leaves_beliefs_out_asks_the_host_nothing(pair: compiled_report.Pair) -> None:
    """Nothing has data here: a size read back by the host would raise."""
    model = pair[Precision.BF16][0]
    with compiling.launches(compiled=()) as found:
        denoising(model, min_belief=0.001)()
    names = [launch.name for launch in found]
    compact = ["mark_tokens", "pack_tokens", "packed_product", "sum_kernel"]
    assert names[-len(compact) :] == compact
    assert names.count("probabilities") == 1


@pytest.mark.parametrize("batch", [1, 2])
def test_compacted_self_conditioning_keeps_its_bars(batch: int) -> None:
    case = resources.Case("other", partial(resources.compacted_case, batch))
    found = resources.rows(iter([case]))
    assert not [row for row in found if row.faults]
    (product,) = (row for row in found if row.kernel == "packed_product")
    assert product.resources.products == ("m64n256k16 bf16",)


@pytest.mark.parametrize("kind", ["sliding", "full"])
def test_a_product_that_writes_attention_s_inputs_keeps_its_bars(kind: str) -> None:
    """The candidate that `canvasbench tune` tries first; the page has all."""
    tiles = head_tiles(256, preset(resources.DIFFUSION).attention(kind).head_dim)[0]
    case = resources.Case("tune", partial(resources.qkv_case, 256, kind, tiles))
    (row,) = resources.rows(iter([case]))
    assert row.kernel == "qkv_kernel"
    assert not row.faults
    assert row.resources.bulk_copies
    assert row.resources.waits


@pytest.mark.parametrize("dtype", [FP8, torch.bfloat16], ids=str)
def test_expert_weights_are_asked_for_before_the_wait_and_no_others(dtype: torch.dtype) -> None:
    with compiling.launches() as found:
        resources.soon_case(dtype, 24)
        resources.soon_case(dtype, 0)
    asked, plain = (launch.options["PIECE_BYTES"] * THREADS * 256 for launch in found)
    assert (asked, plain) == (24 << 20, 0)
    ptx = found[0].binary.asm["ptx"]
    assert ptx.index("bulk.prefetch.L2") < ptx.index("griddepcontrol.wait")
    assert "bulk.prefetch" not in found[1].binary.asm["ptx"]
    assert not compiling.inspect(found[0].binary).spills


@pytest.mark.parametrize(
    ("rows", "size_bytes", "asked_bytes"),
    [(256, 1 << 20, 1 << 20), (256, 1 << 40, 10_000_000), (1, 1 << 40, 524_288), (256, 9000, 0)],
    ids=["so many", "no more than there are", "no more than a thread may", "too few to share"],
)
def test_no_more_is_asked_for_than_there_is(rows: int, size_bytes: int, asked_bytes: int) -> None:
    weights = torch.empty(10_000_000, dtype=torch.uint8, device="meta")
    with compiling.launches(compiled=()):
        asked = glue._piece_bytes(weights, size_bytes, rows) * THREADS * rows
    assert asked <= asked_bytes < asked + 16 * THREADS * rows or asked == asked_bytes == 0


@needs_page
def test_the_page_has_every_kernel_and_no_fault() -> None:
    rows = [one for one in PAGE.read_text().split("## Launches")[0].splitlines() if "| " in one]
    assert {one.split(" | ")[0].strip("| ") for one in rows} - {"kernel"} == set(OP_GROUPS)
    assert "FAULT" not in PAGE.read_text()


@pytest.mark.parametrize("precision", resources.PRECISIONS)
def test_passes_use_every_tile_of_every_table(precision: Precision) -> None:
    """So the page, which is made of them, has all."""
    launched: dict[str, list[compiling.Launch]] = {}
    for case in resources.pass_cases(precision):
        with compiling.launches(compiled=()) as found:
            case.run()
        launched.setdefault(case.user.split()[0], []).extend(found)
    assert set(launched) == {path.stem for path in shipped()}
    for path in shipped():
        table, used = read_table(path), launched[path.stem]
        wanted = [("gate_up_kernel", experts._meta(c.gate_up)) for c in table.experts[precision]]
        wanted += [("down_kernel", experts._meta(c.down)) for c in table.experts[precision]]
        if precision is Precision.FP8:
            chosen = [choice.tiles for choice in table.dense if choice.tiles is not None]
            wanted += [("linear_kernel", dense._meta(tiles)) for tiles in chosen]
            heads = [choice.tiles for choice in table.qkv if choice.tiles is not None]
            wanted += [("qkv_kernel", heads_fused._meta(tiles)) for tiles in heads]
        made = [choice.tiles for choice in table.gated[precision] if choice.tiles is not None]
        wanted += [("gated_kernel", gated._meta(tiles)) for tiles in made]
        if any(choice.one_launch for choice in table.experts[precision]):
            wanted.append(("route_and_sort_kernel", {}))
        for kernel, tile in wanted:
            options = [one.options.items() for one in used if one.name == kernel]
            assert any(tile.items() <= each for each in options), f"{path.stem}: {kernel} {tile}"


GOOD = compiling.Resources(128, 0, 1024, ("m64n32k32 e4m3",), True, True, "sm_90a")
OPTIONS = {"FP8": True, "TMA": True, "OVERLAP": True}


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({}, None),
        ({"spills": 1}, "1 spills"),
        ({"shared_bytes": 232449}, "232449 bytes of shared memory"),
        ({"products": ()}, "products are missing, not native e4m3"),
        ({"products": ("m64n32k16 f16",)}, "products are m64n32k16 f16, not native e4m3"),
        (
            {"products": ("m64n32k32 e4m3", "mma.sync m16n8k16 f16")},
            "products are m64n32k32 e4m3, mma.sync m16n8k16 f16, not native e4m3",
        ),
        ({"bulk_copies": False}, "no TMA"),
        ({"waits": False}, "griddepcontrol is missing"),
        ({"target": "sm_90"}, "compiled for sm_90"),
    ],
)
def test_a_bar_that_is_not_kept_is_named(changed: dict[str, Any], fault: str | None) -> None:
    launch = compiling.Launch("down_kernel", (), OPTIONS, None)
    found = compiling.Resources(**{**vars(GOOD), **changed})
    assert list(resources._faults(launch, found)) == ([] if fault is None else [fault])


def test_products_are_read_from_ptx() -> None:
    ptx = """
    wgmma.mma_async.sync.aligned.m64n32k32.f32.e4m3.e4m3 {%r1}, %rd1, %rd2, 1, 1, 1;
    mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f1}, {%r1}, {%r2}, {%f1};
    """
    assert compiling._products(ptx) == ("m64n32k32 e4m3", "mma.sync m16n8k16 bf16")


@pytest.mark.slow
def test_all_kernels_compile_as_published(tmp_path: Path) -> None:
    """In a process of its own, with an empty cache of binaries."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.kernels.compiled_report"],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "TRITON_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 or (not PAGE.exists() and " 0 faults" in done.stdout), (
        done.stdout[-6000:] + done.stderr[-2000:]
    )


@pytest.mark.slow
def test_a_tile_that_spills_is_found() -> None:
    """256 rows of 128 gate and 128 up channels are more than four warps can hold."""
    tiles = resources.experts.Tiles(256, 128, 64, 4, 2)
    case = resources.Case("planted", lambda: resources._experts(256, resources.FP8, (tiles, tiles)))
    (row,) = resources.rows(iter([case]), compiled=("gate_up_kernel",))
    assert any("spills" in fault for fault in row.faults)
