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
shown = ["offer", "run_as", "devices", "devices_needed", "cost_per_month", "cost_per_mtok"]
shown += ["share_served", "share_cheapest", "is_recommended"]
ranking[shown].round(3)

# %% [markdown]
# The cheapest is not the answer. `devices` is the fleet to sign: enough in 95 % of 10,000 draws of prices,
# load and speeds, while `devices_needed` are enough at the stated numbers. `share_served` says in how many
# draws the fleet serves in time. Where no number of devices reaches 95 %, the fleet is enough in 95 % of
# the draws that can be served at all. Recommended is the cheapest that serves in at least 95 % of draws
# (`is_recommended`), and `share_cheapest` compares those. The one above it costs less and fails in four
# draws of ten. A bet may pay, but nobody should sign it unawares.
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
# A missing batch means that no crossing lies in the range looked at, that of the batches that fit the
# device. Short replies are another matter: a canvas is a canvas, also for ten tokens. Below this length the sibling answers sooner:

# %%
replies = table(EXAMPLE, "replies")
replies[["device", "precision", "tokens", "tokens_low", "tokens_high", "tokens_class"]].round(0)

# %% [markdown]
# ## What the answer hangs on
#
# One number of the recommended way is moved at a time, to the ends of its range; the fleet stays and grows
# only where that number alone asks for more than 95 % of draws do. Where another way that serves in 95 %
# of draws becomes the choice, `switches_at` says at which value and `becomes` which.

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
