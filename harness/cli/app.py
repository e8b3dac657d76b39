"""The ``reidbench`` command: its commands, in the groups that ``--help`` shows, and how errors end it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import typer

from harness.cli import (
    core_commands,
    data_commands,
    exchange_commands,
    figure_commands,
    machine_commands,
    method_commands,
    result_commands,
    run_commands,
    sweep_commands,
)
from harness.cli.console import show_warnings_once, write_anywhere

app = typer.Typer(
    name="reidbench",
    help="Reproducible benchmarks of unsupervised visible-infrared person re-identification.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(
    help="Make synthetic twins; check, fingerprint and export data sets.", no_args_is_help=True
)


def add(where: typer.Typer, name: str, function: Callable[..., None], example: str, group: str) -> None:
    """Make a function a command."""
    where.command(name, epilog=f"Example: reidbench {example}", rich_help_panel=group)(function)


RUNS, METHODS, RESULTS, CORE, MACHINE = "Runs", "Methods", "Results", "Clustering core", "Machine and data"
EXCHANGE = "To and from others"
add(
    app,
    "run",
    run_commands.run,
    "run dmic --protocol regdb --data synthetic --preset demo --trials 1-2",
    RUNS,
)
add(app, "verify", run_commands.verify, "verify runs/regdb/dmic/0123456789ab", RUNS)
add(app, "runs", result_commands.runs_, "runs runs --where state=stopped", RUNS)
add(app, "list", method_commands.list_, "list methods", METHODS)
add(app, "show", method_commands.show, "show dmic --schedule", METHODS)
add(app, "check-method", method_commands.check_method, "check-method dmic", METHODS)
add(app, "table", result_commands.table, "table runs --format latex > table.tex", RESULTS)
add(app, "cite", result_commands.cite, "cite runs > used.bib", RESULTS)
add(app, "compare", result_commands.compare, "compare dmic pgm --metric rank-1", RESULTS)
add(app, "report", result_commands.report, "report runs --out report.html", RESULTS)
add(app, "bundle", exchange_commands.bundle, "bundle runs --out mine.zip", EXCHANGE)
add(
    app,
    "evaluate",
    exchange_commands.evaluate,
    "evaluate features.npz --name mine --protocol sysu-all --supervision usl --data /data/SYSU-MM01",
    EXCHANGE,
)
add(app, "diff", exchange_commands.diff, "diff runs/regdb/dmic/0123456789ab mine.zip", EXCHANGE)
add(app, "leaderboard", exchange_commands.leaderboard, "leaderboard mine.zip yours.zip --out site", EXCHANGE)
add(app, "score", result_commands.score, "score result.npz --protocol regdb --out metrics.csv", RESULTS)
add(
    app,
    "extract",
    figure_commands.extract,
    "extract runs/regdb/dmic/0123456789ab --data /data/RegDB --out features.npz",
    RESULTS,
)
add(app, "figure", figure_commands.figure, "figure forest runs --reference adca --out forest.pdf", RESULTS)
add(
    app,
    "cluster",
    core_commands.cluster,
    "cluster features.npz --set expansion=mie --set eps=0.5 --out labels.csv",
    CORE,
)
add(app, "variants", core_commands.variants, "variants features.npz --eps 0.4,0.5,0.6 --out table.csv", CORE)
add(
    app,
    "time",
    core_commands.time,
    "time --n 2000,4000 --against reference,faiss --figure scaling.png",
    CORE,
)
add(app, "doctor", machine_commands.doctor, "doctor", MACHINE)

add(data_app, "synth", data_commands.synth, "data synth data/twin --like regdb --seed 0", "Data")
add(data_app, "check", data_commands.check, "data check /data/RegDB", "Data")
add(data_app, "fingerprint", data_commands.fingerprint, "data fingerprint /data/RegDB", "Data")
add(
    data_app,
    "export",
    data_commands.export,
    "data export --protocol regdb --data /data/RegDB --out lists",
    "Data",
)
sweep_app = typer.Typer(
    help=f"Many runs: on slots of this machine or on a cluster. {sweep_commands.ONE_DEVICE}",
    no_args_is_help=True,
)
for name, function, example in (
    ("run", sweep_commands.run, "sweep run plan.toml --gpus 0,1"),
    ("slurm", sweep_commands.slurm, "sweep slurm plan.toml --header '#SBATCH --partition=gpu' --submit"),
    ("status", sweep_commands.status, "sweep status runs/sweeps/plan-01234567"),
    ("failures", sweep_commands.failures, "sweep failures runs/sweeps/plan-01234567"),
    ("resubmit", sweep_commands.resubmit, "sweep resubmit runs/sweeps/plan-01234567"),
    ("commands", sweep_commands.commands, "sweep commands runs/sweeps/plan-01234567 | parallel -j 4"),
):
    add(sweep_app, name, function, example, "Sweeps")
app.add_typer(sweep_app, name="sweep", rich_help_panel=RUNS)
app.add_typer(data_app, name="data", rich_help_panel=MACHINE)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; an error that a person can fix ends in one message and exit code 2 (3: the run is held).

    SIGTERM and SIGUSR2 tidy up as Ctrl-C does, and end with exit code 75: the same command goes on.
    """
    from harness.errors import format_error, printable, understood, user_errors
    from harness.runs.stopping import stoppable

    write_anywhere()
    show_warnings_once()
    try:
        with stoppable():
            app(args=list(arguments) if arguments is not None else None)
    except BaseException as error:
        known = understood(error)
        if not isinstance(known, user_errors()):
            raise
        text, code = format_error(known)
        sys.stderr.write(f"error: {printable(text)}\n")
        raise SystemExit(code) from None
