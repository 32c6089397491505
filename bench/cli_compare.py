"""The verbs that hold runs against each other: compare, gate, history and golden.

Exit codes: 0 nothing got worse, 1 something did, 2 bad input, 3 not comparable or too little data.
"""

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated

import typer

from bench.ab import commands as ab_commands

_RUN = "a run folder, or REV:PATH for one stored in a git revision."

history = typer.Typer(
    name="history",
    help="A folder of past runs: series by environment, change points, exports.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
golden = typer.Typer(
    name="golden",
    help="Committed steps, revisions and answers of the tiny pair, and runs against them.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
_GOLDEN = Path("results") / "golden"
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The history's folder.")]


def register(app: typer.Typer) -> None:
    """Adds the verbs to the command line."""
    app.command()(compare)
    app.command()(gate)
    app.add_typer(history)
    app.add_typer(golden)
    ab_commands.register(app)


def compare(
    a: Annotated[str, typer.Argument(metavar="A", help=f"The baseline: {_RUN}")],
    b: Annotated[str, typer.Argument(metavar="B", help="The candidate, likewise.")],
    metric: Annotated[
        list[str] | None, typer.Option("--metric", help="Only this metric; may be repeated.")
    ] = None,
    point: Annotated[
        list[str] | None, typer.Option("--point", help="Only this point; may be repeated.")
    ] = None,
    bound: Annotated[
        float, typer.Option(help="Change that matters, as a share: 0.02 is 2 %.")
    ] = 0.02,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compares two runs: environments, then a verdict a metric and point, and the cause.

    \b
      canvasbench compare results/runs/BEFORE results/runs/AFTER
      canvasbench compare main:results/published/RUN results/runs/AFTER --metric step_ms
    Exit codes: 0 nothing got worse, 1 REGRESSION, 2 bad input, 3 AMBIGUOUS or INSUFFICIENT_DATA.
    """
    from bench.comparison import as_json as plain
    from bench.comparison import compare as hold_against
    from bench.comparison import print_comparison

    found = hold_against(a, b, metrics=metric, points=point, bound=bound)
    if as_json:
        _print_json(plain(found))
    else:
        print_comparison(found)
    raise typer.Exit(int(found.exit_code))


def gate(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The gate file (YAML).")],
    runs: Annotated[
        list[str],
        typer.Argument(metavar="[A] B", help="Baseline and candidate; without A the file's own."),
    ],
    sha256: Annotated[
        str | None, typer.Option(help="Of the gate that was agreed on; another is refused.")
    ] = None,
    markdown: Annotated[
        Path | None, typer.Option(help="Write a summary for a pull request here.")
    ] = None,
    junit: Annotated[Path | None, typer.Option(help="Write JUnit XML here.")] = None,
    github: Annotated[bool, typer.Option("--github", help="Print GitHub annotations.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Decides by a gate file, written beforehand, whether run B may follow run A.

    \b
    The file names metrics with bounds; `bench/gate/declaration.py` shows one. Its hash is printed.
      canvasbench gate gate.yaml results/runs/BEFORE results/runs/AFTER --junit gate.xml
    Exit codes: 0 passed, 1 failed, 2 bad input (also a bound that recorded A/A pairs cannot hold),
    3 undecided: AMBIGUOUS, too little data, or another machine.
    """
    from bench.gate import as_json as plain
    from bench.gate import gate_runs, print_decided, publish, read_gate

    declared = read_gate(file, sha256)
    decided = gate_runs(declared, *_two(runs, declared.baseline))
    if as_json:
        _print_json(plain(decided))
    else:
        print_decided(decided)
    publish(decided, markdown=markdown, junit=junit, github=github)
    raise typer.Exit(int(decided.exit_code))


def _two(runs: list[str], baseline: str | None) -> tuple[str, str]:
    if len(runs) == 2:
        return runs[0], runs[1]
    if len(runs) == 1 and baseline is not None:
        return baseline, runs[0]
    if len(runs) == 1:
        raise ValueError("the gate file names no baseline; give the runs A and B")
    raise ValueError(f"{len(runs)} runs given; give A and B, or B alone")


@history.command("add")
def history_add(
    run: Annotated[str, typer.Argument(metavar="RUN", help=_RUN)],
    into: Annotated[Path, typer.Option("--into", metavar="DIR", help="The history's folder.")],
) -> None:
    """Adds a run to a history; nothing that is there is ever rewritten."""
    from bench.history import add_run

    print(f"added: {add_run(run, into)}")


@history.command("show")
def history_show(
    folder: Folder,
    metric: Annotated[str, typer.Option(help="A column of `points`.")] = "delivered_tok_per_s",
    point: Annotated[
        list[str] | None, typer.Option("--point", help="Only this point; may be repeated.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the series to this PNG file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Prints a metric's series and its change points."""
    from bench.history import plain_series, plot_series, print_series, read_series

    found = read_series(folder, metric, point)
    if as_json:
        _print_json(plain_series(found))
    else:
        print_series(found)
    if plot is not None:
        plot_series(found, plot)
        print(f"plot: {plot}")


@history.command("annotate")
def history_annotate(
    folder: Folder,
    entry: Annotated[
        str, typer.Option("--at", metavar="RUN", help="The first run of the shift: its name.")
    ],
    text: Annotated[str, typer.Option(help="What changed, on purpose or known.")],
    point: Annotated[str | None, typer.Option(help="Only of this point.")] = None,
    metric: Annotated[str | None, typer.Option(help="Only of this metric.")] = None,
) -> None:
    """Marks a known shift: series begin anew there, and it is no change point."""
    from bench.history import annotate

    print(f"added: {annotate(folder, entry, text, point=point, metric=metric)}")


@history.command("import")
def history_import(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="JSON of pytest-benchmark.")
    ],
    into: Annotated[Path, typer.Option("--into", metavar="DIR", help="The history's folder.")],
) -> None:
    """Adds results of pytest-benchmark to a history: a series a benchmark and environment."""
    from bench.pytest_bridge.importing import import_pytest_benchmark

    for file in files:
        print(f"added: {import_pytest_benchmark(file, into)}")


@history.command("export")
def history_export(
    folder: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="A history's folder; for pytest-benchmark also a run."),
    ],
    form: Annotated[
        str,
        typer.Option(
            "--format", help="otava | github-action-benchmark | bencher | pytest-benchmark"
        ),
    ],
    into: Annotated[Path, typer.Option("--into", metavar="PATH", help="Folder to write to.")],
) -> None:
    """Writes a history for other tools.

    \b
    otava, pytest-benchmark              every run
    github-action-benchmark, bencher     the last run: both keep what came before themselves
      canvasbench history export RUN --format pytest-benchmark --into out
      pytest-benchmark compare out/*.json
    """
    from bench.history import export
    from bench.history.exports import FORMATS
    from bench.pytest_bridge.exporting import FORMAT, export_pytest_benchmark

    if form == FORMAT:
        written = export_pytest_benchmark(folder, into)
    elif form in FORMATS:
        written = export(folder, form, into)
    else:
        raise ValueError(f"format {form!r} is unknown; valid: {', '.join((*FORMATS, FORMAT))}")
    for path in written:
        print(f"written: {path}")


@golden.command("collect")
def golden_collect(
    given: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE...", help="As for canvasbench run.")
    ] = None,
    into: Annotated[
        Path, typer.Option("--into", metavar="DIR", help="Where to write; a golden is replaced.")
    ] = _GOLDEN,
) -> None:
    """Measures the tiny diffusion model in every precision and writes its golden.

    \b
    One JSON line a prompt, sorted; what it changes is for `git diff` and a review.
    """
    from bench.golden import collected, overrides, write_golden
    from bench.store import open_run

    wanted = overrides(given or [])
    for path in write_golden(collected(open_run(_measured(wanted)), wanted), into):
        print(f"written: {path}")


@golden.command("check")
def golden_check(
    given: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE...", help="Over the golden's own; as for canvasbench run."
        ),
    ] = None,
    folder: Annotated[
        Path, typer.Option("--from", metavar="DIR", help="The golden's folder.")
    ] = _GOLDEN,
    run: Annotated[
        Path | None, typer.Option("--run", metavar="RUN", help="Check this run; measure nothing.")
    ] = None,
    bound: Annotated[
        float | None,
        typer.Option(
            help="Change that matters on another machine, as a share; in fp32 0.02 by default, else"
            " 0.1."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Says whether a model denoises longer than its golden, or just runs slower.

    \b
      canvasbench golden check                    measures what the golden holds, and checks it
      canvasbench golden check precision=fp8      a part of it
      canvasbench golden check --run RUN          a run that did the same work
    The same machine and versions: answers must be the same. Others: paired by prompt, with bounds.
    Exit codes: 0 nothing got worse, 1 the numbers differ where they must not, or REGRESSION,
    2 bad input, 3 undecided, or no point of RUN did the golden's work.
    """
    from bench.golden import as_json as plain
    from bench.golden import check, overrides, print_checked, read_golden
    from bench.store import open_run

    kept = read_golden(folder)
    if run is not None and given:
        raise ValueError(f"{given[0]!r} has no effect with --run, which measures nothing")
    measured = run if run is not None else _measured(overrides(given or [], kept.overrides))
    found = check(kept, open_run(measured), bound)
    if as_json:
        _print_json(plain(found))
    else:
        print_checked(found)
    raise typer.Exit(int(found.exit_code))


def _measured(overrides: list[str]) -> Path:
    """The folder of a run just made; what it says of itself goes to standard error."""
    from bench.sweep import run_sweep

    with redirect_stdout(sys.stderr):
        return run_sweep(overrides, default_sweep=True).parent


def _print_json(found: object) -> None:
    import json

    print(json.dumps(found, indent=2, allow_nan=False))
