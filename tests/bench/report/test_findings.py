"""Which points a sentence may hold against each other."""

from types import SimpleNamespace
from typing import Any

from bench.report.findings import pairs_by_precision
from bench.report.notices import notices
from bench.report.view import Point, View
from tests.bench.report.synthetic import synthetic_run


def point(decoding: str, variant: str = "", backend: str = "native", batch_size: int = 1) -> Point:
    row: dict[str, Any] = {"decoding": decoding, "precision": "bf16", "validity": "valid"}
    row |= {"backend": backend, "batch_size": batch_size, "delivered_tok_per_s": 10.0}
    return Point(row, variant)


def test_siblings_are_compared_where_they_did_the_same_work_the_same_way() -> None:
    theirs = {"backend": "transformers"}
    points = [
        point("diffusion"),
        point("diffusion", "max_denoising_steps=4"),
        point("diffusion", "backend=transformers-cache=static", **theirs),
        point("diffusion", "batch_size=8", batch_size=8),
        point("autoregressive"),
        point("autoregressive", "backend=transformers-cache=static", **theirs),
        point("autoregressive", "backend=transformers-cache=dynamic", **theirs),
    ]
    view: Any = SimpleNamespace(points=points)
    found = [(mine.variant, other.variant) for mine, other in pairs_by_precision(view)]
    same = "backend=transformers-cache=static"
    assert found == [("", ""), ("max_denoising_steps=4", ""), (same, same)]


def test_a_rehearsal_says_that_its_speeds_stand_for_nothing(tmp_path) -> None:
    run = synthetic_run(tmp_path)
    assert "Rehearsal" not in {n.title for n in notices(View.of(run))}
    run.info["config"] = {"diffusion-bf16": {"rehearsal": True}}
    assert "Rehearsal" in {n.title for n in notices(View.of(run))}
