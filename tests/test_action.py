"""The composite action's shell, run as GitHub runs it: real clones, a stub for `canvasbench`."""

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
ACTION = yaml.safe_load((ROOT / ".github/actions/canvasbench/action.yml").read_text())
WORKFLOW = yaml.safe_load((ROOT / ".github/workflows/gate.yaml").read_text())
_EXPRESSION = re.compile(r"\$\{\{ (.+?) \}\}")
_STUB = """#!/bin/bash
printf '%s\\n' "$@" > "$STUB/arguments"
while [ $# -gt 0 ]; do
  case $1 in
    --markdown) [ -z "$STATUS" ] || echo '### gate: told' > "$2" ;;
    --junit) [ -z "$STATUS" ] || echo "<error message=\\"$STATUS: why\\"/>" > "$2" ;;
  esac
  shift
done
echo "::notice title=stub::printed"
echo "error: told on standard error" >&2
exit "$CODE"
"""


@dataclass
class Job:
    """A job on a runner: its folders, files and the outputs of its steps.

    Attributes:
        folder: holds everything that the runner would.
        repository: what the caller has checked out; the current folder of every step.
        known: expressions with their values, beside the inputs and outputs.
    """

    folder: Path
    repository: Path
    inputs: dict[str, str] = field(default_factory=dict)
    known: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    printed: str = ""

    def run(self, name: str) -> int:
        """Runs a step; its outputs are known afterwards. Returns its exit code."""
        (step,) = (step for step in ACTION["runs"]["steps"] if step["name"] == name)
        assert step["shell"] == "bash"
        assert "${{" not in step["run"]  # an expression in a script is a way to inject one
        script, output = self.folder / "step.sh", self.folder / "output"
        script.write_text(step["run"])
        output.write_text("")
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)],
            cwd=self.repository,
            env=self._env(output) | {k: self._value(v) for k, v in step.get("env", {}).items()},
            capture_output=True,
            text=True,
            check=False,
        )
        self.printed = done.stdout + done.stderr
        for line in output.read_text().splitlines():
            key, _, value = line.partition("=")
            self.known[f"steps.{step.get('id')}.outputs.{key}"] = value
        return done.returncode

    def _env(self, output: Path) -> dict[str, str]:
        return {
            "PATH": f"{self.folder}:{os.environ['PATH']}",
            "HOME": str(self.folder),
            "RUNNER_TEMP": str(self.folder / "temp"),
            "GITHUB_OUTPUT": str(output),
            "GITHUB_PATH": str(self.folder / "path"),
            "GITHUB_STEP_SUMMARY": str(self.folder / "summary"),
            "GITHUB_REF": "refs/pull/7/merge",
            "STUB": str(self.folder),
            **self.environment,
        }

    def _value(self, template: str) -> str:
        return _EXPRESSION.sub(lambda found: self._resolved(found[1]), template)

    def _resolved(self, expression: str) -> str:
        defaults = {f"inputs.{name}": each["default"] for name, each in ACTION["inputs"].items()}
        given = {f"inputs.{name}": value for name, value in self.inputs.items()}
        assert given.keys() <= defaults.keys()
        known: Mapping[str, str] = defaults | given | self.known
        return next((v for name in expression.split(" || ") if (v := known.get(name, ""))), "")

    @property
    def summary(self) -> str:
        return (self.folder / "summary").read_text()


@pytest.fixture
def job(tmp_path: Path) -> Job:
    (tmp_path / "temp").mkdir()
    stub = tmp_path / "canvasbench"
    stub.write_text(_STUB)
    stub.chmod(0o755)
    repository = tmp_path / "repository"
    repository.mkdir()
    return Job(tmp_path, repository, known={"steps.base.outputs.commit": "f" * 40})


@pytest.mark.parametrize(
    ("code", "status", "on_ambiguous", "outcome", "returned"),
    [
        (0, "EQUIVALENT", "fail", "passed", 0),
        (1, "REGRESSION", "warn", "regression", 1),
        (2, "", "warn", "bad_input", 2),
        (3, "AMBIGUOUS", "fail", "ambiguous", 3),
        (3, "AMBIGUOUS", "warn", "ambiguous", 0),
        (3, "INSUFFICIENT_DATA", "warn", "insufficient_data", 3),
        (3, "AMBIGUOUS and INSUFFICIENT_DATA", "warn", "insufficient_data", 3),
        (1, "", "warn", "crashed", 1),
        (70, "", "warn", "crashed", 70),
        (137, "", "warn", "crashed", 137),
    ],
)
def test_every_exit_code_of_ab_fails_or_passes_the_job(
    job: Job, code: int, status: str, on_ambiguous: str, outcome: str, returned: int
) -> None:
    job.inputs["on-ambiguous"] = on_ambiguous
    job.environment |= {"CODE": str(code), "STATUS": status}
    assert job.run("Compare") == returned
    assert job.known["steps.compare.outputs.outcome"] == outcome
    assert job.known["steps.compare.outputs.exit-code"] == str(code)
    assert ("::warning" in job.printed) is (code == 3 and returned == 0)
    assert ("::error" in job.printed) is (outcome == "crashed")
    assert "::notice title=stub::printed" in job.printed  # annotations reach the log
    folder = Path(job.known["steps.compare.outputs.folder"])
    assert "told on standard error" in (folder / "log.txt").read_text()
    assert job.run("Summary") == 0
    if not status:
        assert job.summary.startswith("### canvasbench: nothing was compared\n\n    ")
        assert "    error: told on standard error" in job.summary
    else:
        assert job.summary == "### gate: told\n"


def test_inputs_become_arguments_and_are_never_read_by_the_shell(job: Job) -> None:
    job.inputs |= {"budget": "3m", "overrides": "model=tiny-diffusion\n\na=$(touch x) b; exit 0"}
    job.environment["CODE"] = "0"
    assert job.run("Compare") == 0
    folder = job.folder / "temp" / "canvasbench-ab"
    expected = [
        *("ab", "--base", "f" * 40, "--budget", "3m", "--bound", "0.02"),
        *("--out", f"{folder}/runs", "--markdown", f"{folder}/summary.md"),
        *("--junit", f"{folder}/junit.xml", "--github"),
        *("model=tiny-diffusion", "a=$(touch x) b; exit 0"),
    ]
    assert (job.folder / "arguments").read_text().splitlines() == expected
    assert list(job.repository.iterdir()) == []


def test_an_install_that_fails_still_leaves_a_summary(job: Job) -> None:
    assert job.run("Summary") == 0
    assert "nothing was compared" in job.summary


def test_the_project_is_installed_under_its_constraints(job: Job) -> None:
    stub = job.folder / "python"
    stub.write_text('#!/bin/bash\nprintf "%s\\n" "$*" >> "$STUB/asked"\n')
    stub.chmod(0o755)
    venv = job.folder / "temp" / "canvasbench-venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").symlink_to(stub)
    install = "-m pip install --quiet -c constraints.txt"
    index = "file:///wheels"
    for given, first in (
        (index, [f"{install} --no-deps --index-url {index} torch"]),
        ("", []),
    ):
        job.inputs["torch-index"] = given
        (job.folder / "asked").unlink(missing_ok=True)
        assert job.run("Install") == 0, job.printed
        asked = (job.folder / "asked").read_text().splitlines()
        assert asked == [f"-m venv {venv}", *first, f"{install} -e ."]
    assert (job.folder / "path").read_text().splitlines() == [f"{venv}/bin"] * 2


@dataclass(frozen=True)
class Upstream:
    """A repository with a pull request: its merge, what it was merged into, and an older base."""

    path: Path
    older: str
    base: str
    merge: str


def git(path: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
    return subprocess.run(
        ["git", *identity, *arguments], cwd=path, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Upstream:
    path = tmp_path_factory.mktemp("upstream")
    git(path, "init", "--quiet", "--initial-branch=main")
    git(path, "config", "uploadpack.allowAnySHA1InWant", "true")  # as GitHub's servers
    commits = []
    for number in range(2):
        git(path, "commit", "--quiet", "--allow-empty", "-m", f"{number}")
        commits.append(git(path, "rev-parse", "HEAD"))
    git(path, "checkout", "--quiet", "-b", "change", commits[0])
    git(path, "commit", "--quiet", "--allow-empty", "-m", "change")
    git(path, "checkout", "--quiet", "--detach", "main")
    git(path, "merge", "--quiet", "--no-ff", "change", "-m", "merge")
    git(path, "update-ref", "refs/pull/7/merge", "HEAD")
    return Upstream(path, *commits, git(path, "rev-parse", "HEAD"))


@pytest.fixture
def shallow(job: Job, upstream: Upstream) -> Job:
    """What actions/checkout leaves by default: the merge, and nothing before it."""
    git(job.repository, "init", "--quiet")
    git(job.repository, "remote", "add", "origin", f"file://{upstream.path}")
    git(job.repository, "fetch", "--quiet", "--depth=1", "origin", "refs/pull/7/merge")
    git(job.repository, "checkout", "--quiet", "--detach", "FETCH_HEAD")
    job.known = {"github.event.pull_request.base.sha": upstream.older}
    return job


def test_a_pull_request_is_held_against_what_it_was_merged_into(
    shallow: Job, upstream: Upstream
) -> None:
    """Not against the event's base, which lacks what others merged since; fetched where missing."""
    assert git(shallow.repository, "rev-list", "--count", "HEAD") == "1"
    assert shallow.run("Base") == 0, shallow.printed
    assert shallow.known["steps.base.outputs.commit"] == upstream.base
    assert git(shallow.repository, "cat-file", "-t", upstream.base) == "commit"


@pytest.mark.parametrize(
    ("given", "expected"), [("main", "base"), ("", "older"), ("OLDER", "older")]
)
def test_another_event_and_a_named_base(
    shallow: Job, upstream: Upstream, given: str, expected: str
) -> None:
    """A push has no merge commit of its own making: the event says what was before."""
    shallow.environment["GITHUB_REF"] = "refs/heads/main"
    shallow.known = {"github.event.before": upstream.older}
    shallow.inputs["base"] = given.replace("OLDER", upstream.older)
    assert shallow.run("Base") == 0, shallow.printed
    assert shallow.known["steps.base.outputs.commit"] == getattr(upstream, expected)


@pytest.mark.parametrize("base", ["1" * 40, "no-such-branch", "--upload-pack=x"])
def test_a_base_that_is_gone_is_one_line_and_code_2(shallow: Job, base: str) -> None:
    shallow.inputs["base"] = base
    assert shallow.run("Base") == 2
    assert (
        f"::error title=canvasbench::base {base} is neither here nor at origin" in shallow.printed
    )
    assert "steps.base.outputs.commit" not in shallow.known


def test_an_event_without_a_base_and_a_wrong_input_are_refused(shallow: Job) -> None:
    shallow.environment["GITHUB_REF"] = "refs/heads/main"
    shallow.known = {}
    assert shallow.run("Base") == 2
    assert "this event has no base" in shallow.printed
    shallow.inputs["on-ambiguous"] = "ignore"
    assert shallow.run("Base") == 2
    assert "on-ambiguous is 'ignore'; valid: fail, warn" in shallow.printed


def test_the_workflow_needs_no_secret_and_gives_the_action_inputs_it_has() -> None:
    text = (ROOT / ".github/workflows/gate.yaml").read_text()
    assert "secrets." not in text + (ROOT / ".github/actions/canvasbench/action.yml").read_text()
    assert WORKFLOW["permissions"] == {"contents": "read"}
    assert WORKFLOW[True] == "pull_request"  # YAML 1.1 reads `on` as true
    checkout, gate = _steps(WORKFLOW)
    assert checkout["uses"].startswith("actions/checkout@")
    assert (ROOT / gate["uses"] / "action.yml").is_file()
    assert gate["with"].keys() <= ACTION["inputs"].keys()
    assert all(each["description"] for each in ACTION["inputs"].values())


def test_what_was_measured_is_kept_whatever_happens() -> None:
    steps = {step["name"]: step for step in ACTION["runs"]["steps"]}
    assert steps["Summary"]["if"] == steps["Artifact"]["if"] == "always()"
    assert steps["Artifact"]["with"]["path"] == "${{ runner.temp }}/canvasbench-ab"


def _steps(workflow: Mapping[Any, Any]) -> list[dict[str, Any]]:
    (one,) = workflow["jobs"].values()
    return list(one["steps"])
