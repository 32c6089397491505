"""The search over tiles, with a step whose time is known."""

import dataclasses
import time
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from bench.cli import app
from bench.tune import Found, Trial, search
from bench.tune.candidates import (
    dense_products,
    dense_tiles,
    expert_tiles,
    gated_tiles,
    head_tiles,
    qkv_products,
    soon_mib,
    soon_qkv,
)
from model.config import preset
from model.kernels.tile_files import file_of, read_table, shipped, table_for, write_table
from model.kernels.tiles import FP8, DenseTiles, GatedTiles, HeadTiles, Tiles, TileTable

CONFIG = preset("diffusiongemma-26b-a4b")
CPU = torch.device("cpu")
FULL = (18 * 512, 2816)
GATED = (4224, 2816)
BEST_DOWN = expert_tiles("down", FP8, 256)[2]
BEST_UP = expert_tiles("gate_up", FP8, 256)[0]  # by_tile
BEST_OUTPUT = dense_tiles(256)[1]
BEST_HEADS = head_tiles(256, 512)[1]
BEST_GATED = gated_tiles(FP8, 256)[0]


def step_ms(table: TileTable) -> float:
    """Ten, less what one choice each gains; one candidate cannot run."""
    up, down = table.for_experts(FP8, 256)
    if up.stages == 2:
        raise RuntimeError("out of resource: shared memory\nmore")
    gained = 0.5 * (down == BEST_DOWN)
    gained += 0.125 * (dataclasses.replace(up, quantise=False) == BEST_UP)
    gained += 0.25 * (table.for_dense(256, 2816, 4096) == BEST_OUTPUT)
    gained += 0.125 * (table.for_qkv(256, *FULL) == BEST_HEADS)
    gained += 0.125 * (table.for_gated(FP8, 256, *GATED) == BEST_GATED)
    gained += 0.125 * up.quantise + 0.125 * (table.for_soon(FP8, 256)[0] == 16 << 20)
    gained += 0.125 * table.for_soon(FP8, 256)[1]
    return 10 - gained - 0.125 * table.for_router(FP8, 256)


def found(seconds: float = 60, seen: list[Trial] | None = None) -> Found:
    until = time.monotonic() + seconds
    into = [] if seen is None else seen
    return search(table_for(CPU), CONFIG, FP8, 256, step_ms, until, into.append)


def test_search_finds_what_is_quicker_and_nothing_else() -> None:
    before, after = table_for(CPU), found()
    assert after.step_ms == pytest.approx(8.375)
    assert after.table.for_experts(FP8, 256)[1] == BEST_DOWN
    assert after.table.for_dense(256, 2816, 4096) == BEST_OUTPUT
    for tokens, channels, depth in ((1, 2816, 4096), (256, 2816, 2112), (256, 4224, 2816)):
        was = before.for_dense(tokens, channels, depth)
        assert after.table.for_dense(tokens, channels, depth) == was
    for dtype, tokens in ((FP8, 1), (FP8, 512), (torch.bfloat16, 256)):
        assert after.table.for_experts(dtype, tokens) == before.for_experts(dtype, tokens)
        assert not after.table.for_router(dtype, tokens)
    assert after.table.for_router(FP8, 256)
    assert after.table.for_qkv(256, *FULL) == BEST_HEADS
    for tokens, channels in ((1, FULL[0]), (512, FULL[0]), (256, 8192)):
        assert after.table.for_qkv(tokens, channels, 2816) is None


def test_search_finds_launches_that_do_more() -> None:
    after = found().table
    assert after.for_experts(FP8, 256)[0] == dataclasses.replace(BEST_UP, quantise=True)
    assert after.for_gated(FP8, 256, *GATED) == BEST_GATED
    assert after.for_soon(FP8, 256) == (16 << 20, True)
    for dtype, tokens in ((FP8, 1), (FP8, 512), (torch.bfloat16, 256)):
        assert not after.for_experts(dtype, tokens)[0].quantise
        assert after.for_gated(dtype, tokens, *GATED) is None
        assert after.for_soon(dtype, tokens) == (0, False)


def test_a_failure_is_a_trial_with_its_reason() -> None:
    seen: list[Trial] = []
    after = found(seen=seen)
    (failed,) = [trial for trial in after.trials if trial.step_ms is None]
    assert failed.what == "experts gate_up"
    assert failed.tiles is not None
    assert failed.tiles["stages"] == 2
    assert failed.error == "out of resource: shared memory"
    assert seen[0] == Trial("so far", None, 10)
    assert tuple(seen[1:]) == after.trials


def test_no_time_left_keeps_the_table() -> None:
    assert found(-1) == Found(table_for(CPU), 10, ())


def test_every_dense_product_is_named_once() -> None:
    assert {name: (n, d) for name, n, d in dense_products(CONFIG)} == {
        "dense gate and up": (4224, 2816),
        "dense down": (2816, 2112),
        "attention output, full": (2816, 8192),
        "attention output, sliding": (2816, 4096),
    }


def test_every_product_of_attention_s_inputs_is_named_once() -> None:
    assert list(qkv_products(CONFIG)) == [
        ("attention inputs, full", 18 * 512, 2816, 512),
        ("attention inputs, sliding", 32 * 256, 2816, 256),
    ]


def test_one_launch_for_heads_is_tried_where_it_fills_a_chip() -> None:
    assert head_tiles(1, 256) == (None,)
    assert None in head_tiles(256, 256)
    assert len(head_tiles(256, 256)) > 1


def test_weights_are_asked_for_where_their_programs_start_with_the_first_experts() -> None:
    by_tile, by_channel = Tiles(by_tile=True), Tiles()
    assert soon_mib(by_channel, 256) == soon_mib(by_tile, 1) == (0,)
    assert soon_qkv(1) == (False,)
    assert set(soon_qkv(256)) == {True, False}
    assert set(soon_mib(by_tile, 256)) == set(soon_mib(Tiles(persistent=132), 256)) > {0, 24}


def test_an_unknown_device_gets_no_launch_that_was_not_timed() -> None:
    table = table_for(CPU)
    gated = [choice for choices in table.gated.values() for choice in choices]
    experts = [choice for choices in table.experts.values() for choice in choices]
    assert not any(choice.tiles for choice in (*table.qkv, *gated))
    assert not any(choice.one_launch or choice.gate_up.quantise for choice in experts)
    assert not any(choice.soon_mib or choice.soon_qkv for choice in experts)


@pytest.mark.parametrize("path", shipped(), ids=lambda path: path.stem)
def test_shipped_tables_read_and_are_written_as_they_are(path: Path, tmp_path: Path) -> None:
    table = read_table(path)
    assert path.stem == "default" or path == file_of(table.device)
    write_table(table, tmp_path / "again.json")
    assert (tmp_path / "again.json").read_text() == path.read_text()


def test_a_new_dense_choice_does_not_catch_others() -> None:
    tiles = DenseTiles(64, 64, 64)
    table = table_for(CPU).with_dense(256, 2816, 2112, tiles)
    assert table.for_dense(256, 2816, 2112) == tiles
    assert table.for_dense(129, 2816, 2112) == tiles
    for shape in ((256, 2816, 4096), (257, 2816, 2112), (128, 2816, 2112), (256, 4224, 2816)):
        assert table.for_dense(*shape) == table_for(CPU).for_dense(*shape)
    other = DenseTiles(32, 32, 32)
    assert table.with_dense(256, 2816, 2112, other).for_dense(256, 2816, 2112) == other
    assert len(table.with_dense(256, 2816, 2112, other).dense) == len(table.dense)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "Expecting"),
        ('{"device": "x", "source": "y", "experts": {}, "dense": []}', "'qkv'"),
        ('{"device": "x", "source": "y", "experts": {}, "dense": [], "qkv": []}', "'gated'"),
        (
            '{"device": "x", "source": "y", "experts": {}, "dense": [], "qkv": [], "gated": {}}',
            "must be bf16 and fp8",
        ),
        (None, "No such file"),
    ],
)
def test_a_file_that_is_no_table_is_named(text: str | None, why: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError, match=rf"bad\.json.*{why}"):
        read_table(path)


def test_persistent_programs_that_would_quantise_are_no_table(tmp_path: Path) -> None:
    table, up = table_for(CPU), Tiles(persistent=132, quantise=True)
    write_table(table.with_experts(FP8, 256, up, Tiles()), tmp_path / "t.json")
    with pytest.raises(ValueError, match="cannot quantise"):
        read_table(tmp_path / "t.json")


@pytest.mark.parametrize("name", ["dense", "qkv"])
def test_a_list_whose_last_choice_is_limited_is_no_table(name: str, tmp_path: Path) -> None:
    table = table_for(CPU).with_qkv(256, *FULL, HeadTiles())
    limited = dataclasses.replace(table, **{name: getattr(table, name)[:-1]})
    write_table(limited, tmp_path / "t.json")
    with pytest.raises(ValueError, match="must have no limit"):
        read_table(tmp_path / "t.json")


def test_a_table_with_every_fused_launch_is_read_as_it_was_written(tmp_path: Path) -> None:
    table = table_for(CPU).with_qkv(256, *FULL, HeadTiles(32, 64, 4)).with_router(FP8, 1, True)
    up, down = table.for_experts(FP8, 256)
    table = table.with_experts(FP8, 256, dataclasses.replace(up, quantise=True), down)
    table = table.with_gated(FP8, 256, *GATED, GatedTiles(32, 64, 64)).with_soon(FP8, 256, 8, True)
    write_table(table, tmp_path / "t.json")
    assert read_table(tmp_path / "t.json") == table
    assert '"one_launch": true' in (tmp_path / "t.json").read_text()


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--precision", "fp32"], "precision 'fp32' has no tiles to tune; valid: bf16, fp8"),
        (["--seconds", "0"], "seconds 0 must be above 0"),
        ([], "tune needs a CUDA device"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], why: str) -> None:
    result = CliRunner().invoke(app, ["tune", *arguments])
    assert isinstance(result.exception, ValueError)
    assert why in str(result.exception)


def test_tiles_keep_their_own_values() -> None:
    table = table_for(CPU).with_experts(FP8, 1, Tiles(16, 64, 64), Tiles(16, 32, 32))
    assert table.for_experts(FP8, 1) == (Tiles(16, 64, 64), Tiles(16, 32, 32))
    assert table.for_experts(FP8, 16) == table_for(CPU).for_experts(FP8, 16)
