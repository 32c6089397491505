"""Statistics as pure functions: intervals, comparisons, verdicts, attribution. 95 % throughout."""

from bench.stats.attribution import (
    Attribution,
    Cause,
    Phase,
    RunTime,
    attribute,
    leading_causes,
)
from bench.stats.detectable import (
    POWER,
    check_bound,
    detectable_at_spread,
    detectable_between_processes,
    detectable_difference,
    minimum_detectable_effect,
)
from bench.stats.families import benjamini_hochberg, control_false_discoveries
from bench.stats.intervals import (
    CONFIDENCE,
    LEVEL,
    Interval,
    ratio_interval,
    share_interval,
)
from bench.stats.modes import TwoSpeeds, two_speeds
from bench.stats.paired import (
    MIN_PAIRS,
    log_ratios,
    mean_interval,
    sign_flip_p_value,
)
from bench.stats.processes import (
    process_interval,
    process_means,
)
from bench.stats.prompts import ContentVerdict, PromptSums, content_verdict
from bench.stats.quantiles import quantile_interval
from bench.stats.relabelling import (
    Blocks,
    Comparisons,
    Rule,
    RuleRates,
    fixed_ratio_rule,
    mann_whitney_rule,
    pooled_rates,
    relabelled,
    rule_rates,
    sequential_rule,
)
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
    welch_interval,
)
from bench.stats.verdict import (
    DEFAULT_BOUND,
    MIN_PROCESSES,
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
    "LEVEL",
    "MIN_PAIRS",
    "MIN_PROCESSES",
    "POWER",
    "Attribution",
    "Better",
    "Blocks",
    "Cause",
    "Comparisons",
    "ContentVerdict",
    "GoOn",
    "HypothesisTest",
    "Interval",
    "Phase",
    "Plan",
    "PromptSums",
    "Rule",
    "RuleRates",
    "RunTime",
    "Status",
    "TwoSpeeds",
    "Verdict",
    "attribute",
    "benjamini_hochberg",
    "check_bound",
    "content_verdict",
    "control_false_discoveries",
    "detectable_at_spread",
    "detectable_between_processes",
    "detectable_difference",
    "fixed_ratio_rule",
    "hodges_lehmann_interval",
    "hodges_lehmann_shift",
    "leading_causes",
    "log_ratios",
    "mann_whitney_p_value",
    "mann_whitney_rule",
    "mean_interval",
    "minimum_detectable_effect",
    "nominal_levels",
    "overall_p_value",
    "paired_verdict",
    "pooled_rates",
    "process_interval",
    "process_means",
    "quantile_interval",
    "ratio_interval",
    "relabelled",
    "rule_rates",
    "sequential_outcomes",
    "sequential_rule",
    "sequential_verdict",
    "share_interval",
    "sign_flip_p_value",
    "two_speeds",
    "unpaired_verdict",
    "welch_interval",
]
