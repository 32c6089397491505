"""Triton kernels; the only place that imports triton. Importing this package itself does not."""

from collections.abc import Mapping

OP_GROUPS: Mapping[str, str] = {
    "attend": "attention",
    "combine": "attention",
    "combine_row": "attention",
    "combine_quantised": "attention",
    "score_tiles": "attention",
    "mix_tiles": "attention",
    "qkv_rows": "attention",
    "qkv_kernel": "projections",
    "linear_kernel": "projections",
    "sum_kernel": "projections",
    "gate_up_kernel": "experts",
    "down_kernel": "experts",
    "combine_kernel": "experts",
    "score_parts_kernel": "router",
    "route_kernel": "router",
    "route_and_sort_kernel": "router",
    "sort_kernel": "router",
    "norm_rows": "norms",
    "quantise_rows_kernel": "norms",
    "gate_rows": "dense",
    "gated_kernel": "dense",
    "tile_statistics": "sampling",
    "row_statistics": "sampling",
    "probabilities": "sampling",
    "settle_rows": "sampling",
    "mark_tokens": "self_conditioning",
    "pack_tokens": "self_conditioning",
    "packed_product": "self_conditioning",
}
"""The op group (`model.work`) that every kernel's time belongs to; dense products of the MLP run in
the same kernel as projections and count with them, as does the sum of `packed_product`'s parts."""
