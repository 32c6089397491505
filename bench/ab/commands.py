"""The verbs `ab` and `aa`, as `bench.cli_compare` adds them to the command line."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}
_PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True}
_Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE]...", help="As for `canvasbench run`; one point by default."
    ),
]

aa_app = typer.Typer(
    name="aa",
    help="A/A blocks: one tree in both arms, to know how often a comparison is wrong.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def register(app: typer.Typer) -> None:
    """Adds the verbs to the command line."""
    app.command(context_settings=_PASSED_ON)(ab)
    app.add_typer(aa_app)


def ab(
    base: Annotated[str, typer.Option(metavar="REV", help="The baseline: a git revision.")],
    overrides: _Overrides = None,
    candidate: Annotated[
        str | None, typer.Option(metavar="REV", help="Another; the checkout as it is by default.")
    ] = None,
    budget: Annotated[str, typer.Option(help="Time: 90s, 15m, 1h.")] = "15m",
    bound: Annotated[
        float, typer.Option(help="Change that matters, as a share: 0.02 is 2 %.")
    ] = 0.02,
    metric: Annotated[
        list[str] | None, typer.Option("--metric", help="Only this metric; may be repeated.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep everything here, not in results/runs.")
    ] = None,
    aa: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="A/A blocks of this machine; they may refuse the bound."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the blocks' order.")] = 0,
    markdown: Annotated[
        Path | None, typer.Option(help="Write a summary for a pull request here.")
    ] = None,
    junit: Annotated[Path | None, typer.Option(help="Write JUnit XML here.")] = None,
    github: Annotated[bool, typer.Option("--github", help="Print GitHub annotations.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measures a base revision and this checkout in turn and says what became slower, and why.

    \b
    Each runs its own code in fresh processes, ABBA; one with other dependencies gets its own
    environment. More pairs are added until every metric has a verdict or the budget is out. Steps
    and answers are judged by 150 prompts that either answers once.
      canvasbench ab --base origin/main
      canvasbench ab --base HEAD~1 --candidate HEAD --budget 5m --metric step_ms
      canvasbench ab --base v1.0 model=tiny-diffusion,tiny-autoregressive precision=bf16
    Exit codes: 0 nothing got worse, 1 REGRESSION, 2 bad input, 3 undecided: AMBIGUOUS or too little
    data.
    """
    from bench.ab.run import Wanted, run_ab
    from bench.ab.show import decided, found_json, print_found
    from bench.ab.source import checkout
    from bench.gate import publish

    wanted = Wanted(
        base=base,
        candidate=candidate,
        metrics=metric,
        bound=bound,
        budget_s=seconds(budget),
        out=out,
        overrides=overrides or [],
        seed=seed,
        aa=aa,
    )
    found = run_ab(checkout(Path.cwd()), wanted, say)
    if as_json:
        print(json.dumps(found_json(found), indent=2, allow_nan=False))
    else:
        print_found(found)
    publish(decided(found), markdown=markdown, junit=junit, github=github)
    raise typer.Exit(int(found.exit_code))


def seconds(text: str) -> float:
    """90s, 15m or 1h in seconds.

    Raises:
        ValueError: none of them.
    """
    number, unit = text[:-1], text[-1:]
    try:
        return float(number) * _SECONDS[unit]
    except (ValueError, KeyError):
        raise ValueError(f"time {text!r} must be a number with s, m or h: 90s, 15m, 1h") from None


@aa_app.command("record", context_settings=_PASSED_ON)
def aa_record(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Holds all batches of a machine.")],
    blocks: Annotated[int, typer.Option(help="Of four processes each.")],
    batch: Annotated[str, typer.Option(help="Name of this batch: DIR/NAME.parquet.")],
    overrides: _Overrides = None,
    condition: Annotated[str, typer.Option(help="How the machine is meanwhile, in words.")] = "",
    revision: Annotated[
        str | None,
        typer.Option(help="Record this revision from a worktree; the checkout by default."),
    ] = None,
) -> None:
    """Records a batch of A/A blocks, block by block; nothing is ever added to a batch.

    \b
      canvasbench aa record AA --blocks 28 --batch morning --condition "quiet" --revision HEAD
    """
    from bench.ab.record import Recording, record
    from bench.ab.source import checkout

    wanted = Recording(
        folder=folder,
        batch=batch,
        blocks=blocks,
        condition=condition,
        revision=revision,
        overrides=overrides or [],
    )
    print(f"recorded: {record(checkout(Path.cwd()), wanted, say)}")


@aa_app.command("calibrate")
def aa_calibrate(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Of recorded batches.")],
    markdown: Annotated[Path | None, typer.Option(help="Write the tables here too.")] = None,
    pairs: Annotated[
        Path | None,
        typer.Option(help="Write the A/A pairs here, as a gate file's `aa` reads them."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Says how often comparisons on this machine are wrong, by recorded A/A blocks.

    \b
    Bounds are chosen on the first half of every batch, rates reported on the second.
      canvasbench aa calibrate AA --markdown AA/README.md
    Exit codes: 0 every metric keeps what a gate is to keep, 1 one does not, 2 bad input.
    """
    from bench.ab.aa_blocks import read_recorded
    from bench.ab.calibrate import calibrate
    from bench.ab.calibration import calibration_json
    from bench.ab.calibration import markdown as as_markdown
    from bench.writing import write_text

    recorded = read_recorded(folder)
    found = calibrate(recorded)
    text = as_markdown(recorded, found)
    if as_json:
        print(json.dumps(calibration_json(recorded, found), indent=2, allow_nan=False))
    else:
        print(text)
    if markdown is not None:
        write_text(markdown, text)
    if pairs is not None:
        write_text(pairs, json.dumps({"log_ratios": recorded.by_metric()}) + "\n")
    raise typer.Exit(int(not all(each.holds for each in found)))


def say(line: str) -> None:
    """What happens meanwhile, where it does not disturb what is printed."""
    print(line, file=sys.stderr, flush=True)
