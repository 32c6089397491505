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
# # What to buy
#
# Which device serves a load within its limits, at what cost, and how sure is that? This notebook reads
# the worked example that `canvasbench procure` made of published prices and projected speeds, asks what
# the answer hangs on, and then changes the question. Nothing in it was measured, and every number says
# so: its `class` is measured, published, projected or assumed.

# %% tags=["parameters"]
EXAMPLE = "../results/published/procurement-example"

# %%
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd


def table(folder, name):
    return pd.read_csv(Path(folder) / "tables" / f"{name}.csv")


ranking = table(EXAMPLE, "ranking")
shown = ["offer", "run_as", "devices", "cost_per_month", "cost_per_mtok", "share_served"]
shown += ["share_cheapest", "is_recommended"]
ranking[shown].round(3)

# %% [markdown]
# The cheapest is not the answer. `share_cheapest` says in how many of 10,000 draws of prices, load and
# speeds an option is the cheapest that serves in time, `share_served` in how many it serves at all.
# Recommended is the cheapest that serves in at least 95 % of draws (`is_recommended`): the one above it
# saves a few percent and fails in every fourth draw. A bet may pay, but nobody should sign it unawares.
#
# ## Diffusion or its sibling?
#
# The best of each that serves in 95 % of draws, on every device; empty where none does:

# %%
safe = ranking[ranking["share_served"] >= 0.95]
safe.pivot_table(index="offer", columns="decoding", values="cost_per_mtok").round(3)

# %% [markdown]
# At low concurrency a canvas of 256 tokens for the price of a dozen forwards is hard to beat. With many
# requests at once the autoregressive model fills the device just as well, and each of its tokens needs
# less work. Where the two curves cross, with limits:

# %%
crossings = table(EXAMPLE, "crossings")
crossings = crossings[(crossings["metric"] == "tok/s") & (crossings["precision"] == "fp8")]
names = ["batch_size", "batch_size_low", "batch_size_high", "no_crossing_share", "outcome"]
crossings.set_index(["device", "prompt_tokens", "steps"])[names].round(1)

# %% [markdown]
# A missing batch means that no crossing lies in the range looked at. Short replies are another matter: a
# canvas is a canvas, also for ten tokens. Below this length the sibling answers sooner:

# %%
replies = table(EXAMPLE, "replies")
replies[["device", "precision", "tokens", "tokens_low", "tokens_high", "tokens_class"]].round(0)

# %% [markdown]
# ## What the answer hangs on
#
# One number of the recommended way is moved at a time, to the ends of its range. Where another way that
# serves in 95 % of draws becomes the choice, `switches_at` says at which value and `becomes` which.

# %%
sensitivity = table(EXAMPLE, "sensitivity")
sensitivity[["number", "low", "high", "cost_low", "cost_high", "switches_at", "becomes"]].round(2)

# %% [markdown]
# The first row is the one to act on. If a projected speed decides, measure it before buying: an hour of the
# device costs less than the wrong contract.
#
# ## Another question
#
# The inputs are one YAML file. Here the same load has to be answered within four seconds instead of ten:

# %%
inputs = (Path(EXAMPLE) / "inputs.yaml").read_text()
changed = inputs.replace("end_to_end_s: 10", "end_to_end_s: 4")
assert changed != inputs
folder = Path(tempfile.mkdtemp())
(folder / "inputs.yaml").write_text(changed)
done = subprocess.run(
    [sys.executable, "-m", "bench.cli", "procure", folder / "inputs.yaml", "--out", folder / "out"],
    capture_output=True,
    text=True,
)
print(done.stdout or done.stderr)

# %%
table(folder / "out", "ranking")[shown].round(3)

# %% [markdown]
# With `--runs RUN` a measured run of an offered device takes the place of its projection, batch by batch.
# The report beside the tables (`report.html`) holds the same on one printable sheet, with plots below.
