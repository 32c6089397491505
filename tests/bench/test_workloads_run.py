"""The workloads `text` and `long_context` from the command line to the tables, on a small model."""

import json
import os
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pandas as pd
import pytest

from bench.backends.native import NativeSession
from bench.build import (
    build_sessions,
    build_workload,
    chat_template,
    check_point,
    decoding_of,
)
from bench.cli import main
from bench.compose import Point, compose_points, restore_point
from bench.merge import merged
from bench.parquet import read_table
from bench.plan import Task
from bench.preview import print_plan
from bench.schema import LongContextConfig, TextConfig
from bench.tables import COLUMNS, SCHEMA_VERSION, frame
from bench.worker import describe, measure, prepare
from bench.workloads import DOMAINS, long_context
from bench.workloads.documents import GENRES, VERSION
from bench.workloads.long_context import TOLERANCE, Document, depth_of
from tests.bench.chat_checkpoint import SPECIAL, TEMPLATE, make_tokenizer, write_checkpoint

QUICK = (
    "precision=fp32",
    "threads=1",
    "workload.max_new_tokens=12",
    "measure.num_repeats=1",
    "measure.min_warmup_prompts=1",
    "measure.max_warmup_prompts=1",
    "measure.num_routing_prompts=1",
)
FEW_STEPS = "sampler.max_denoising_steps=3"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("chat") / "small-it")


def point(model: Path | str, *overrides: str) -> Point:
    given = [f"model={model}", *QUICK, *overrides]
    (found,) = compose_points(given, decoding_of, default_sweep=False)
    return found


def measured(asked: Point, run_folder: Path) -> dict[str, pd.DataFrame]:
    (run,) = prepare(describe(Task("t", 0, (asked,))))
    measure(run, 0, run_folder, lambda: None, own_pid=os.getpid())
    return merged(run_folder)


def test_knobs_are_typed_and_come_back_from_a_run(folder: Path) -> None:
    text = point(folder, "workload=text", "workload.domains='code,maths'", "workload.thinking=true")
    assert text.config.workload == TextConfig(
        tasks="text", domains="code,maths", thinking=True, num_prompts=40, max_new_tokens=12
    )
    long = point(folder, "workload=long_context", "workload.prompt_tokens=32768")
    assert isinstance(long.config.workload, LongContextConfig)
    assert long.config.workload.prompt_tokens == 32768
    for each in (text, long):
        assert restore_point(each.point_id, each.config_hash, each.resolved) == each
    axis = [f"model={folder}", "workload=text", "precision=fp32", "workload.domains=code,chat"]
    swept = compose_points(axis, decoding_of)
    assert [p.config.workload.max_new_tokens for p in swept] == [1024, 1024]
    assert [p.point_id for p in swept] == [
        "diffusion-fp32-domains=code",
        "diffusion-fp32-domains=chat",
    ]
    for key, better in (("thinkin", "thinking"), ("domain", "domains")):
        with pytest.raises(ValueError, match=f"did you mean 'workload.{better}'"):
            point(folder, "workload=text", f"workload.{key}=x")


def test_a_text_point_of_a_small_model_goes_through(folder: Path, tmp_path: Path) -> None:
    asked = point(folder, "workload=text", "workload.num_prompts=5", FEW_STEPS)
    tables = measured(asked, tmp_path)
    requests = tables["requests"].set_index("task")
    assert sorted(requests.index) == sorted(DOMAINS)
    checked = requests["correct"].notna()
    assert checked[checked].index.tolist() == [t for t in requests.index if t in CHECKED]
    formed = requests["well_formed"].notna()
    assert set(formed[formed].index) == {"code", "maths", "structured"}
    split = requests["reasoning_tokens"] + requests["visible_tokens"]
    assert (split == requests["delivered_tokens"]).all()
    (row,) = tables["points"].to_dict("records")
    assert (row["workload"], row["template_sha256"]) == (
        "text",
        sha256(TEMPLATE.encode()).hexdigest(),
    )
    assert (row["validity"], row["validity_reason"].split()[-1]) == ("low_validity", "truncated")
    assert row["accuracy"] == 0
    assert row["correction_n"] == len(CHECKED)
    # Process metrics need no checker, self-correction is told of checked prompts alone.
    corrected = requests["correct_ever"].notna()
    assert set(corrected[corrected].index) == CHECKED


CHECKED = {"maths", "structured"}


def test_accuracy_is_that_of_the_prompts_that_can_be_checked(tmp_path: Path) -> None:
    """A simulation that answers rightly: the stored right answers pass their own checks."""
    told = ("workload=text", "backend=simulated", "backend.clock=virtual", "precision=fp32")
    asked = point("tiny-diffusion", *told, "workload.num_prompts=10", "workload.max_new_tokens=999")
    tables = measured(asked, tmp_path)
    (row,) = tables["points"].to_dict("records")
    requests = tables["requests"]
    judged = requests[requests["task"].isin(CHECKED)]
    assert len(judged) == 4
    assert row["accuracy"] == pytest.approx(judged["correct"].astype(float).mean())
    assert row["accuracy"] > 0
    assert requests[~requests["task"].isin(CHECKED)]["correct"].isna().all()
    assert requests["reasoning_tokens"].isna().all()


def test_a_prompt_is_given_as_the_template_writes_it(folder: Path) -> None:
    asked = point(folder, "workload=text", "workload.domains=prose", "workload.thinking=true")
    (session,) = build_sessions(["x"], [asked.config], 0)
    assert isinstance(session, NativeSession)
    text = build_workload(asked.config).prompts[0].text
    ids = session.encode(text)
    names = [SPECIAL[t] for t in ids if t < len(SPECIAL)]
    turn = ["<|turn>", "<turn|>"]
    assert names == ["<bos>", "<|turn>", "<|think|>", "<turn|>", *turn, "<|turn>"]
    assert session.decode(ids) == f"system\n\nuser\n{text}\nmodel\n"
    assert session.identity.thought is not None
    bare = replace(session, template=None)
    assert bare.encode("a") == [2, *make_tokenizer().encode("a", add_special_tokens=False).ids]


@pytest.mark.parametrize("prompt_tokens", [512, 1500])
def test_long_prompts_have_their_length_and_their_needle(folder: Path, prompt_tokens: int) -> None:
    asked = point(
        folder, "workload=long_context", f"workload.prompt_tokens={prompt_tokens}",
        "workload.num_prompts=6",
    )  # fmt: skip
    (run,) = prepare(describe(Task("t", 0, (asked,))))
    places = []
    for prompt in run.workload.prompts:
        ids = prompt.ids(run.session.encode)
        assert (1 - TOLERANCE) * prompt_tokens <= len(ids) <= prompt_tokens
        text = run.session.decode(ids)
        assert prompt.answer is not None
        number = prompt.answer.removeprefix("Answer: ")
        assert text.count(f"bears the number {number}") == 1
        assert text.count("bears the number") >= 2
        assert prompt.is_correct(f"It says so.\nAnswer: {number}") is True
        assert prompt.is_correct(f"Answer: {int(number) + 1}") is False
        lines = text.split("\n\n")[1].splitlines()
        (place,) = (i for i, line in enumerate(lines) if number in line)
        places.append(place / (len(lines) - 1))
    assert places == pytest.approx([depth_of(i) for i in range(6)], abs=1 / 8)
    assert {p.task for p in run.workload.prompts} == set(GENRES)


def test_a_long_prompt_is_measured(folder: Path, tmp_path: Path) -> None:
    overrides = ("workload=long_context", "workload.prompt_tokens=600", "workload.num_prompts=1")
    tables = measured(point(folder, *overrides, FEW_STEPS), tmp_path)
    (request,) = tables["requests"].to_dict("records")
    assert 594 <= request["prompt_tokens"] <= 600
    assert request["correct"] is False
    assert request["prompt"].startswith("[ledger, 600 tokens, at 50.0%] Which number does the tag")


def test_documents_are_the_same_however_they_grow() -> None:
    grown, whole = (Document("letters", "3", 0.25) for _ in range(2))
    for size in (3, 40, 7):
        grown.text(size)
    assert grown.text(60) == whole.text(60)
    assert Document("letters", "4", 0.25).text(60) != whole.text(60)
    lines = whole.text(400).splitlines()
    assert len(set(lines)) > 0.95 * len(lines)
    assert [depth_of(i) for i in range(7)] == [0.5, 0.25, 0.75, 0.125, 0.625, 0.375, 0.875]


def test_other_texts_need_another_version() -> None:
    """The hash of a workload knows its documents by the generator's version alone."""
    texts = "\0".join(Document(genre, "0", 0.5).text(100, 30) for genre in GENRES)
    known = {1: "5555307b77b8db5f"}
    assert sha256(texts.encode()).hexdigest()[:16] == known[VERSION]


def test_a_long_workload_is_named_by_its_recipe() -> None:
    one = long_context(2, 1024)
    encode = make_tokenizer().encode
    fitted = one.fitted(lambda text: encode(text).ids)
    assert (fitted.sha256, one.needs_tokenizer, fitted.needs_tokenizer) == (one.sha256, True, False)
    assert len({one.sha256, long_context(3, 1024).sha256, long_context(2, 2048).sha256}) == 3
    with pytest.raises(AssertionError, match="fitted comes first"):
        one.prompts[0].ids(lambda text: [])
    with pytest.raises(ValueError, match="the nearest prompt that this tokenizer gives has 0 tok"):
        one.fitted(lambda text: [])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("workload=text",), "needs a checkpoint folder with a tokenizer and a chat template"),
        (("workload=text", "weights=dummy"), "model=tiny-diffusion weights=dummy has none$"),
        (("workload=long_context",), "workload=fixed_work workload.prompt_tokens=8192"),
        (("workload=long_context", "weights=dummy"), "workload=fixed_work workload.prompt_tokens"),
        (("workload=long_context", "backend=simulated"), "no text to simulate"),
        (("workload=long_context", "workload.prompt_tokens=100"), "must be >= 512"),
        (("workload=text", "workload.domains=verse"), "valid: all, or some of code"),
        (("workload=text", "weights=nowhere"), "nowhere does not exist"),
    ],
)
def test_what_the_tiny_pair_cannot_answer_is_refused(
    overrides: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        check_point(point("tiny-diffusion", *overrides).config)


def test_a_plan_is_refused_too(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs a checkpoint folder"):
        print_plan(["workload=text"], default_sweep=False)
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "config.json").write_text((folder / "config.json").read_text())
    with pytest.raises(ValueError, match="has no chat template"):
        check_point(point(bare, "workload=text").config)


def test_a_prompt_longer_than_the_context_is_refused_before_measuring(folder: Path) -> None:
    asked = point(folder, "workload=long_context", "workload.num_prompts=1")
    with pytest.raises(ValueError, match=r"prompt 0 has 81\d\d tokens; .* takes at most"):
        prepare(describe(Task("t", 0, (asked,))))


def test_the_command_line_refuses_with_one_line_and_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["canvasbench", "run", "-m", "workload=text"])
    with pytest.raises(SystemExit) as ended:
        main()
    told = capsys.readouterr().err
    assert ended.value.code == 2
    assert told.startswith("error: workload=text needs a checkpoint folder")
    assert len(told.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_help_teaches_the_workloads_and_their_keys(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["canvasbench", "run", "--help"])
    with pytest.raises(SystemExit):
        main()
    told = capsys.readouterr().out
    assert "fixed_work | text | long_context" in told
    assert all(f"workload.{key}" in told for key in ("domains", "thinking", "prompt_tokens"))


def test_a_version_4_request_does_not_tell_reasoning_apart(tmp_path: Path) -> None:
    keys = {"config_hash": "abc", "point_id": "a", "host": "0a1b2c3d"}
    kinds = {"int": 1, "str": "x", "bool": True, "float": 1.0}
    row = {n: kinds.get(k.rstrip("?")) for n, k in COLUMNS["requests"].items() if n not in keys}
    row.pop("schema_version")
    added = ["reasoning_tokens", "visible_tokens", "well_formed"]
    path = tmp_path / "requests.parquet"
    frame("requests", [row], keys).drop(columns=added).assign(schema_version=4).to_parquet(path)
    found = read_table("requests", path)
    assert found["schema_version"].tolist() == [SCHEMA_VERSION]
    assert found[added].isna().all(axis=None)
    assert found["scores_finite"].tolist() == [True]


def test_the_checkpoint_config_is_one_that_is_read(folder: Path) -> None:
    assert json.loads((folder / "config.json").read_text())["canvas_length"]
    assert decoding_of(str(folder)) == "diffusion"


def test_the_template_is_that_of_the_folder_that_is_loaded(folder: Path, tmp_path: Path) -> None:
    """A model that is a folder brings its own weights; a preset takes those it is given."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "chat_template.jinja").write_text("other")
    for model, weights, expected in ((folder, other, TEMPLATE), ("tiny-diffusion", other, "other")):
        found = chat_template(point(model, f"weights={weights}", "workload=text").config)
        assert found is not None
        assert found.source == expected
    assert chat_template(point("tiny-diffusion", "workload=tiny").config) is None
