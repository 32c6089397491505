"""Statistics as pure functions: intervals, comparisons, verdicts, attribution. 95 % throughout."""

from bench.stats.attribution import (
    Attribution,
    Cause,
    Phase,
    RunTime,
    attribute,
    leading_causes,
)
from bench.stats.detectable import check_bound, minimum_detectable_effect
from bench.stats.distributions import (
    DistributionComparison,
    compare_distributions,
    compare_paired_distributions,
)
from bench.stats.families import benjamini_hochberg, control_false_discoveries
from bench.stats.intervals import (
    CONFIDENCE,
    Interval,
    clustered_share_interval,
    ratio_interval,
    share_interval,
)
from bench.stats.paired import (
    MIN_PAIRS,
    abba_log_ratios,
    equivalence_p_value,
    log_ratios,
    mean_interval,
    sign_flip_p_value,
)
from bench.stats.processes import (
    IntervalMethod,
    ProcessEstimate,
    level_counts,
    process_estimate,
    process_interval,
    process_means,
)
from bench.stats.quantiles import QuantileEstimate, quantile_estimate, quantile_interval
from bench.stats.sequential import (
    GoOn,
    Plan,
    nominal_levels,
    overall_p_value,
    sequential_outcomes,
    sequential_verdict,
)
from bench.stats.unpaired import (
    hodges_lehmann_interval,
    hodges_lehmann_shift,
    mann_whitney_p_value,
)
from bench.stats.verdict import (
    DEFAULT_BOUND,
    Better,
    HypothesisTest,
    Status,
    Verdict,
    paired_verdict,
    unpaired_verdict,
)

__all__ = [
    "CONFIDENCE",
    "DEFAULT_BOUND",
    "MIN_PAIRS",
    "Attribution",
    "Better",
    "Cause",
    "DistributionComparison",
    "GoOn",
    "HypothesisTest",
    "Interval",
    "IntervalMethod",
    "Phase",
    "Plan",
    "ProcessEstimate",
    "QuantileEstimate",
    "RunTime",
    "Status",
    "Verdict",
    "abba_log_ratios",
    "attribute",
    "benjamini_hochberg",
    "check_bound",
    "clustered_share_interval",
    "compare_distributions",
    "compare_paired_distributions",
    "control_false_discoveries",
    "equivalence_p_value",
    "hodges_lehmann_interval",
    "hodges_lehmann_shift",
    "leading_causes",
    "level_counts",
    "log_ratios",
    "mann_whitney_p_value",
    "mean_interval",
    "minimum_detectable_effect",
    "nominal_levels",
    "overall_p_value",
    "paired_verdict",
    "process_estimate",
    "process_interval",
    "process_means",
    "quantile_estimate",
    "quantile_interval",
    "ratio_interval",
    "sequential_outcomes",
    "sequential_verdict",
    "share_interval",
    "sign_flip_p_value",
    "unpaired_verdict",
]
