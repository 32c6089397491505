"""The plan on a terminal of 80 columns."""

import pytest

from bench import preview


def test_points_are_told_apart_on_80_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(preview, "_recent_runs", lambda: iter(()))
    axes = ("backend=native,transformers", "sampler.max_denoising_steps=4,48")
    preview.print_plan(["model=tiny-diffusion", "precision=bf16", *axes], default_sweep=False)
    table = capsys.readouterr().out.partition("─\n")[2].partition("\n2 processes")[0]
    names = "".join(line.split("  ")[0].strip() for line in table.splitlines())
    assert max(map(len, table.splitlines())) <= 80
    assert names == "".join(
        f"diffusion-bf16-backend={backend}-max_denoising_steps={steps}"
        for backend in ("native", "transformers")
        for steps in (4, 48)
    )
