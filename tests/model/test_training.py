"""Training: a short one learns, resumes where it stopped, and leaves a loadable checkpoint."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from model import load
from model.tiny.losses import TapeCache
from model.tiny.train import Recipe, Trainer, learning_rate_at


def recipe(sibling: str, num_steps: int) -> Recipe:
    return Recipe(sibling=sibling, num_steps=num_steps, batch_size=8, learning_rate=3e-3, seed=0)


@pytest.mark.parametrize("sibling", ["diffusion", "autoregressive"])
def test_a_short_training_learns_and_leaves_a_checkpoint(sibling: str, tmp_path: Path) -> None:
    trainer = Trainer(recipe(sibling, 40), tmp_path)
    losses = [trainer._advance() for _ in range(40)]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    trainer.save()
    assert load(str(tmp_path)).config.decoding == sibling


def test_a_resumed_training_continues_from_the_saved_state(tmp_path: Path) -> None:
    first = Trainer(recipe("autoregressive", 40), tmp_path)
    for _ in range(3):
        first._advance()
    first.save()
    second = Trainer(recipe("autoregressive", 40), tmp_path)
    assert second.step == 3
    for name, parameter in second._model.named_parameters():
        assert torch.equal(parameter, dict(first._model.named_parameters())[name])
        assert torch.equal(second._average[name], first._average[name])
    # The optimizer's moments came back too: the same gradient gives the same update.
    updated = []
    for trainer in (first, second):
        trainer._optimizer.param_groups[0]["lr"] = 1e-3
        for parameter in trainer._model.parameters():
            parameter.grad = torch.ones_like(parameter)
        trainer._optimizer.step()
        updated.append(trainer._model.embedding.weight.detach().clone())
    assert torch.equal(*updated)


def test_a_training_may_start_from_the_siblings_weights(tmp_path: Path) -> None:
    shipped = load("tiny-diffusion")
    assert shipped.weights.folder is not None
    start = replace(recipe("autoregressive", 40), start=str(shipped.weights.folder))
    trainer = Trainer(start, tmp_path)
    given = load("tiny-diffusion", kernels="reference").model.state_dict()
    for name, parameter in trainer._model.named_parameters():
        assert torch.equal(parameter, given[name]), name
    assert "self_conditioning.pre_norm.weight" not in trainer._model.state_dict()


def test_a_folder_of_another_recipe_is_refused(tmp_path: Path) -> None:
    trainer = Trainer(recipe("autoregressive", 40), tmp_path)
    trainer._advance()
    trainer.save()
    with pytest.raises(ValueError, match="another recipe"):
        Trainer(recipe("autoregressive", 50), tmp_path)


def test_learning_rate_is_the_one_cycle_of_torch() -> None:
    given = recipe("diffusion", 400)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, given.learning_rate, given.num_steps, pct_start=0.03, cycle_momentum=False
    )
    for step in range(given.num_steps):
        assert learning_rate_at(step, given) == pytest.approx(cycle.get_last_lr()[0], rel=1e-9)
        optimizer.step()
        if step + 1 < given.num_steps:
            cycle.step()


def test_tape_cache_shows_prefix_then_canvas() -> None:
    cache = TapeCache()
    prefix, canvas = torch.zeros(2, 1, 3, 4), torch.ones(2, 1, 5, 4)
    cache.write_and_view(0, prefix, prefix)
    cache.advance(3)
    for _ in range(2):  # a denoise step leaves the prefix alone
        keys, values = cache.write_and_view(0, canvas, canvas)
        assert keys.shape == values.shape == (2, 1, 8, 4)
        assert torch.equal(keys, torch.cat((prefix, canvas), dim=2))
    assert cache.first_rows(1).write_and_view(0, canvas[:1], canvas[:1])[0].shape == (1, 1, 8, 4)
