"""Tasks: a clean process where one matters, one load where only shapes change, blocks in turn."""

from collections import Counter

from bench.compose import compose_points, restore_point
from bench.memory import fits_together, need
from bench.plan import blocks


def decoding_of(model: str) -> str:
    return "autoregressive" if "autoregressive" in model else "diffusion"


def planned(*overrides: str, finished: set[tuple[str, int]] | None = None):
    points = compose_points(overrides, decoding_of)
    return points, list(blocks(points, finished or set(), seed=0))


def test_every_precision_and_model_gets_its_own_process() -> None:
    _, found = planned()
    assert [len(block) for block in found] == [4]
    assert all(len(task.points) == 1 for task in found[0])


def test_points_that_differ_in_shape_alone_share_one() -> None:
    points, found = planned("batch_size=1,4", "sampler.max_denoising_steps=8,48")
    assert len(points) == 2 * 2 * 2 + 2 * 2  # the autoregressive sibling has no steps to cap
    assert [len(block) for block in found] == [4]
    assert Counter(len(task.points) for task in found[0]) == {4: 2, 2: 2}


def test_publish_takes_a_block_a_process_in_another_order() -> None:
    points, found = planned("measure=publish")
    assert len(found) == 8
    assert [{task.process_id for task in block} for block in found] == [{i} for i in range(8)]
    orders = {tuple(task.points[0].point_id for task in block) for block in found}
    assert len(orders) > 2
    done = {(points[0].config_hash, process) for process in range(8)}
    _, rest = planned("measure=publish", finished=done)
    assert all(len(block) == 3 for block in rest)


def test_nothing_left_is_an_empty_plan() -> None:
    points, _ = planned()
    assert planned(finished={(p.config_hash, 0) for p in points})[1] == []


def test_a_stored_point_comes_back_the_same() -> None:
    points, _ = planned("launcher=slurm", "launcher.partition=gpu", "measure=publish")
    for point in points:
        again = restore_point(point.point_id, point.config_hash, point.resolved)
        assert again == point
    assert points[0].config.launcher.partition == "gpu"  # type: ignore[attr-defined]


def test_memory_grows_with_what_a_point_holds() -> None:
    small, large = (planned(f"batch_size={n}")[0][0].config for n in (1, 8))
    assert need(large).cache == 8 * need(small).cache
    assert need(large).weights == need(small).weights
    assert fits_together([[small], [large]])
    huge = planned("model=diffusiongemma-26b-a4b", "precision=fp8")[0][0].config
    assert not fits_together([[huge]] * 4)
