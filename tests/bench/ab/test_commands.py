"""`canvasbench ab` and `aa record` as a user calls them: exit codes, what is printed, imports."""

import json
import re
from pathlib import Path

import pytest

from bench.ab.measuring import Measuring
from tests.bench.ab.fake import HASH, POINT, Repository
from tests.bench.ab.measured import Done
from tests.bench.ab.test_calibrate import write_batch
from tests.bench.comparison.command import Command, alone


@pytest.fixture
def one_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time for no more."""

    def late(self: Measuring, more_pairs: int) -> str | None:
        return "the budget is spent" if self.pairs.blocks == 1 else None

    monkeypatch.setattr(Measuring, "_late", late)


def test_help_says_what_there_is(canvasbench: Command, tmp_path: Path) -> None:
    for verb in (("ab",), ("aa", "record"), ("aa", "calibrate")):
        done = canvasbench(*verb, "--help", cwd=tmp_path)
        assert done.returncode == 0
        assert "canvasbench " + " ".join(verb) in done.stdout


@pytest.mark.usefixtures("one_block")
def test_more_steps_are_caught_named_and_told(repository: Repository, canvasbench: Command) -> None:
    """By prompt, so that one block is enough; and changes need not be committed."""
    (repository.path / "bench/variant").write_text("longer")
    ci = ("--markdown", "ci.md", "--junit", "ci.xml", "--github")
    done = canvasbench("ab", "--base", "HEAD", "--out", "out", *ci, cwd=repository.path)
    assert done.returncode == 1
    assert re.search(r"cause: denoise forwards \+.* %.*, mostly steps a canvas", done.stdout)
    open_ = "step_ms, delivered_tok_per_s, decode_tok_per_s, peak_rss_bytes: INSUFFICIENT_DATA: 2"
    assert open_ in done.stdout
    assert "2 pairs in ABBA blocks of fresh processes" in done.stdout
    assert f"\nREGRESSION: {POINT} steps_per_canvas\n" in done.stdout
    assert f"::error title=steps_per_canvas of {POINT}%3A failed::REGRESSION" in done.stdout
    plan = json.loads((repository.path / "out" / "ab.json").read_text())
    assert (plan["baseline"]["dirty"], plan["candidate"]["dirty"]) == (False, True)
    assert plan["sha256"][:12] in (repository.path / "ci.md").read_text()
    assert "mostly steps a canvas" in (repository.path / "ci.xml").read_text()
    named = "60 of 60 prompts are answered otherwise"
    assert f"note: {named}\nnote: prompt 0 (" in done.stdout
    for told in (
        done.stdout,
        *((repository.path / f"ci.{end}").read_text() for end in ("md", "xml")),
    ):
        assert told.count(named) >= 1
    assert f"::notice title=notes on {POINT}::" in done.stdout
    assert (repository.path / "out" / "contents" / "candidate" / "requests.parquet").exists()


def test_json_is_all_that_is_printed(
    same: Done, canvasbench: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.ab.run.run_ab", lambda *given: same.found)
    done = canvasbench("ab", "--base", "HEAD~1", "--json", cwd=same.repository.path)
    found = json.loads(done.stdout)
    assert (done.returncode, found["exit_code"], found["status"]) == (0, 0, "EQUIVALENT")
    metrics = found["points"][0]["metrics"]
    assert metrics["step_ms"]["test"] == "sign_flip"
    assert metrics["step_ms"]["n"] == found["ab"]["pairs"] == 10
    assert found["ab"]["plan"]["sha256"] == same.found.plan["sha256"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("--base", "no-such"), "error: git revision 'no-such' is not in this repository"),
        (("--base", "HEAD", "--budget", "soon"), "error: time 'soon' must be a number"),
        (("--base", "HEAD", "--bound", "2"), "error: bound 2 must lie between 0 and 1"),
        (("--base", "HEAD", "--metric", "speed"), "error: metric 'speed' is unknown; valid:"),
        (("--base", "HEAD", "--out", "bench"), "error: bench exists already"),
        (("--base", "HEAD", "--fast"), "error: '--fast' is unknown; overrides are key=value"),
        (("--base", "HEAD", "--aa", "nowhere"), "error: nowhere holds no batch"),
    ],
)
def test_bad_input_is_one_line_and_code_2(
    repository: Repository, canvasbench: Command, given: tuple[str, ...], message: str
) -> None:
    done = canvasbench("ab", *given, cwd=repository.path)
    assert done.returncode == 2
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1
    assert repository.ran == []


def test_recorded_blocks_may_refuse_a_bound(repository: Repository, canvasbench: Command) -> None:
    folder = repository.path.parent / "aa"
    keys = {"point": POINT, "config_hash": HASH}
    write_batch(folder, "busy", 0.1, **keys)
    given = ("ab", "--base", "HEAD", "--aa", folder)
    refused = canvasbench(*given, cwd=repository.path)
    assert refused.returncode == 2
    assert "bound 2 % is tighter than the minimum detectable effect" in refused.stderr
    write_batch(folder, "busy", 0.004, **keys)
    done = canvasbench(*given, "--budget", "0.001s", cwd=repository.path)
    assert done.returncode == 3
    assert re.search(r"A/A blocks 40 pairs tell 0\.\d+ % of .* step_ms from none", done.stdout)
    for message, column in (
        ("recorded on another machine than this (host1)", {"host": "host2"}),
        ("as it is configured now (abcdefabcdef): record new ones", {"config_hash": "other"}),
    ):
        write_batch(folder, "busy", 0.004, **{**keys, **column})
        done = canvasbench(*given, "--out", "another", cwd=repository.path)
        assert (done.returncode, message in done.stderr) == (2, True)


def test_contents_need_one_block_and_nothing_heavy(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process that compares shares the machine with what it measures, so it imports little."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[3]))  # not the fake's
    monkeypatch.setenv("PYTHONSAFEPATH", "1")
    given = ("--base", "HEAD", "--metric", "accuracy", "--metric", "steps_per_canvas")
    done = alone("ab", *given, cwd=repository.path)
    assert done.returncode == 0, done.stderr
    assert "2 pairs in ABBA blocks" in done.stdout
    assert "step_ms" not in done.stdout
    (out,) = (repository.path / "results" / "runs").iterdir()
    assert out.name.startswith("ab-")
