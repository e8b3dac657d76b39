"""``reidbench sweep``: many runs, on slots of this machine, on a cluster, or as commands for anything else."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli import options
from harness.cli.console import console, make_reporter, say

if TYPE_CHECKING:
    from harness.runs.task import Execution, Task
    from harness.sweep.folder import Sweep
    from harness.sweep.requests import Failure
    from harness.training.progress import Reporter

ONE_DEVICE = (
    "A run trains on one device, never on several: each of them would normalise its part of a batch by statistics of "
    "its own, and the number would be another method's. Many devices serve many runs."
)
"""Stands in the help."""
PlanFile = Annotated[Path | None, typer.Argument(help="TOML file of a plan; or say it by the options.")]
Methods = Annotated[str | None, typer.Option(help="METHOD, METHOD:variant or all; several with commas.")]
ProtocolName = Annotated[
    str | None,
    typer.Option(help="As `reidbench list protocols` names it.", autocompletion=options.protocol_names),
]
Seeds = Annotated[str | None, typer.Option(help="Numbers and ranges, as 0-2. Default: 0.")]
Trials = Annotated[
    str | None, typer.Option(help="Training splits where there are several, as 1-10. Default: all.")
]
PresetName = Annotated[
    str | None,
    typer.Option(help="demo, paper or paper-large. Default: paper.", autocompletion=options.preset_names),
]
Precision = Annotated[str | None, typer.Option(help="auto, 32, bf16 or 16. Default: the preset's.")]
Folder = Annotated[Path, typer.Argument(help="Folder of a sweep, OUT/sweeps/NAME-DIGEST.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the runs with estimated hours, and stop.")]


def planned(
    file: Path | None, execution: Execution, reporter: Reporter, asked: dict[str, object]
) -> tuple[str, list[Task], list[Failure]]:
    """Return the name and the runs of a plan file, or of options, and say what fails; refuse both at once."""
    from harness.errors import HarnessError
    from harness.sweep.plan import Plan, expand, part_of, read_plan

    given = {key: value for key, value in asked.items() if value not in (None, False, ())}
    if file is not None:
        names = [f"--{key.replace('_', '-')}" for key in given if key != "data"]
        if names:
            raise HarnessError(
                f"the plan {file} says what to run; leave out {', '.join(names)}, or write it there"
            )
        plan = read_plan(file)
        if "data" in given:
            parts = tuple(part.model_copy(update={"data": given["data"]}) for part in plan.parts)
            plan = Plan(plan.name, parts)
    else:
        for key in ("methods", "protocol"):
            if key not in given:
                raise HarnessError(
                    f"give a plan as a TOML file, or --methods and --protocol; --{key} is missing"
                )
        given["methods"] = tuple(part.strip() for part in str(given["methods"]).split(","))
        plan = Plan(name_of(given), (part_of(given, "options"),))
    tasks, failures = expand(plan, execution, reporter.line)
    if not tasks:
        raise HarnessError(
            f"the plan {plan.name} means no run" + "".join(f"; {failure}" for failure in failures)
        )
    for failure in failures:
        reporter.line(str(failure))
    return plan.name, tasks, failures


def specifications_of(
    file: Path | None, execution: Execution, asked: dict[str, object]
) -> tuple[str, list[dict[str, Any]], bool]:
    """Return what :func:`planned` does, the runs as manifests have them, and whether anything failed."""
    from harness.runs.manifest import specification

    name, tasks, failures = planned(file, execution, make_reporter(), asked)
    return name, [specification(task) for task in tasks], bool(failures)


def name_of(given: dict[str, object]) -> str:
    """Name a plan that was given by options."""
    methods = given["methods"]
    assert isinstance(methods, tuple)
    return f"{'-'.join(methods) if len(methods) < 4 else f'{len(methods)}-methods'}-{given['protocol']}"


def tell_plan(tasks: list[Task], out: Path) -> None:
    """Print the runs, and how many hours they may take."""
    from harness.runs.estimate import estimate
    from harness.sweep.outlook import look_ahead

    text, failures = look_ahead(tasks, json=False)
    say(text)
    for failure in failures:
        say(str(failure))
    finished = sum(task.directory.complete for task in tasks)
    say(f"{len(tasks)} runs, {finished} finished; the others: {estimate(tasks, out)}")


def run(
    plan: PlanFile = None,
    methods: Methods = None,
    protocol: ProtocolName = None,
    seeds: Seeds = None,
    trials: Trials = None,
    data: options.Data = None,
    preset: PresetName = None,
    sets: options.Sets = None,
    precision: Precision = None,
    gpus: Annotated[
        str | None, typer.Option(help="GPUs of this machine, as 0,1,2,3; one run on each.")
    ] = None,
    slots: Annotated[
        int | None, typer.Option(min=1, max=1024, help="Runs at a time on this machine.")
    ] = None,
    engine: Annotated[
        str | None, typer.Option(help="parsl:CONFIG.py, any Parsl configuration: Slurm, PBS, Kubernetes ...")
    ] = None,
    dry_run: DryRun = False,
    device: options.Device = "auto",
    workers: options.Workers = 0,
    out: options.Out = Path("runs"),
    images: options.Images = Path("data/images"),
    allow_partial: options.AllowPartial = False,
    twin_seed: options.TwinSeed = 0,
) -> None:
    """Run a plan side by side: on GPUs or slots of this machine, or wherever a Parsl configuration says.

    Finished runs answer from disk, stopped ones go on, and one that fails stops no other. A run trains on one device.
    """
    from harness.cli.apart import apart
    from harness.runs.task import Execution
    from harness.sweep.driver import drive, finished_runs
    from harness.sweep.engines import engine_of
    from harness.sweep.folder import write_sweep

    chosen, reporter = engine_of(engine, gpus, slots), make_reporter()
    execution = Execution(device, workers, out, images=images)
    asked = options_of(
        methods, protocol, seeds, trials, data, preset, sets, precision, allow_partial, twin_seed
    )
    if dry_run:
        _, tasks, failures = planned(plan, execution, reporter, asked)
        tell_plan(tasks, out)
        raise typer.Exit(2 if failures else 0)
    # methods, and so torch, are needed to plan, but not to watch the runs: that takes days and 100 MiB instead of 900
    name, specifications, failed = apart(specifications_of, plan, execution, asked)
    sweep = write_sweep(name, execution, specifications)
    code = drive(sweep, chosen, reporter.line)
    if finished := finished_runs(sweep):
        show_table(finished)
    raise typer.Exit(code or (2 if failed else 0))


def slurm(
    plan: PlanFile = None,
    methods: Methods = None,
    protocol: ProtocolName = None,
    seeds: Seeds = None,
    trials: Trials = None,
    data: options.Data = None,
    preset: PresetName = None,
    sets: options.Sets = None,
    precision: Precision = None,
    max_parallel: Annotated[int, typer.Option(min=1, help="Runs at a time.")] = 8,
    header: Annotated[
        list[str] | None,
        typer.Option(help="A line '#SBATCH ...' of yours, as '#SBATCH --partition=gpu'; repeatable."),
    ] = None,
    gres: Annotated[str, typer.Option(help="What each run gets; '' asks for nothing.")] = "gpu:1",
    lead: Annotated[
        int,
        typer.Option(
            min=1, max=65535, help="Seconds before the time limit at which a run stops and queues again."
        ),
    ] = 120,
    submit: Annotated[bool, typer.Option("--submit", help="Submit it as well.")] = False,
    device: options.Device = "auto",
    workers: options.Workers = 0,
    out: options.Out = Path("runs"),
    images: options.Images = Path("data/images"),
    allow_partial: options.AllowPartial = False,
    twin_seed: options.TwinSeed = 0,
) -> None:
    """Write a plan as a Slurm array job, which needs no process that stays alive.

    Each run is a task of one readable script: it stops ahead of the time limit and queues itself again, and goes on
    after its last whole epoch. A run trains on one device.
    """
    from harness.runs.manifest import specification
    from harness.runs.task import Execution
    from harness.sweep import slurm as batch
    from harness.sweep.folder import write_sweep

    array, reporter = batch.Array(max_parallel, tuple(header or ()), gres, lead), make_reporter()
    execution = Execution(device, workers, out, images=images)
    asked = options_of(
        methods, protocol, seeds, trials, data, preset, sets, precision, allow_partial, twin_seed
    )
    name, tasks, failures = planned(plan, execution, reporter, asked)
    sweep = write_sweep(name, execution, [specification(task) for task in tasks])
    script = batch.write_script(sweep, array)
    if submit:
        submit_left(sweep, max_parallel)
    else:
        say(f"{len(tasks)} runs; submit them with: sbatch {shlex.quote(str(script))}")
    raise typer.Exit(2 if failures else 0)


def options_of(
    methods: str | None,
    protocol: str | None,
    seeds: str | None,
    trials: str | None,
    data: str | None,
    preset: str | None,
    sets: list[str] | None,
    precision: str | None,
    allow_partial: bool,
    twin_seed: int,
) -> dict[str, object]:
    """Return what options say of a plan, by the keys of a plan file."""
    return {
        "methods": methods,
        "protocol": protocol,
        "seeds": seeds,
        "trials": trials,
        "data": data,
        "preset": preset,
        "set": tuple(sets or ()),
        "precision": precision,
        "allow_partial_data": allow_partial,
        "twin_seed": twin_seed or None,
    }


def show_table(finished: list[Path]) -> None:
    """Print the table of finished runs."""
    from harness.tools.tables import show_results

    show_results(finished, None, console())


def submit_left(sweep: Sweep, parallel: int | None) -> None:
    """Submit the runs of a sweep that neither finished, nor run, nor wait in the queue."""
    from harness.errors import HarnessError
    from harness.sweep.slurm import ask_queue, submit
    from harness.sweep.status import states_of

    queue = ask_queue(sweep)
    if queue.unknown:
        raise HarnessError(
            f"{queue.unknown}, so nobody knows which runs wait already; try again, nothing was submitted"
        )
    states = states_of(sweep)
    left = [
        unit.place
        for unit, state in zip(sweep.units, states, strict=True)
        if state not in ("finished", "running") and unit.place not in queue.tasks
    ]
    if not left:
        say("nothing to submit: every run has finished, runs, or waits in the queue")
        return
    say(f"submitted {len(left)} of {len(states)} runs as job {submit(sweep, left, parallel)}")


def status(folder: Folder) -> None:
    """Say how the runs of a sweep stand, from their directories, and from squeue where it is."""
    from collections import Counter

    from harness.sweep.folder import read_sweep
    from harness.sweep.slurm import ask_queue
    from harness.sweep.status import count, states_of

    sweep = read_sweep(folder)
    states = states_of(sweep)
    for unit, state in zip(sweep.units, states, strict=True):
        if state in ("running", "stopped", "failed"):
            say(f"{state:9}{unit}")
    say(count(states))
    queue = ask_queue(sweep)
    if queue.unknown:
        say(f"the queue: unknown, {queue.unknown}")
    elif queue.tasks:
        counted = Counter(queue.tasks.values())
        say(f"the queue: {', '.join(f'{number} {state}' for state, number in sorted(counted.items()))}")


def failures(folder: Folder) -> None:
    """Say why runs of a sweep failed: by cause, with the last lines of a log (exit code 2 if any did)."""
    from harness.sweep.driver import tell_failures
    from harness.sweep.folder import read_sweep

    if tell_failures(read_sweep(folder), say):
        raise typer.Exit(2)
    say("no run has failed")


def resubmit(
    folder: Folder,
    max_parallel: Annotated[
        int | None, typer.Option(min=1, help="Runs at a time. Default: no limit.")
    ] = None,
) -> None:
    """Submit again to Slurm what neither finished, nor runs, nor waits in the queue."""
    from harness.sweep.folder import read_sweep

    submit_left(read_sweep(folder), max_parallel)


def commands(folder: Folder) -> None:
    """Print the command of each run that has not finished, one a line: for GNU parallel, SkyPilot, Kubernetes jobs."""
    from harness.sweep.folder import read_sweep
    from harness.sweep.status import states_of

    sweep = read_sweep(folder)
    for unit, state in zip(sweep.units, states_of(sweep), strict=True):
        if state != "finished":
            # not by the console, which would break lines in a pipe
            typer.echo(
                f"cd {shlex.quote(sweep.settings.cwd)} && {shlex.join(['reidbench', *sweep.words(unit)])}"
            )
