"""A verdict with everything behind it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench.claims.baselines import Baseline, baselines, published_sibling
from bench.claims.claim import Claim
from bench.claims.decomposition import (
    Decomposition,
    Floors,
    claim_floors,
    decompose,
    sibling_floors,
)
from bench.claims.definitions import Definition, definition_matrix, spread
from bench.claims.files import shipped_claims
from bench.claims.judge import Judgement, judge
from bench.claims.observed import Observed, observe
from bench.claims.oddities import oddities
from bench.preregistration import State, standing
from bench.store import Run
from bench.summary import CONTENT


@dataclass(frozen=True, slots=True)
class Dossier:
    """One claim, its verdict, and the evidence.

    Attributes:
        promise: how the claim stands to what the run promised before its first measurement.
        floors: of the claim's device; None where its conditions give none.
    """

    judgement: Judgement
    promise: str
    definitions: list[Definition]
    floors: Floors | None
    decomposition: Decomposition | None
    baselines: list[Baseline]
    oddities: list[str]

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        found = self.judgement
        point = found.point
        return {
            "claim": found.claim.plain(),
            "verdict": str(found.outcome),
            "reasons": list(found.reasons),
            "value": found.value,
            "interval": found.interval,
            "interval_is": interval_kind(found),
            "n": {**_counts(point), "needed": found.claim.min_requests},
            "point": None if point is None else point.point_id,
            "engine": None if point is None else point.engine,
            "denominator": None if found.below is None else found.below.point_id,
            "points_alike": list(found.alike),
            "promise": self.promise,
            "conditions": [asdict(c) | {"blocks": c.blocks} for c in found.conditions],
            "definitions": [asdict(d) for d in self.definitions],
            "definitions_spread": spread(self.definitions),
            "floors": _floors(self.floors),
            "decomposition": None if self.decomposition is None else asdict(self.decomposition),
            "baselines": [asdict(b) for b in self.baselines],
            "oddities": self.oddities,
        }


def dossiers(run: Run, claims: Sequence[Claim]) -> list[Dossier]:
    """Every claim judged by a run.

    Raises:
        ValueError: no point of the run was finished.
    """
    points, shipped = observe(run), shipped_claims()
    return [_dossier(claim, points, run.info, shipped) for claim in claims]


def _dossier(
    claim: Claim, points: Sequence[Observed], info: Mapping[str, Any], shipped: Sequence[Claim]
) -> Dossier:
    found = judge(claim, points)
    point, own = found.point, claim.conditions.decoding
    if point is None or point.conditions["decoding"] != own:
        oddly = [] if point is None else oddities(point)
        return Dossier(found, _standing(claim, info), [], None, None, [], oddly)
    floors = claim_floors(claim)
    sibling = None
    if claim.is_speed and own == "diffusion":
        sibling = sibling_floors(claim)
    published = published_sibling(claim, shipped)
    return Dossier(
        found,
        _standing(claim, info),
        definition_matrix(found),
        floors,
        decompose(claim, floors, point),
        baselines(found, points, published, claim_floors(claim, point), sibling),
        oddities(point),
    )


def promise(claim: Claim) -> dict[str, Any]:
    """What is preregistered of a claim before it is measured: metric, bound, n and conditions."""
    return {
        "name": claim.name,
        "metric": claim.metric,
        "bound": {
            "relation": claim.relation,
            "value": claim.value,
            "upper": claim.upper,
            "tolerance": claim.tolerance,
        },
        "n": claim.min_requests,
        "conditions": asdict(claim.conditions),
        "over": None if claim.over is None else asdict(claim.over),
    }


def nothing_measured(found: Judgement) -> Dossier:
    """A verdict that needed no measurement."""
    return Dossier(found, "nothing was measured", [], None, None, [], [])


def _standing(claim: Claim, info: Mapping[str, Any]) -> str:
    plan = info.get("preregistration")
    planned = plan.get("claims", []) if isinstance(plan, Mapping) else []
    own = next((p for p in planned if p.get("name") == claim.name), None)
    if own is None:
        return "not preregistered: judged after the fact"
    if standing(info).state is not State.KEPT:
        return "the run's preregistration was changed after the start"
    if own != promise(claim):
        return "the claim is not the one that was preregistered"
    return "preregistered before the first measurement"


def _counts(point: Observed | None) -> dict[str, int]:
    """n at every level of sampling."""
    levels = ("processes", "repeats", "prompts", "requests")
    rows: Mapping[str, Any] = {} if point is None else point.row
    counts = {level: int(rows.get(f"num_{level}") or 0) for level in levels}
    return counts | {"canvases": 0 if point is None else len(point.canvases)}


def interval_kind(found: Judgement) -> str | None:
    """What a verdict's interval was taken over: prompts, for a figure that repeats reproduce."""
    if found.point is None or found.interval is None:
        return None
    points = [p for p in (found.point, found.below) if p is not None]
    if found.claim.metric in CONTENT:
        prompts = min(p.num_cases(found.claim.metric) for p in points)
        return f"95 %, over {prompts} prompts of the first repeat"
    least = min(p.num_processes for p in points)
    if least > 1:
        return f"95 %, between {least} processes"
    return "95 %, within the one process"


def _floors(floors: Floors | None) -> dict[str, Any] | None:
    if floors is None:
        return None
    return asdict(floors) | {
        "op_rate": floors.rate(floors.op_ms),
        "streaming_rate": floors.rate(floors.streaming_ms),
    }
