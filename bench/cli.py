"""The command line. Verbs import what they need when they run, so `--help` and `report` stay quick.

Exit codes: 0 done or a positive verdict, 1 a negative one, 2 bad input (one line on standard
error), 3 no verdict possible, 70 a fault of canvasbench itself (with its traceback), 130
interrupted, also by SIGTERM, 141 where what reads the output stopped reading.
"""

import errno
import os
import sys
import traceback
from contextlib import redirect_stderr, suppress
from io import StringIO, TextIOWrapper
from pathlib import Path
from typing import Annotated

import typer

from bench import cli_compare
from bench.refusal import is_refusal

app = typer.Typer(
    name="canvasbench",
    help="Measures block-diffusion language models: speed, denoising steps, self-correction.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

_RUN_HELP = """Measures a sweep and writes a run folder with tables, plots and report.html.

\b
Without arguments: {diffusion, autoregressive} x {bf16, fp8} over the tiny tasks.
  canvasbench run                                  the default sweep
  canvasbench run precision=fp8                    one axis narrowed
  canvasbench run precision=fp32,bf16,fp8          one axis widened
  canvasbench run sampler.max_denoising_steps=8,48 another axis
  canvasbench run workload=tiny_hard               longer tasks and Sudoku
  canvasbench run experiment=step_cap              a prepared sweep
  canvasbench run -m model=tiny-diffusion          no default sweep, only what is given

\b
Keys (all of them, with values: canvasbench run --cfg job)
  model         tiny-diffusion | tiny-autoregressive | another preset | a checkpoint folder
  weights       a checkpoint folder for a preset, or dummy
  precision     fp32 | bf16 | fp8
  kernels       torch | reference | triton
  workload      tiny | tiny_hard | fixed_work | text | long_context;
                workload.num_prompts, workload.max_new_tokens,
                workload.eos_policy=stop|ignore,
                workload.prompt_tokens (fixed_work, long_context),
                workload.domains (text): all, code, maths, prose, structured, chat,
                several in one point as "workload.domains='code,maths'",
                workload.thinking=true|false (text, long_context)
  sampler       block_diffusion | forced; sampler.max_denoising_steps,
                sampler.entropy_bound, sampler.confidence_threshold, sampler.early_stop,
                sampler.self_conditioning, sampler.min_belief
  execution     eager | compiled | cuda_graph
  vocabulary    exact | fp8 (logits and soft embeddings, beside bf16 or fp8)
  commit        separate | fused (with the next canvas's first step; diffusion)
  measure       screening | publish (8 fresh processes); measure.num_repeats
  backend       native | transformers (bf16, fp32) | openai | simulated;
                backend.url, backend.served_model, backend.connections,
                backend.rate_per_s, backend.arrivals, backend.metrics_url,
                backend.launch.engine=transformers|vllm|sglang|llama_cpp|command (openai);
                backend.experts=grouped_mm|batched_mm|eager,
                backend.attention=sdpa|eager, backend.cache=dynamic|static,
                backend.compiled=true|false (transformers)
  launcher      local | slurm | ray
  experiment    default | precision_ladder | step_cap | golden | ab
                | fixed_work (26B shape, a GPU)
                | gpu_campaign with stage=a|b|c; rehearsal=true runs it on a processor
  trace         counts | positions | full
  batch_size, seed, threads, device, run_dir, time_budget_s

--dry-run prints plan, memory and expected time; nothing runs.
Hydra's own flags work: --cfg job, --info, --hydra-help, --shell-completion.
"""

_BAD_INPUT = 2
_CRASHED = 70
"""EX_SOFTWARE of sysexits.h: no verdict has it, and Python's own 1 is a regression's."""
_INTERRUPTED = 130
_UNREAD = 141
"""As of a command that SIGPIPE ended."""
_HYDRA_SHOWS = {"--cfg", "-c", "--info", "-i", "--hydra-help", "--shell-completion", "-sc"}
_HYDRA_FLAGS = {*_HYDRA_SHOWS, "--resolve", "--package", "-p"}


@app.command(
    help=_RUN_HELP,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def run(
    context: typer.Context,
    multirun: Annotated[
        bool, typer.Option("--multirun", "-m", help="Sweep only what the command line sweeps.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print plan, memory and expected time; run nothing.")
    ] = False,
) -> None:
    arguments = context.args
    flags = {argument.split("=", 1)[0] for argument in arguments} & _HYDRA_FLAGS
    if flags & _HYDRA_SHOWS:
        _hydra(arguments)
        return
    if flags:
        raise ValueError(f"{min(flags)} shows nothing by itself; it goes with --cfg job")
    options = [argument for argument in arguments if argument.startswith("-")]
    if options:
        valid = ", ".join(sorted(("-m", "--multirun", "--dry-run", *_HYDRA_FLAGS)))
        raise ValueError(
            f"option {options[0]!r} is unknown; valid: {valid}; overrides are key=value"
        )
    if dry_run:
        from bench.preview import print_plan

        print_plan(arguments, default_sweep=not multirun)
        return
    from bench.sweep import run_sweep

    report = run_sweep(arguments, default_sweep=not multirun)
    print(f"report: {report}")


@app.command()
def report(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
) -> None:
    """Rebuilds plots and report.html of a run from its tables alone."""
    from bench.report import print_summary, render
    from bench.store import open_run

    opened = open_run(run_folder)
    try:
        path = render(opened)
    except OSError as error:
        path = Path(error.filename or run_folder)
        raise ValueError(f"{path} cannot be written: {error.strerror}") from error
    print_summary(opened)
    print(f"report: {path}")


@app.command()
def resume(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
) -> None:
    """Measures what a run still lacks: interrupted, killed or failed points."""
    from bench.sweep import resume_sweep

    print(f"report: {resume_sweep(run_folder)}")


@app.command()
def query(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
    sql: Annotated[str, typer.Argument(metavar="SQL", help="Over points, requests, steps, ...")],
    csv: Annotated[
        Path | None, typer.Option("--csv", help="Write the answer to this CSV file.")
    ] = None,
) -> None:
    """Asks a run's tables in SQL (DuckDB).

    \b
      canvasbench query RUN "select decoding, precision, delivered_tok_per_s from points"
      canvasbench query RUN "select * from steps" --csv steps.csv
    """
    from bench.query import answer, print_answer
    from bench.store import open_run
    from bench.writing import writing

    found = answer(open_run(run_folder), sql)
    if csv is None:
        print_answer(found)
    else:
        with writing(csv):
            found.to_csv(csv, index=False)
        print(f"{len(found)} rows: {csv}")


@app.command()
def replay(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
    output: Annotated[
        Path | None, typer.Option(help="Write the page here, not to RUN/replay.html.")
    ] = None,
    terminal: Annotated[
        bool, typer.Option("--terminal", help="Print one canvas here instead.")
    ] = False,
    request: Annotated[int | None, typer.Option(help="Only this request_id.")] = None,
) -> None:
    """Plays canvases of a run back, step by step: one HTML file, or in the terminal.

    \b
      canvasbench replay RUN                         all canvases whose positions the run kept
      canvasbench replay RUN --terminal --request 7  one of them, here
    A link into the page: replay.html#request=7&canvas=1&step=3 (point=ID where several answered).
    """
    from bench.replay import replay as played

    played(run_folder, output=output, terminal=terminal, request_id=request)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def profile(
    context: typer.Context,
    out: Annotated[
        Path | None, typer.Option("--out", help="The profile's folder; of diff, a page to write.")
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(help="Denoise steps a canvas at most, or decode steps; 8 by default."),
    ] = None,
    as_executed: Annotated[
        bool, typer.Option("--as-executed", help="Keep execution=compiled|cuda_graph.")
    ] = False,
) -> None:
    """Records one point under torch's profiler: where a step's time and memory go.

    \b
      canvasbench profile model=tiny-diffusion precision=fp32   keys as in canvasbench run
      canvasbench profile report DIR                            page and tables from the trace alone
      canvasbench profile diff A B --out diff.html              by op group what became slower
    A folder of results/profiles holds trace (TensorBoard, Perfetto), tables and profile.html. It is
    no run: profiled steps are slower, by how much is measured and said. Steps run eagerly, as a
    profiler cannot see into a graph; --as-executed records what it sees of one.
    """
    from bench.profile.command import profile as profiled

    options = [argument for argument in context.args if argument.startswith("-")]
    if options:
        raise ValueError(
            f"option {options[0]!r} is unknown; valid: --out, --steps, --as-executed; "
            "overrides are key=value"
        )
    profiled(context.args, out=out, steps=steps, as_executed=as_executed)


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def roofline(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Prints floors on a listed device, no GPU needed: roofline device=h200 context=1024.

    \b
    Keys: device, model, context, batch_size, vocabulary.
    """
    from bench.roofline_table import print_roofline

    print_roofline(context.args, as_json=as_json)


@app.command()
def tune(
    model: Annotated[
        str, typer.Option(help="A preset; its random weights are enough.")
    ] = "diffusiongemma-26b-a4b",
    precision: Annotated[str, typer.Option(help="fp8 | bf16")] = "fp8",
    seconds: Annotated[float, typer.Option(help="Stop trying after so long.")] = 180,
    into: Annotated[
        Path | None, typer.Option(help="Write the table here, not to model/kernels/tuned.")
    ] = None,
) -> None:
    """Finds tiles and fused launches for the GPU that is here, by timing whole steps of
    kernels=triton.

    Starts from the table that the device has, so it can be run again, and for the sibling too:
      canvasbench tune --model gemma-4-26b-a4b --precision fp8
    """
    from bench.tune.commands import tune as tuned

    tuned(model, precision, seconds, into)


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(metavar="PATH", help="A checkpoint folder.")],
    precision: Annotated[
        str | None, typer.Option(help="fp32 | bf16 | fp8; the checkpoint's own by default.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu | cuda | cuda:N")] = "cpu",
    kernels: Annotated[str, typer.Option(help="torch | reference | triton")] = "torch",
    question: Annotated[str, typer.Option(help="Asked through the chat template.")] = (
        "What is the capital of France? Answer with one word."
    ),
    expect: Annotated[str, typer.Option(help="What the answer must contain.")] = "Paris",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Checks real weights: the files against the published lists, our engine against transformers.

    \b
    Exit codes: 0 PASS, 1 FAIL, 2 bad input, 3 INCOMPLETE (transformers is not installed).
    """
    from bench.verify.run import Wanted, print_verdict, verify_checkpoint

    verdict = verify_checkpoint(Wanted(folder, precision, device, kernels, question, expect))
    print_verdict(verdict, as_json=as_json)
    raise typer.Exit(verdict.exit_code)


claims = typer.Typer(
    name="claims",
    help="Published figures as files, and verdicts on them by measured runs.",
    rich_markup_mode=None,
)
app.add_typer(claims)


@claims.command("list")
def list_claims(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Prints the claims that ship: figure, relation, metric, device, what it hangs on, source."""
    from bench.claims.commands import list_claims as listed

    listed(as_json=as_json)


@claims.command("judge")
def judge_claims(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="CLAIM...", help="Names or .yaml files; all of RUN's device."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Judges a measured run by published claims, and writes claims.html into its folder.

    \b
      canvasbench claims judge RUN                   all shipped claims about RUN's device
      canvasbench claims judge RUN h200-fp8 my.yaml  these
    Exit codes: 0 all reproduced or within tolerance, 1 one is not reproduced, 2 bad input,
    3 one is not comparable or has too little data, also where no claim was named: in CI, name them.
    """
    from bench.claims.commands import judge_run

    raise typer.Exit(judge_run(run_folder, names or [], as_json=as_json))


@claims.command("run", context_settings={"ignore_unknown_options": True})
def run_claims(
    arguments: Annotated[
        list[str], typer.Argument(metavar="CLAIM...", help="Names or .yaml files; key=value.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measures what claims describe, preregistered, and judges them.

    \b
      canvasbench claims run h200-fp8 h200-ar-fp8 h200-over-ar    one run, both siblings
      canvasbench claims run h200-fp8 measure.num_processes=10    measured more often
      canvasbench claims run steps-per-canvas weights=PATH        content needs real weights
    Exit codes as in judge.
    """
    from bench.claims.commands import run_claims as measured

    raise typer.Exit(measured(arguments, as_json=as_json))


cli_compare.register(app)


@app.command()
def procure(
    inputs: Annotated[
        Path, typer.Argument(metavar="INPUTS", help="Prices, load, limits: a YAML file.")
    ],
    further: Annotated[
        list[Path] | None, typer.Argument(metavar="[RUN...]", help="Run folders, as with --runs.")
    ] = None,
    runs: Annotated[
        list[Path] | None, typer.Option("--runs", metavar="RUN", help="A run folder; repeatable.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The report's folder.")] = Path(
        "results/procurement"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Says which device to buy for a load, at what cost, how sure, and what would change that.

    \b
      canvasbench procure inputs.yaml --out report               by projection alone
      canvasbench procure inputs.yaml --runs A B --out report    with measured runs
    DIR gets report.html (prints to A4), tables as parquet and CSV, plots. An example of inputs:
    results/published/procurement-example/inputs.yaml.
    Exit codes: 0 answered, 2 bad input, 3 nothing can be answered.
    """
    from bench.procurement.command import procure as answered

    folders = [*(runs or []), *(further or [])]
    raise typer.Exit(answered(inputs, folders, out, as_json=as_json))


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Says what this machine can run."""
    from bench.doctor import print_description

    print_description(as_json=as_json)


def _hydra(arguments: list[str]) -> None:
    """Hands informational flags to Hydra itself.

    Raises:
        ValueError: Hydra refuses them.
    """
    import hydra
    from hydra.errors import HydraException

    from bench.schema import register

    register()
    sys.argv = ["canvasbench run", *arguments]

    @hydra.main(version_base="1.3", config_path="pkg://configs", config_name="config")
    def show(config: object) -> None:
        """Never called: what is asked for is shown instead."""

    with redirect_stderr(StringIO()) as told:
        try:
            show()
        except SystemExit as ended:
            cause = ended.__context__
            if isinstance(cause, OSError) and not isinstance(cause, HydraException):
                raise cause from None  # as where a pipe was closed
            if ended.code:
                raise ValueError(_refusal(told.getvalue())) from None
    sys.stderr.write(told.getvalue())


def _refusal(told: str) -> str:
    """What Hydra says of a mistake, in one line, without its usage, its advice and its innards."""
    said = told.rpartition(" error: ")[2]
    for innards in ("To append", "    full_key", "See https", "Config search path", "Set the env"):
        said = said.partition(f"\n{innards}")[0]
    return " ".join(said.split())


def _write_in_any_encoding() -> None:
    """Writes what a stream's encoding does not have as an escape: no verdict is lost by it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


def _drop_output() -> None:
    """Sends what is still buffered nowhere: writing it at the exit would fail once more."""
    with suppress(OSError, ValueError):  # ValueError: of a stream without a file
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())


def main() -> None:
    """The console script."""
    if len(sys.argv) == 1:
        sys.argv.append("--help")
    # Typer exports BadParameter but not the common base of its usage errors.
    usage_error = typer.BadParameter.__mro__[1]
    _write_in_any_encoding()
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()
    except SystemExit as ended:  # Typer's where a pipe was closed, with a negative verdict's code
        unread = isinstance(ended.__context__, BrokenPipeError)
        sys.exit(_UNREAD if unread else ended.code)
    except Exception as error:
        if isinstance(error, usage_error):
            print(f"error: {error}; `canvasbench --help` shows what is valid", file=sys.stderr)
        elif is_refusal(error):
            print(f"error: {error}", file=sys.stderr)
        elif isinstance(error, BrokenPipeError):
            _drop_output()
            sys.exit(_UNREAD)
        elif isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            what = error.filename or "the output"
            print(f"error: {what} cannot be written: its disk is full", file=sys.stderr)
            _drop_output()
        else:
            traceback.print_exc()
            print("error: the above is a fault of canvasbench, no verdict", file=sys.stderr)
            sys.exit(_CRASHED)
        sys.exit(_BAD_INPUT)
    if code == _INTERRUPTED:  # Typer turns Ctrl-C into this code
        print("interrupted; what was finished is kept", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
