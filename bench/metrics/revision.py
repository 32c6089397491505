"""Revision: what a canvas changed its mind about, from its own trace; no ground truth needed.

Over the content positions P (up to and including the first EOS, n = |P|) and the row's own active
steps t = 1..T: accepted a[t, i], argmax g[t, i], delivered y_i = g[T, i], tau_i = first t with
a[t, i] = 1. Everything is counted on g: the candidate carries sampling noise.

Legend: T steps, P content positions.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Revision:
    """Counts of one canvas; shares and rates are ratios of their sums.

    Attributes:
        flips: sum over t >= 2 and P of g[t] != g[t-1]; of these `flips_after_accept` have t > tau.
        flip_opportunities: n (T - 1).
        revocations: sum of a[t-1] = 1 and a[t] = 0.
        revised_after_accept: positions with tau and g[tau] != y; each is either a `direct_edit`
            (accepted without a break until g left g[tau]) or a `revoke_rewrite`.
        returns: positions whose g goes A, B, A.
        never_accepted: delivered positions without tau.
        settle_step_max: max over P of s_i = min{t: g[u, i] = y_i for all u >= t}.
        idle_tail: T - settle_step_max, the steps after the text was final.
    """

    flips: int
    flip_opportunities: int
    flips_after_accept: int
    revocations: int
    revised_after_accept: int
    direct_edits: int
    revoke_rewrites: int
    returns: int
    never_accepted: int
    settle_step_max: int
    idle_tail: int


def canvas_revision(accepted_TP: np.ndarray, argmax_TP: np.ndarray) -> Revision:
    """Counts a canvas's revisions; both arrays hold content positions only, T >= 1."""
    num_steps, num_positions = argmax_TP.shape
    accepted_TP = accepted_TP.astype(bool)
    flipped = argmax_TP[1:] != argmax_TP[:-1]
    revoked = accepted_TP[:-1] & ~accepted_TP[1:]
    ever = accepted_TP.any(axis=0)
    tau = np.where(ever, accepted_TP.argmax(axis=0), num_steps)  # from 0; num_steps: never
    step = np.arange(1, num_steps)[:, None]
    final = argmax_TP[-1]
    at_tau = argmax_TP[np.minimum(tau, num_steps - 1), np.arange(num_positions)]
    revised = ever & (at_tau != final)
    direct = sum(
        _is_direct_edit(accepted_TP[tau[i] :, i], argmax_TP[tau[i] :, i])
        for i in np.flatnonzero(revised)
    )
    settle = _settle_steps(argmax_TP)
    settle_max = int(settle.max()) if num_positions else 1
    return Revision(
        flips=int(flipped.sum()),
        flip_opportunities=num_positions * (num_steps - 1),
        flips_after_accept=int((flipped & (step > tau)).sum()),
        revocations=int(revoked.sum()),
        revised_after_accept=int(revised.sum()),
        direct_edits=direct,
        revoke_rewrites=int(revised.sum()) - direct,
        returns=sum(_returns(argmax_TP[:, i]) for i in range(num_positions)),
        never_accepted=int((~ever).sum()),
        settle_step_max=settle_max,
        idle_tail=num_steps - settle_max,
    )


def step_counts(accepted_TP: np.ndarray, argmax_TP: np.ndarray) -> list[dict[str, int]]:
    """Per step, over content positions: accepted, renoised (not accepted), revoked, flips."""
    accepted_TP = accepted_TP.astype(bool)
    counts = []
    for t, accepted in enumerate(accepted_TP):
        revoked = accepted_TP[t - 1] & ~accepted if t else np.zeros_like(accepted)
        flips = argmax_TP[t] != argmax_TP[t - 1] if t else np.zeros_like(accepted)
        counts.append(
            {
                "accepted": int(accepted.sum()),
                "renoised": int((~accepted).sum()),
                "revoked": int(revoked.sum()),
                "flips": int(flips.sum()),
            }
        )
    return counts


def _settle_steps(argmax_TP: np.ndarray) -> np.ndarray:
    """First step (from 1) from which each position keeps its delivered token."""
    differs = argmax_TP != argmax_TP[-1]
    last_different = argmax_TP.shape[0] - differs[::-1].argmax(axis=0)
    return np.where(differs.any(axis=0), last_different + 1, 1)


def _is_direct_edit(accepted: np.ndarray, argmax: np.ndarray) -> bool:
    """From tau on: whether acceptance held until the argmax first left its accepted token."""
    left = int((argmax != argmax[0]).argmax())
    return bool(accepted[: left + 1].all())


def _returns(argmax: np.ndarray) -> bool:
    """Whether a token comes back after another one took its place."""
    runs = argmax[np.flatnonzero(np.diff(argmax, prepend=argmax[0] - 1))]
    return len(set(runs.tolist())) < len(runs)
