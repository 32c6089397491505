"""Speeds are ranked only beside accuracies: equal, significantly different and unknown ones."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from scipy import stats

from bench.report.findings import headline, standout
from bench.report.quality import compare_quality, mcnemar_p_value
from bench.report.view import View
from tests.bench.report.synthetic import SyntheticRun

N = 100
RIGHT, WRONG = True, False


def made_run(
    path: Path, answers: dict[str, list[bool] | None], **columns: dict[str, Any]
) -> SyntheticRun:
    """A run with a point for each "decoding precision"; `None` answers were not judged."""
    points, requests = [], []
    for order, (name, given) in enumerate(answers.items()):
        decoding, precision = name.split()
        keys = {"point_id": name.replace(" ", "-"), "config_hash": f"{order:012x}"}
        own = {column: values.get(name) for column, values in columns.items()}
        points.append(
            {
                **keys,
                "decoding": decoding,
                "precision": precision,
                "delivered_tok_per_s": 400.0 - 100 * order,
                "num_processes": 1,
                "num_prompts": N,
                "accuracy": None if given is None else sum(given) / len(given),
                "validity": "valid",
                "prompts_sha256": "cd" * 32,
                **own,
            }
        )
        requests += [
            {**keys, "request_id": i, "process_id": 0, "repeat": 0, "correct": right}
            for i, right in enumerate(given or [])
        ]
    frame = pd.DataFrame(requests) if requests else None
    return SyntheticRun(path, {"finished": True}, pd.DataFrame(points), requests=frame)


def right(count: int) -> list[bool]:
    return [i < count for i in range(N)]


PAIR = ("diffusion fp8", "autoregressive fp8")


def view(path: Path, mine: list[bool] | None, theirs: list[bool] | None, **columns: Any) -> View:
    return View.of(made_run(path, dict(zip(PAIR, (mine, theirs), strict=True)), **columns))


def test_equal_accuracy_lets_speeds_be_ranked(tmp_path: Path) -> None:
    found = headline(view(tmp_path, right(95), right(95)))
    assert found.sentence.endswith("a ratio of 1.33.")
    assert (
        "does not tell the accuracies apart (McNemar, p = 1.00, n = 100 prompts)" in found.quality
    )


def test_a_significant_difference_stands_in_the_ranking_sentence(tmp_path: Path) -> None:
    made = view(tmp_path, right(85), right(95))
    found = headline(made)
    assert "a ratio of 1.33, but their accuracy differs (85.0 % against 95.0 %)" in found.sentence
    assert "diffusion fp8 is less accurate" in found.quality
    assert "rank nothing" in found.quality
    assert "a significant difference" in standout(made)


def test_overlapping_intervals_are_no_excuse(tmp_path: Path) -> None:
    """The published tiny pair: 86.5 to 95.4 and 95.3 to 99.6 overlap; McNemar says 0.013."""
    limits = {"accuracy_lo": {PAIR[0]: 0.80}, "accuracy_hi": {PAIR[0]: 0.96}}
    found = headline(view(tmp_path, right(88), right(96), **limits))
    assert "but their accuracy differs" in found.sentence


def test_unknown_accuracy_is_said_and_never_equal(tmp_path: Path) -> None:
    for mine, theirs in ((None, right(90)), (right(90), None), (None, None)):
        made = view(tmp_path, mine, theirs)
        found = headline(made)
        assert found.sentence.endswith("a ratio of 1.33, quality unknown.")
        assert "speed without known quality" in found.quality
        assert "n/a" in standout(made)
        assert compare_quality(made, *made.points).differs is None


def test_other_precisions_say_it_too(tmp_path: Path) -> None:
    answers: dict[str, list[bool] | None] = {
        "diffusion fp8": right(95),
        "diffusion bf16": right(70),
        "autoregressive fp8": right(95),
        "autoregressive bf16": right(95),
    }
    (other,) = headline(View.of(made_run(tmp_path, answers))).others
    assert other.startswith("In bf16: diffusion")
    assert "but their accuracy differs (70.0 % against 95.0 %)" in other


def test_without_a_pair_every_point_is_held_against_the_fastest(tmp_path: Path) -> None:
    answers: dict[str, list[bool] | None] = {
        "diffusion fp8": right(70),
        "diffusion bf16": right(95),
        "diffusion fp32": right(71),
    }
    found = headline(View.of(made_run(tmp_path, answers)))
    assert found.sentence.startswith("diffusion fp8 delivered 400 tok/s")
    assert "differs significantly from that of diffusion fp8" in " ".join(found.others)
    assert "not told apart from that of diffusion fp8" in " ".join(found.others)


def test_an_invalid_partner_is_named_and_compared_with_nothing(tmp_path: Path) -> None:
    made = view(tmp_path, right(95), right(95), validity={PAIR[0]: "invalid", PAIR[1]: "valid"})
    found = headline(made)
    assert found.sentence.startswith("autoregressive fp8 delivered 300 tok/s")
    assert "diffusion fp8 is invalid" in found.quality
    assert not found.others
    assert "ratio" not in standout(made)
    assert set(made.tables["requests"]["point_id"]) == {"autoregressive-fp8"}


def test_answers_are_joined_by_config_hash(tmp_path: Path) -> None:
    """Rows of another configuration say nothing of a point, whatever they are called."""
    made = made_run(tmp_path, {PAIR[0]: right(50), PAIR[1]: right(95)})
    assert made.requests is not None
    made.requests["config_hash"] = "f" * 12
    compared = compare_quality(View.of(made), *View.of(made).points)
    assert not compared.paired
    assert compared.p_value == pytest.approx(
        stats.fisher_exact([[50, 50], [95, 5]]).pvalue, rel=1e-12
    )


def test_other_prompts_are_not_paired(tmp_path: Path) -> None:
    hashes = {"prompts_sha256": {PAIR[0]: "a", PAIR[1]: "b"}}
    made = view(tmp_path, right(88), right(96), **hashes)
    compared = compare_quality(made, *made.points)
    assert (compared.paired, compared.differs) == (False, False)
    assert compared.p_value == pytest.approx(stats.fisher_exact([[88, 12], [96, 4]]).pvalue)


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (0, 1), (2, 12), (7, 7), (40, 21)])
def test_mcnemar_is_the_exact_binomial_test(gained: int, lost: int) -> None:
    n = gained + lost
    expected = stats.binomtest(gained, n).pvalue if n else 1.0
    assert mcnemar_p_value(gained, lost) == pytest.approx(expected, rel=1e-12)


def test_a_point_that_a_sweep_varies_is_named_by_what_varies(tmp_path: Path) -> None:
    made = made_run(tmp_path, {PAIR[0]: right(95), PAIR[1]: right(95)})
    assert made.points is not None
    more = made.points.iloc[[0]].assign(point_id="diffusion-fp8-steps=8", config_hash="9" * 12)
    made.points = pd.concat([made.points, more], ignore_index=True)
    assert [p.name for p in View.of(made).points] == [
        "diffusion fp8",
        "diffusion fp8 steps=8",
        "autoregressive fp8",
    ]
