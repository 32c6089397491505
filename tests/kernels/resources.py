"""Every kernel of `model.kernels` at every shipped tile, compiled for sm_90a.

Shipped tiles are those of the tables in `model/kernels/tuned`, of attention's rules and of the
launches of the other kernels; all passes of the released pair use them. What `canvasbench tune` may
choose is compiled as well, and the kernels that no pass of the pair launches.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import zip_longest
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bench.tune.candidates import (
    dense_products,
    dense_tiles,
    expert_tiles,
    gated_tiles,
    head_tiles,
    soon_mib,
)
from model import preset
from model.kernels import (
    attention,
    compacted,
    dense,
    experts,
    gated,
    glue,
    heads_fused,
    routing,
    sampler,
)
from model.kernels.block import retile
from model.kernels.tile_files import read_table, shipped
from model.kernels.tiles import FP8
from model.masks import Sight
from model.precision import Precision
from tests.kernels.compiling import SHARED_LIMIT_BYTES, Launch, Resources, inspect, launches
from tests.kernels.passes import META, Run, fused, passes

DIFFUSION, AUTOREGRESSIVE = "diffusiongemma-26b-a4b", "gemma-4-26b-a4b"
PRECISIONS = (Precision.FP8, Precision.BF16)
_CONFIG = preset(DIFFUSION)
_LAYERS = ("sliding", "full", "sliding", "full")  # a first one, one of each kind, a last one
_TOKENS = (1, 32, 64, 256, 512, 1024)
# Sizes of the model, and what is no choice: not part of a tile.
_SIZES = (
    "NUM_EXPERTS D F G N R TOP_K EXPERTS_POW2 TILES_POW2 TOP_K_POW2 VALUE_AT HALF BEGUN PADDED"
    " WHOLE ROUTER0 ROUTER1 ROUTER2 FREEZE BLOCKS_POW2 PAD OVERLAP launch_pdl TOKEN_TILES_POW2"
    " MOST_TOKEN_TILES FILL F_POW2 PIECE AT_ONCE"
).split()
_FP8_PRODUCTS = ("linear_kernel", "qkv_kernel")  # always
_TMA_PRODUCTS = (*_FP8_PRODUCTS, "gated_kernel")  # always
_BF16_PRODUCTS = ("packed_product", "score_parts_kernel", "route_and_sort_kernel")  # always
_PRODUCTS = ("gate_up_kernel", "down_kernel", *_TMA_PRODUCTS, *_BF16_PRODUCTS)


class Case(NamedTuple):
    """Who launches kernels, and how."""

    user: str
    run: Run


@dataclass(frozen=True, slots=True)
class Row:
    """One kernel as it is compiled; several specialisations that come to the same are one row."""

    kernel: str
    tile: str
    resources: Resources
    faults: tuple[str, ...]


def cases() -> Iterator[Case]:
    """All of them."""
    for precision in PRECISIONS:
        yield from pass_cases(precision)
    yield from _candidates()
    yield from _others()


def pass_cases(precision: Precision) -> Iterator[Case]:
    """Every pass with every shipped table; to be run before the next one is asked for."""
    models = [fused(name, precision, _LAYERS) for name in (DIFFUSION, AUTOREGRESSIVE)]
    for path in shipped():
        for model in models:
            retile(model, read_table(path))
        for name, run in passes(*models).items():
            yield Case(f"{path.stem} {precision} {name}", run)


def rows(found: Iterator[Case], compiled: Collection[str] | None = None) -> dict[Row, set[str]]:
    """What the cases launch and who does, in the order of names; `compiled`: of these kernels."""
    users: dict[Row, set[str]] = defaultdict(set)
    inspected: dict[str, Resources] = {}
    for case in found:
        with launches(compiled) as launched:
            case.run()
        for launch in launched:
            if launch.binary is not None:
                key = launch.binary.hash
                if key not in inspected:
                    inspected[key] = inspect(launch.binary)
                users[_row(launch, inspected[key])].add(case.user)
    return dict(sorted(users.items(), key=lambda item: (item[0].kernel, _natural(item[0]))))


def _row(launch: Launch, found: Resources) -> Row:
    return Row(launch.name, _tile(launch.options), found, tuple(_faults(launch, found)))


def _tile(options: dict[str, Any]) -> str:
    """`rows 32 out 64 tma warps 4`: the launch's keywords but for sizes and what is off."""
    words = []
    for name, value in options.items():
        short = name.lower().removeprefix("block_").removeprefix("num_")
        if name not in _SIZES and value not in (None, False):
            words.append(short if value is True else f"{short} {value}")
    return " ".join(words)


def _faults(launch: Launch, found: Resources) -> Iterator[str]:
    """What keeps a kernel from being shipped."""
    options = launch.options
    if found.target != "sm_90a":
        yield f"compiled for {found.target}"
    if found.spills:
        yield f"{found.spills} spills"
    if found.shared_bytes > SHARED_LIMIT_BYTES:
        yield f"{found.shared_bytes} bytes of shared memory"
    if launch.name in _PRODUCTS:
        operands = "e4m3" if options.get("FP8", launch.name in _FP8_PRODUCTS) else "bf16"
        # The older ones are named mma.sync: three words.
        if {tuple(product.split())[1:] for product in found.products} != {(operands,)}:
            yield f"products are {', '.join(found.products) or 'missing'}, not native {operands}"
    wants_tma = bool(options.get("TMA")) or launch.name in _TMA_PRODUCTS
    if found.bulk_copies != wants_tma:
        yield "no TMA" if wants_tma else "TMA"
    if found.waits != bool(options.get("OVERLAP")):
        yield "griddepcontrol is missing" if options.get("OVERLAP") else "griddepcontrol"


def _natural(row: Row) -> list[tuple[bool, int, str]]:
    """Numbers by value; ties by what was compiled."""
    one = row.resources
    words = [*row.tile.split(), *one.products, str(one.registers), str(one.shared_bytes)]
    words.append(str(int(one.waits)))
    return [(word.isdigit(), int(word) if word.isdigit() else 0, word) for word in words]


def _candidates() -> Iterator[Case]:
    """Every tile that `canvasbench tune` may choose."""
    for tokens in _TOKENS:
        for dtype in (FP8, torch.bfloat16):
            pairs = [expert_tiles(kernel, dtype, tokens) for kernel in ("gate_up", "down")]
            for up, down in zip_longest(*pairs):
                tiles = up or pairs[0][0], down or pairs[1][0]
                yield Case("tune", partial(_experts, tokens, dtype, tiles))
            for chosen in gated_tiles(dtype, tokens):
                if chosen is not None:
                    yield Case("tune", partial(gated_case, tokens, dtype, chosen))
        for up in expert_tiles("gate_up", FP8, tokens):
            if not up.persistent:
                yield Case("tune", partial(_experts, tokens, FP8, (replace(up, quantise=True), up)))
        for _, channels, depth in dense_products(_CONFIG):
            for product in dense_tiles(tokens):
                if product is not None:
                    yield Case("tune", partial(_linear, tokens, channels, depth, product))
        for kind in ("sliding", "full"):
            for heads in head_tiles(tokens, _CONFIG.attention(kind).head_dim):
                if heads is not None:
                    yield Case("tune", partial(qkv_case, tokens, kind, heads))
        for rows in sorted({tiles.rows for tiles in expert_tiles("gate_up", FP8, tokens)}):
            yield Case("tune", partial(route_and_sort_case, tokens, rows))
    for dtype in (FP8, torch.bfloat16):
        up = next(tiles for tiles in expert_tiles("gate_up", dtype, 256) if tiles.by_tile)
        for size in soon_mib(up, 256):
            yield Case("tune", partial(soon_case, dtype, size))


def _experts(tokens: int, dtype: torch.dtype, tiles: Any) -> None:
    moe, size = _CONFIG.moe, _CONFIG.hidden_size
    scale_T, scales = None, ()
    if dtype == FP8:
        scale_T = _empty(tokens)
        scales = (
            _empty(moe.num_experts, 2 * moe.hidden_size),
            _empty(moe.num_experts, size),
        )
    weights = experts.ExpertWeights(
        _empty(moe.num_experts, 2 * moe.hidden_size, size, dtype=dtype),
        _empty(moe.num_experts, size, moe.hidden_size, dtype=dtype),
        *scales,
    )
    expert_TK = _empty(tokens, moe.top_k, dtype=torch.int32)
    x_TD = _empty(tokens, size, dtype=dtype)
    most = routing.max_tiles(expert_TK.numel(), moe.num_experts, tiles[0].rows)
    arrived_M = _empty(most, dtype=torch.int32)
    experts.expert_rows(x_TD, scale_T, expert_TK, weights, tiles, arrived_M=arrived_M)


def gated_case(tokens: int, dtype: torch.dtype, tiles: Any) -> None:
    """After a kernel, as a step launches it, or after a join of streams."""
    depth, channels = _CONFIG.hidden_size, 2 * _CONFIG.dense_hidden_size
    x, weight = (_empty(rows, depth, dtype=dtype) for rows in (tokens, channels))
    for overlap in (False, True):
        if dtype == FP8:
            operands = x, _empty(tokens), weight, _empty(channels)
            arrived = _empty(tokens, dtype=torch.int32)
            gated.gated_product_fp8(*operands, tiles, arrived, overlap=overlap)
        else:
            gated.gated_product(x, weight, tiles, overlap=overlap)


def _linear(tokens: int, channels: int, depth: int, tiles: Any) -> None:
    values, weight = _empty(tokens, depth, dtype=FP8), _empty(channels, depth, dtype=FP8)
    for product in (dense.linear_fp8, dense.linear_fp8_parts):
        for overlap in (False, True):
            product(values, _empty(tokens), weight, _empty(channels), tiles, overlap=overlap)


def qkv_case(tokens: int, kind: str, tiles: Any) -> None:
    """As a step launches it: after a kernel, into a ring at a place that the device knows."""
    geometry, width, bf16 = _CONFIG.attention(kind), _CONFIG.hidden_size, torch.bfloat16
    groups, size = geometry.num_kv_heads, geometry.head_dim
    projected = _CONFIG.num_heads + groups * (1 if geometry.value_is_key else 2)
    weight = _empty(projected * size, width, dtype=FP8)
    operands = _empty(tokens, width, dtype=FP8), _empty(tokens), weight, _empty(projected * size)
    norms, tables = _empty(2, size, dtype=bf16), _empty(2, tokens, size, dtype=bf16)
    rings = _empty(2, 1, groups, 4097, size, dtype=bf16)[:, :, :, :-1]
    heads_fused.qkv_fp8_norm_rope_write(
        *operands, *norms, *tables, _CONFIG.num_heads, groups, 1e-6, *rings,
        _empty(1, dtype=torch.int64), tiles=tiles, overlap=True,
    )  # fmt: skip


def soon_case(dtype: torch.dtype, soon_mib: int) -> None:
    """The norm before the router, which asks for the first expert weights."""
    rows, moe, size, bf16 = 256, _CONFIG.moe, _CONFIG.hidden_size, torch.bfloat16
    weights = _empty(moe.num_experts, 2 * moe.hidden_size, size, dtype=dtype)
    x, weight = _empty(rows, size, dtype=bf16), _empty(size, dtype=bf16)
    branch = glue.Branch(weight, "fp8" if dtype == FP8 else "plain")
    branches = branch, branch, glue.Branch(weight, "router")
    glue.add_rms_norm_then_norms(
        x, x, weight, 1e-6, None, branches, overlap=True, soon=(weights, soon_mib << 20)
    )


def route_and_sort_case(tokens: int, rows: int) -> None:
    moe, width, bf16 = _CONFIG.moe, _CONFIG.hidden_size, torch.bfloat16
    x, weight = (_empty(count, width, dtype=bf16) for count in (tokens, moe.num_experts))
    scale = _empty(moe.num_experts, dtype=bf16)
    arrived = _empty(routing.MOST_TILES + 1, dtype=torch.int32)
    routing.route_and_sort(x, weight, scale, moe.top_k, rows, arrived)


def _others() -> Iterator[Case]:
    """What no pass of the released pair launches, and attention over caches of other lengths."""
    rows, size, bf16 = 256, _CONFIG.hidden_size, torch.bfloat16
    x, weight = _empty(rows, size, dtype=bf16), _empty(size, dtype=bf16)
    answers = _empty(rows * _CONFIG.moe.top_k, size, dtype=bf16)
    share = _empty(rows, _CONFIG.moe.top_k)
    yield Case("other", lambda: experts.combine(answers, share))
    yield Case("other", lambda: glue.add_rms_norm(x, x, weight, 1e-6))
    for batch in (1, 2):  # steps whose number is fixed
        yield Case("other", partial(_settle, batch))
        yield Case("other", partial(compacted_case, batch))
    for length, keys, causal in ((256, 131072, False), (256, 131072, True), (4096, 8192, True)):
        yield Case("other", partial(_attention, length, keys, causal))


def compacted_case(batch: int) -> None:
    """Self-conditioning with `sampler.min_belief`."""
    vocab, length = _CONFIG.vocab_size, _CONFIG.canvas_length or 1
    p = _empty(batch, length, vocab, dtype=torch.bfloat16)
    table = _empty(vocab, _CONFIG.hidden_size, dtype=torch.bfloat16)
    compacted.soft_embedding(p, table, _empty())


def _settle(batch: int) -> None:
    shape, int64 = (batch, _CONFIG.canvas_length or 1), torch.int64
    rows = [_empty(*shape, dtype=int64) for _ in range(5)]
    counts = [_empty(batch, dtype=torch.int32) for _ in range(2)]
    done = _empty(batch, dtype=torch.bool)
    sampler.settle(_empty(), None, None, _empty(*shape), *rows, *counts, done)


def _attention(length: int, keys: int, causal: bool) -> None:
    """Both kinds, quantised and not."""
    for kind in ("sliding", "full"):
        geometry = _CONFIG.attention(kind)
        groups, size = geometry.num_kv_heads, geometry.head_dim
        shown = keys if geometry.window is None else min(keys, geometry.window - 1 + length)
        q = _empty(1, length, _CONFIG.num_heads, size, dtype=torch.bfloat16).transpose(1, 2)
        k, v = _empty(2, 1, groups, shown + 1, size, dtype=torch.bfloat16)[:, :, :, :shown]
        sight = Sight(causal, geometry.window, _empty(1, dtype=torch.int64), None)
        attention.attention(q, k, v, sight=sight)
        attention.attention_quantised(q, k, v, sight=sight)


def _empty(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.empty(shape, dtype=dtype, device=META)
