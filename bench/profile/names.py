"""Names that recording gives to ranges of a trace and that reading it looks for."""

GROUP_RANGE = "op_group:"
"""Begins the name of a range around an op group of `model.work`."""
STEP_RANGE = "ProfilerStep#"
"""Begins the name of the range that torch's profiler puts around every step of its schedule."""

OTHER = "other"
"""Operations outside of every op group."""
HOST = "host"
"""Python outside of every op group and operation: the generation loop."""
MERGED_FEED_FORWARD = "dense_experts"
"""Dense MLP and experts where one product serves both (`model.folded_feed_forward`)."""
MERGED_GROUPS = {MERGED_FEED_FORWARD: ("dense", "experts")}
"""Op groups that run as one, with those of `model.work` that they stand for."""

PHASES = ("prefill", "denoise", "decode", "commit", "fused", "delivery")
"""What a generation's time is cut into; a delivery takes a block's text to host memory.

Fused is a commit and the next canvas's first step at once.
"""
MAIN_PHASES = ("denoise", "decode")

_PRODUCTS = ("aten::mm", "aten::addmm", "aten::_scaled_mm", "aten::_scaled_mm_v2")


def group_of(within: str | None, operator: str) -> str:
    """The op group of an operation inside the range of an op group, or inside none.

    A product is no norm: between a block's parts it is a projection (`bench.profile.labels`).
    """
    if within == "norms" and operator in _PRODUCTS:
        return "projections"
    return within or OTHER
