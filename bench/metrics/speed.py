"""Speed of requests, always named in full. Rates over many requests are ratios of sums.

A delivery k is final at host time t_k (seconds since its request began) and brings d_k tokens: up
to a canvas for diffusion, one token autoregressively. The wall time of a batch counts once, so a
request that shared its batch with B - 1 others carries a B-th of it. Requests of a load overlap and
each carries its whole time: their rates are those of one request among the others, and
`system_tok_per_s` alone is that of all together.
"""

import pandas as pd


def request_times(requests: pd.DataFrame) -> pd.DataFrame:
    """Numerators and denominators of every rate, one row a request, seconds and tokens.

    Needs the columns delivered_tokens, first_delivery_tokens, first_canvas_s, last_delivery_s,
    wall_s, prefill_s, slots_committed, batch_size. `decode_*` and `inverse_tpot_tokens` are NaN
    with a single delivery, where a coarse clock saw no time between the first and the last, and
    where the first one's tokens are unknown; others are NaN where what they need is.
    """
    share = 1.0 / requests["batch_size"]
    later = requests["delivered_tokens"] - requests["first_delivery_tokens"]
    gap = requests["last_delivery_s"] - requests["first_canvas_s"]
    several = (later > 0).fillna(False).astype(bool) & (gap > 0)
    return pd.DataFrame(
        {
            "tokens": requests["delivered_tokens"],
            "slots": requests["slots_committed"],
            "wall_s": requests["wall_s"] * share,
            "after_prefill_s": (requests["wall_s"] - requests["prefill_s"]) * share,
            "decode_tokens": later.where(several),
            "decode_s": (gap * share).where(several),
            # Token-streaming tools count all tokens but the first one, not the first delivery.
            "inverse_tpot_tokens": (requests["delivered_tokens"] - 1).where(several),
        }
    )


RATES: dict[str, tuple[str, str]] = {
    "delivered_tok_per_s": ("tokens", "wall_s"),
    "decode_tok_per_s": ("decode_tokens", "decode_s"),
    "generation_tok_per_s_excl_prefill": ("tokens", "after_prefill_s"),
    "slot_tok_per_s": ("slots", "wall_s"),
    "inverse_tpot_tok_per_s": ("inverse_tpot_tokens", "decode_s"),
}
"""Every rate, in tokens per second, as (numerator, denominator) of `request_times`.

delivered: delivered / wall. decode: (delivered - d_1) / (t_last - t_1). generation_excl_prefill:
delivered / (wall - prefill). slot: C x canvases / wall, padding included. inverse_tpot:
(delivered - 1) / (t_last - t_1), shown only to reconcile with tools that stream tokens.
"""


def system_rate(requests: pd.DataFrame, windows: pd.DataFrame) -> pd.DataFrame:
    """Tokens and seconds of every process, the two of `system_tok_per_s`.

    system: delivered tokens of answered requests / seconds of the timed window, from the first
    request handed over to the end of the last. With one request at a time it is at most
    `delivered_tok_per_s`: what lies between two requests counts.

    Args:
        windows: with process_id, repeat and window_s.
    """
    keys = ["process_id", "repeat"]
    tokens = requests.groupby(keys)["delivered_tokens"].sum()
    seconds = windows.set_index(keys)["window_s"]
    both = pd.DataFrame({"tokens": tokens, "window_s": seconds})
    known = both.dropna(subset=["window_s"]).fillna({"tokens": 0}).reset_index()
    return known.groupby("process_id")[["tokens", "window_s"]].sum()
