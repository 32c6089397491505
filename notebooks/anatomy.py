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
# # Anatomy of a denoising step
#
# A block-diffusion model writes a canvas: a fixed number of positions, all at once. It starts from
# random tokens and denoises them, step by step, until the text no longer changes. This notebook runs
# one prompt through the tiny trained model, looks at each of its steps, and then asks the question
# that matters: when the model changes its mind, does the answer get better?

# %% tags=["parameters"]
# The task: any order of these letters but the given one. Longer words take more steps.
PROMPT = "shuffle qwertyu="
SEED = 3
RUN = "../results/published/amd-epyc-2-cores-2026-11-25"

# %%
from collections import Counter

import matplotlib.pyplot as plt
import pandas as pd

import bench
import model

loaded = model.load("tiny-diffusion", precision="fp32")
config, tokenizer = loaded.config, loaded.tokenizer
prompt = [config.bos_token_id, *tokenizer.encode(PROMPT).ids]
events = list(
    model.generate(
        loaded.model,
        [prompt],
        model.DiffusionSampling(),
        max_new_tokens=config.canvas_length,
        trace=model.TraceLevel.POSITIONS,
        seed=SEED,
    )
)
Counter(event.phase.value for event in events if hasattr(event, "phase"))

# %% [markdown]
# Those are the forwards the model needed: a *prefill* reads the prompt, then denoising steps, then (if
# more text is to come) a *commit* that writes the finished canvas into the cache. An autoregressive
# model would have needed one forward for every token.
#
# ## Step by step
#
# Each step gives, for every position, an *entropy* (how unsure the model is), a sampled *candidate* and
# the most likely token, the *argmax*. The surest positions are accepted and fed to the next step; all
# others start again from noise. Below, a line is a step and shows the argmax; positions that were
# not accepted are in `[brackets]`.

# %%
delivered = next(event for event in events if hasattr(event, "rows"))
row, trace = delivered.rows[0], delivered.trace
length = len(row.tokens)


def shown(token: int, accepted: bool) -> str:
    text = tokenizer.id_to_token(int(token))
    return text if accepted else f"[{text}]"


for step in range(row.steps):
    argmax, accepted = trace.argmax[step, 0], trace.accepted[step, 0]
    print(f"{step + 1:3d}  " + " ".join(shown(argmax[i], accepted[i]) for i in range(length)))

# %% [markdown]
# ## How a canvas settles
#
# Entropy falls and accepted positions grow, but not in step and not for good: acceptance is decided
# anew in every step, so a position can be accepted, *revoked* and accepted again.

# %%
steps = range(1, row.steps + 1)
accepted = trace.accepted[: row.steps, 0, :length]
entropy = trace.entropy[: row.steps, 0, :length]
revoked = [int((accepted[t - 1] & ~accepted[t]).sum()) for t in range(1, row.steps)]

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
left.plot(steps, accepted.sum(-1), color="#0072B2", marker="o")
left.set(title="Accepted positions", xlabel="step", ylabel=f"of {length}", ylim=(0, length * 1.05))
right.plot(steps, entropy.mean(-1), color="#0072B2", marker="o")
right.set(title="Mean entropy", xlabel="step", ylabel="nat", ylim=(0, None))
print(f"{row.steps} steps, stopped because: {row.stop_reason}; revoked in all: {sum(revoked)}")

# %% [markdown]
# ## Does changing its mind help?
#
# Changing is not yet correcting. Only what a checker judged may be called self-correction: answers
# that were wrong half-way and right at the end, minus those that went the other way. A published run
# has this for 150 prompts; `bench.open_run` gives its tables, without torch.

# %%
run = bench.open_run(RUN)
requests = run.requests
judged = requests[(requests["repeat"] == 0) & requests["correct_half"].notna()]
table = pd.crosstab(
    [judged["point_id"], judged["correct_half"].map({True: "right", False: "wrong"})],
    judged["correct"].map({True: "right", False: "wrong"}),
    rownames=["point", "half-way"],
    colnames=["at the end"],
)
table

# %%
names = [
    "net_correction",
    "net_correction_lo",
    "net_correction_hi",
    "correction_n",
    "ever_right_gap",
]
run.points.dropna(subset=["net_correction"]).set_index("point_id")[names].round(3)

# %% [markdown]
# The interval is by prompt, within one process. `ever_right_gap` is the other side of the coin:
# answers that were right at some step and wrong at the end.
#
# Which tasks need correcting? Those where order matters and no position can be decided alone.

# %%
by_task = judged.assign(
    gained=(~judged["correct_half"].astype(bool)) & judged["correct"].astype(bool),
    lost=judged["correct_half"].astype(bool) & ~judged["correct"].astype(bool),
)
by_task.groupby(["point_id", "task"])[["gained", "lost"]].sum().unstack("point_id")

# %% [markdown]
# ## More steps, more revisions?
#
# Canvases that take long also revise more. Whether that is cause or sign is not to be seen here: hard
# text does both.

# %%
canvases = run.canvases[run.canvases["repeat"] == 0]
figure, axes = plt.subplots(figsize=(6, 3), layout="constrained")
for (point, own), marker in zip(canvases.groupby("point_id"), "os", strict=True):
    axes.plot(
        own["steps"],
        own["revised_after_accept"],
        marker,
        color="#0072B2",
        alpha=0.4,
        fillstyle="full" if point.endswith("fp8") else "none",
        label=point,
    )
axes.set(xlabel="steps of the canvas", ylabel="tokens revised after acceptance")
axes.legend(frameon=False)
