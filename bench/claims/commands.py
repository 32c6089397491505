"""`canvasbench claims list | run | judge`: what each does between arguments and an exit code."""

import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.claims.claim import Claim
from bench.claims.files import read_claim, shipped_claims
from bench.claims.terminal import print_claims, print_verdicts
from bench.claims.verdict import exit_code

if TYPE_CHECKING:
    from bench.claims.dossier import Dossier


def list_claims(*, as_json: bool) -> None:
    """Every shipped claim, one row each."""
    claims = shipped_claims()
    if as_json:
        print(json.dumps([claim.plain() for claim in claims], indent=1))
    else:
        print_claims(claims)


def judge_run(run_folder: Path, names: Sequence[str], *, as_json: bool) -> int:
    """Judges a run by the claims named, or by all shipped ones about its device or about none.

    Of the latter, too, one that is not comparable leaves no verdict on the whole (3): a claim may
    not fit because a point is invalid or missing, and a 0 would hide that.

    Returns:
        The exit code (`bench.claims.verdict.exit_code`).

    Raises:
        ValueError: no run folder, no finished point, no such claim, or a file that is none.
    """
    claims, devices = _claims_for(run_folder, names)
    if not names:
        chosen = ", ".join(claim.name for claim in claims)
        print(
            f"judged by the shipped claims about {devices} or no device: {chosen}; those that do "
            "not fit the run count as well, so name the ones it is for",
            file=sys.stderr,
        )
    return _judged(run_folder, claims, as_json=as_json)


def judge_claims(run_folder: str | Path, names: Sequence[str] = ()) -> list[dict[str, Any]]:
    """What `canvasbench claims judge --json` prints of each claim; nothing is written.

    Args:
        names: of shipped claims, or paths; by default all shipped ones about the run's device or
            about none.

    Raises:
        ValueError: no run folder, no finished point, no such claim, or a file that is none.
    """
    from bench.claims.dossier import dossiers
    from bench.store import open_run

    claims, _ = _claims_for(Path(run_folder), names)
    return [each.plain() for each in dossiers(open_run(run_folder), claims)]


def _claims_for(run_folder: Path, names: Sequence[str]) -> tuple[list[Claim], str]:
    """The claims named, or all shipped ones that a run could have to do with; and its devices."""
    from bench.claims.observed import observe
    from bench.store import open_run

    if names:
        return [read_claim(name) for name in names], ""
    devices = {str(point.conditions["device"]) for point in observe(open_run(run_folder))}
    claims = [c for c in shipped_claims() if c.conditions.device in {None, *devices}]
    return claims, ", ".join(sorted(devices))


def run_claims(arguments: Sequence[str], *, as_json: bool) -> int:
    """Measures what claims describe, judges them, and writes the page.

    Args:
        arguments: claims, and overrides of `canvasbench run`.

    Returns:
        The exit code (`bench.claims.verdict.exit_code`).

    Raises:
        ValueError: no claim, one that this machine cannot measure, or an override that contradicts.
    """
    from bench.claims.dossier import nothing_measured, promise
    from bench.claims.experiment import overrides_for, unmeasurable, without_drafter

    names = [each for each in arguments if "=" not in each]
    given = [each for each in arguments if "=" in each]
    if not names:
        raise ValueError("no claim was named; `canvasbench claims list` shows those that ship")
    claims, drafted = without_drafter([read_claim(name) for name in names])
    if not claims:
        found = [nothing_measured(unmeasurable(claim)) for claim in drafted]
        return _shown(found, {}, {}, as_json=as_json)
    from bench.claims.machine import device_here
    from bench.sweep import run_sweep

    overrides = overrides_for(claims, given, device_here)
    print(f"canvasbench run -m {' '.join(overrides)}", file=sys.stderr)
    with redirect_stdout(sys.stderr) if as_json else nullcontext():
        promised = [promise(claim) for claim in claims]
        report = run_sweep(overrides, default_sweep=False, claims=promised)
    return _judged(report.parent, [*claims, *drafted], as_json=as_json)


def _judged(run_folder: Path, claims: Sequence[Claim], *, as_json: bool) -> int:
    """Judges, keeps the verdicts in the run's folder and draws their pages."""
    from bench.claims.dossier import dossiers
    from bench.claims.kept import unshown, write_verdicts
    from bench.report import limits_of, render, render_claims
    from bench.store import open_run

    run = open_run(run_folder)
    found = dossiers(run, claims)
    verdicts = [each.plain() for each in found]
    page = None
    try:
        write_verdicts(run.path, verdicts)
        page = render_claims(run)
        if (run.path / "report.html").exists():
            render(run)
    except OSError as error:
        print(f"no page: {run.path} cannot be written to ({error.strerror})", file=sys.stderr)
    left_out = unshown(run.path, run.info, verdicts)
    code = _shown(found, limits_of(run), left_out, as_json=as_json)
    if page is not None and not as_json:
        print(f"page: {page}")
    return code


def _shown(
    found: Sequence["Dossier"],
    limits: Mapping[str, str],
    left_out: Mapping[str, str | None],
    *,
    as_json: bool,
) -> int:
    """Prints verdicts with what limits them and what else was preregistered."""
    code = exit_code([each.judgement.outcome for each in found])
    verdicts = [each.plain() for each in found]
    if as_json:
        told = {"claims": verdicts, "limits": limits, "preregistered_besides": left_out}
        print(json.dumps(told | {"exit_code": code}, indent=1))
    else:
        print_verdicts(verdicts, limits, left_out)
    return code
