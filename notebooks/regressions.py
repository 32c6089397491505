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
# # Hunting a regression
#
# A change made something slower, or so it seems. Is it more than noise? And what got slower: the
# kernels, the number of steps, the answers' length, or the host between forwards? Two recordings of one
# machine answer here. In `same` both arms ran the same commit. In `slowed` the candidate's commit wastes
# a tenth of every denoise forward, on purpose.

# %% tags=["parameters"]
RECORDED = "../results/published/ab-amd-epyc-2-cores"

# %%
import pandas as pd

import bench

same = bench.compare(f"{RECORDED}/same/baseline", f"{RECORDED}/same/candidate")
slowed = bench.compare(f"{RECORDED}/slowed/baseline", f"{RECORDED}/slowed/candidate")


def verdicts(comparison):
    (point,) = comparison.points
    return pd.DataFrame(
        {
            "metric": each.metric.name,
            "baseline": each.baseline,
            "candidate": each.candidate,
            "verdict": each.verdict.status.name,
            "why": each.verdict.reason,
        }
        for each in point.judged
    )


# %% [markdown]
# ## The same commit twice
#
# No two numbers are equal, and nothing is a regression. A rule that looks at numbers alone ("more than
# 1 % slower fails") would cry wolf every day. AMBIGUOUS is an answer, too: these processes differ so much
# that a change as large as the bound of 2 % can be neither shown nor excluded. It never passes for "fine".

# %%
verdicts(same)

# %% [markdown]
# ## The slowed commit

# %%
verdicts(slowed)

# %% [markdown]
# ## What did it
#
# Wall time is split exactly into answers, steps, seconds a forward of each phase, and host time, so
# that slower kernels and longer denoising are never confused.

# %%
(point,) = slowed.points
for cause in point.causes:
    print(cause.text)

# %% [markdown]
# Steps, answers and accuracy are the same, prompt by prompt. So the model does what it did, and each of
# its forwards takes longer: look at kernels, not at the sampler. Had `steps_per_canvas` moved instead,
# `canvasbench golden check` would name the prompts that denoise longer.
#
# ## Seen from close
#
# Medians of a denoise forward, process by process. The two arms took turns, so whatever else the
# machine did fell on both.

# %%
import matplotlib.pyplot as plt

figure, axes = plt.subplots(figsize=(6, 3), layout="constrained")
for arm, colour in (("baseline", "#0072B2"), ("candidate", "#D55E00")):
    steps = bench.open_run(f"{RECORDED}/slowed/{arm}").steps
    own = steps[steps["phase"] == "denoise"].groupby("process_id")["device_ms"].median()
    axes.plot(own.index, own, "o", color=colour, label=arm)
axes.set(xlabel="process", ylabel="median denoise forward, ms", ylim=(0, None))
axes.legend(frameon=False)

# %% [markdown]
# ## In continuous integration
#
# ```bash
# canvasbench ab --base origin/main           # both revisions in turn, until each metric has its verdict
# canvasbench gate gate.yaml BASELINE RUN     # bounds that were written down before
# ```
