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
# # A first run
#
# A block-diffusion model writes a whole canvas at once and denoises it step by step; its
# autoregressive sibling writes one token after the other. This notebook opens the last run of
# `canvasbench` and reads it in the order that makes sense of it: how fast, in how many steps, what
# happened inside, and whether changing its mind did any good. It needs no torch: everything comes
# from the run's tables.

# %% tags=["parameters"]
from pathlib import Path

# The newest run; name another folder to read that one.
RUN = max(Path("../results/runs").glob("*/run.json"), default=None)

# %%
from IPython.display import Image

import bench
from bench.report import render

if RUN is None:
    raise SystemExit("no run yet: `make bench` makes one")
run = bench.open_run(Path(RUN) if Path(RUN).is_dir() else Path(RUN).parent)
report = render(run)
run.info["machine"]["cpu"], run.info["git"]

# %% [markdown]
# ## How fast, and how right
#
# `delivered_tok_per_s` counts the tokens a user got, up to and including the first end of sequence,
# over the whole request, prefill included. A rate means nothing without the accuracy of the same
# answers, so both stand in one table. The interval is within one process.

# %%
columns = [
    "decoding",
    "precision",
    "emulated",
    "delivered_tok_per_s",
    "delivered_tok_per_s_lo",
    "delivered_tok_per_s_hi",
    "accuracy",
    "validity",
]
run.points[columns].round(3)

# %%
Image(str(run.path / "plots" / "speed.png"))

# %% [markdown]
# ## The same run under other definitions
#
# Published figures differ by more than hardware does. `decode_tok_per_s` leaves out the prefill and the
# first canvas; `inverse_tpot_tok_per_s` is what token-streaming tools print, and credits the first
# canvas as free; `slot_tok_per_s` counts padding.

# %%
rates = [
    "delivered_tok_per_s",
    "generation_tok_per_s_excl_prefill",
    "decode_tok_per_s",
    "inverse_tpot_tok_per_s",
    "slot_tok_per_s",
]
run.points.set_index("point_id")[rates].T.round(0)

# %% [markdown]
# ## In how many steps
#
# A step takes nearly the same time whatever the text; the number of steps is set by the content.

# %%
if run.canvases is not None:
    first = run.canvases[run.canvases["repeat"] == 0]
    display(first.groupby(["point_id", "task"])["steps"].describe(percentiles=[0.5, 0.9]).round(2))

# %%
Image(str(run.path / "plots" / "steps.png"))

# %% [markdown]
# ## Inside a canvas
#
# Acceptance is decided anew at every step: a position can be accepted, revoked and renoised.

# %%
Image(str(run.path / "plots" / "acceptance.png"))

# %%
Image(str(run.path / "plots" / "canvas.png"))

# %% [markdown]
# ## Did changing its mind help?
#
# Only what a checker judged is called self-correction: answers wrong at a reference step and right at
# the end, minus those that went the other way. The repair test corrupts right canvases and lets the
# model denoise them again.

# %%
names = [
    "accuracy",
    "net_correction",
    "net_correction_lo",
    "net_correction_hi",
    "ever_right_gap",
    "repaired_share",
    "preserved_share",
]
run.points.set_index("point_id")[names].round(3)

# %%
Image(str(run.path / "plots" / "correction.png"))

# %%
Image(str(run.path / "plots" / "repair.png"))

# %% [markdown]
# ## Where every slot went
#
# The ledger must sum: what was denoised is what was delivered, plus what came after the end, plus what
# was cut off by the limit, plus rows that were already over. A request where it does not is a fault.

# %%
parts = ["delivered_tokens", "after_eos_slots", "over_limit_slots", "row_ended_slots"]
ledger = run.requests.groupby("point_id")[[*parts, "slots_committed"]].sum()
assert (ledger[parts].sum(axis=1) == ledger["slots_committed"]).all()
ledger
