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
# # FP8 against BF16
#
# Half the bytes, twice the speed? A denoise step reads nearly every weight of the model once, so bytes
# are most of the story. This notebook looks at both sides of the bargain: what fp8 gains in speed (on an
# H200, with random weights) and what it does to answers (the tiny trained pair). The two come from
# different runs on purpose: random weights have no answers, and a processor that emulates fp8 has no
# fp8 speed.

# %% tags=["parameters"]
SPEED = "../results/published/nvidia-h200-2026-11-26/fixed_work"
ANSWERS = "../results/published/amd-epyc-2-cores-2026-11-25"

# %%
import pandas as pd

import bench

speed = bench.open_run(SPEED).points.set_index("point_id")
answers = bench.open_run(ANSWERS)

# %% [markdown]
# ## Speed
#
# `op_floor_share` says how near a step comes to the least time that its bytes and products allow at
# the rates this very card reached.

# %%
names = ["step_ms", "decode_ms", "decode_tok_per_s", "op_floor_share"]
speed[names].assign(weights_gb_per_step=speed["weight_bytes_per_step"] / 1e9).T.round(2)

# %%
pairs = {"diffusion": "step_ms", "autoregressive": "decode_ms"}
pd.DataFrame(
    {
        decoding: {
            "bytes, bf16 / fp8": speed.loc[f"{decoding}-bf16", "weight_bytes_per_step"]
            / speed.loc[f"{decoding}-fp8", "weight_bytes_per_step"],
            "time, bf16 / fp8": speed.loc[f"{decoding}-bf16", time]
            / speed.loc[f"{decoding}-fp8", time],
        }
        for decoding, time in pairs.items()
    }
).round(2)

# %% [markdown]
# The gain is smaller than the ratio of bytes: some weights stay in bf16 (the table of tokens, the
# router), attention's keys and values do, and every launch costs the same in both.
#
# ## Answers
#
# The same prompts with the same noise, so precision is judged prompt by prompt. What counts is where the
# two differ, not two averages side by side.

# %%
requests = answers.requests
first = requests[(requests["repeat"] == 0) & (requests["process_id"] == 0)]
right = first.pivot(index="request_id", columns="point_id", values="correct").astype(bool)
pd.crosstab(right["diffusion-bf16"], right["diffusion-fp8"])

# %% [markdown]
# Off the diagonal are the prompts that only one of them answers. An exact test on these alone
# (McNemar's) says whether the difference is more than chance:

# %%
from scipy.stats import binomtest

only_bf16 = int((right["diffusion-bf16"] & ~right["diffusion-fp8"]).sum())
only_fp8 = int((right["diffusion-fp8"] & ~right["diffusion-bf16"]).sum())
p = binomtest(only_bf16, only_bf16 + only_fp8).pvalue if only_bf16 + only_fp8 else 1.0
print(f"right in bf16 alone: {only_bf16}, in fp8 alone: {only_fp8}, p = {p:.2g}")

# %% [markdown]
# ## Steps
#
# A diffusion model has a third column in this ledger. Less precise scores may take longer to settle, and
# a step saved or added counts for more than any kernel.

# %%
canvases = answers.canvases
first = canvases[(canvases["repeat"] == 0) & (canvases["process_id"] == 0)]
steps = first.groupby(["request_id", "point_id"])["steps"].sum().unstack()
difference = steps["diffusion-fp8"] - steps["diffusion-bf16"]
difference.describe().round(2)

# %%
share, most = (difference == 0).mean(), difference.abs().max()
print(f"{share:.0%} of prompts take as many steps in both; the rest differ by {most:.0f} at most")

# %% [markdown]
# ## With real weights
#
# ```bash
# canvasbench run workload=text weights=w/fp8 model=diffusiongemma-26b-a4b precision=fp8 device=cuda
# canvasbench run workload=text weights=w/bf16 model=diffusiongemma-26b-a4b precision=bf16 device=cuda
# canvasbench compare RUN_BF16 RUN_FP8
# ```
