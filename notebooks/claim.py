# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Reproduce a claim
#
# "1,288 tokens a second on an H200." Four questions stand between such a sentence and a number of your
# own: tokens counted how, doing what work, over which time, and how sure? This notebook takes a
# measured run of one H200, asks them in turn, and ends with a verdict. Nothing is measured here: the
# run's tables are read.

# %% tags=["parameters"]
RUN = "../results/published/nvidia-h200-2026-11-26/fixed_work"

# %%
import pandas as pd

import bench

run = bench.open_run(RUN)
points = run.points.set_index("point_id")
points[["model", "device", "weights", "workload", "eos_policy", "batch_size", "num_processes"]].T

# %% [markdown]
# ## Doing what work?
#
# The published figure is one of *fixed work*: random tokens in, exactly 16 denoise steps and a commit
# for each canvas of 256, and no end of sequence. The weights here are random as well: a shape's speed
# needs no knowledge. Whatever depends on what a model writes (steps it chooses, answers, corrections)
# is unknown in such a run, and stays unknown:

# %%
unknown = ["steps_per_canvas_median", "accuracy", "net_correction", "tokens_per_forward_denoise"]
points[unknown]

# %% [markdown]
# ## Tokens counted how, over which time?
#
# The same minutes of the same machine, under the definitions in use. `decode_tok_per_s` leaves out
# prefill and first canvas: that is the published chart's. `delivered_tok_per_s` is what a user waits
# for. `inverse_tpot_tok_per_s` is what tools for token streams print; it gets the first canvas free.

# %%
rates = [
    "delivered_tok_per_s",
    "generation_tok_per_s_excl_prefill",
    "decode_tok_per_s",
    "inverse_tpot_tok_per_s",
    "slot_tok_per_s",
]
points[rates].T.round(0)

# %% [markdown]
# ## How sure?
#
# Five fresh processes ran, so an interval between processes can be given; with one there is none.

# %%
ends = ["decode_tok_per_s_lo", "decode_tok_per_s", "decode_tok_per_s_hi", "num_processes"]
points[[*ends, "validity"]].round(0)

# %% [markdown]
# ## The verdict
#
# A claim is a file with value, definition, conditions and source. `bench.judge_claims` holds a run
# against the shipped claims about its device (or those you name), condition by condition.

# %%
verdicts = bench.judge_claims(RUN)
pd.DataFrame(
    {
        "claim": each["claim"]["title"],
        "published": each["claim"]["published"],
        "measured": each["value"],
        "verdict": each["verdict"],
        "because": each["reasons"][0] if each["reasons"] else "",
    }
    for each in verdicts
).round(2)

# %% [markdown]
# NOT COMPARABLE is an answer: random weights cannot say how many steps a text needs, and no engine here
# drafts tokens ahead. NOT REPRODUCED needs reading, too. The ratio to the autoregressive sibling is
# lower than published because the sibling here is quicker, not because diffusion is slower:

# %%
over = next(each for each in verdicts if each["claim"]["over"])
print(f"{over['verdict']}: {over['value']:.2f} where {over['claim']['published']} was published")
ratio = points.loc["diffusion-fp8", "decode_tok_per_s"] / points["decode_tok_per_s"]
ratio.rename("diffusion-fp8 over").round(2)

# %% [markdown]
# ## What differed
#
# Every condition, as published and as run. "unknown" means that the source does not say.

# %%
headline = next(each for each in verdicts if each["claim"]["name"] == "h200-fp8")
pd.DataFrame(headline["conditions"])[["name", "published", "actual", "state"]]

# %% [markdown]
# ## On a machine of your own
#
# ```bash
# canvasbench claims run h200-fp8 h200-ar-fp8 h200-over-ar   # on an H200: preregisters, measures, judges
# canvasbench claims judge results/runs/RUN                  # any run you have
# ```
