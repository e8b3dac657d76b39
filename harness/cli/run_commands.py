"""``reidbench run`` and ``reidbench verify``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple, NoReturn, TypeVar

import typer

from harness.cli import options
from harness.cli.console import console, make_reporter, say

if TYPE_CHECKING:
    from harness.runs.plan import Request
    from harness.runs.task import Execution, Task
    from harness.sweep.requests import Failure
    from harness.training.progress import Reporter

T = TypeVar("T")
MethodsArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[METHOD]...",
        help="METHOD, METHOD:variant, 'METHOD:*' (all its variants) or 'all'; several in turn.",
        autocompletion=options.method_names,
    ),
]
ProtocolOption = Annotated[
    str | None,
    typer.Option(help="As `reidbench list protocols` names it.", autocompletion=options.protocol_names),
]
TrialsOption = Annotated[
    str | None,
    typer.Option(help="Training splits where there are several, as 1-10 or 1,4-6. Default: all."),
]
SeedOption = Annotated[
    list[int] | None,
    typer.Option(min=0, max=2**63 - 1, help="Seed of the run; repeatable. Default: 0."),
]
SeedsOption = Annotated[str | None, typer.Option(help="Seeds as numbers and ranges, such as 0-2.")]
PresetOption = Annotated[
    str | None,
    typer.Option(help="demo, paper or paper-large. Default: paper.", autocompletion=options.preset_names),
]
PrecisionOption = Annotated[str | None, typer.Option(help="auto, 32, bf16 or 16. Default: the preset's.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Run again although the run has finished.")]
ManifestOption = Annotated[Path | None, typer.Option("--from", help="manifest.json of a run to repeat.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Print what would run, and stop.")]
JsonOption = Annotated[bool, typer.Option("--json", help="With --dry-run: as JSON.")]
IgnoreMissingOption = Annotated[
    bool, typer.Option("--ignore-missing", help="Leave a --set out for methods that lack its key.")
]


def run(
    methods: MethodsArgument = None,
    protocol: ProtocolOption = None,
    data: options.Data = None,
    trials: TrialsOption = None,
    seed: SeedOption = None,
    seeds: SeedsOption = None,
    preset: PresetOption = None,
    sets: options.Sets = None,
    ignore_missing: IgnoreMissingOption = False,
    device: options.Device = "auto",
    precision: PrecisionOption = None,
    workers: options.Workers = 0,
    out: options.Out = Path("runs"),
    images: options.Images = Path("data/images"),
    force: ForceOption = False,
    manifest: ManifestOption = None,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
    allow_partial: options.AllowPartial = False,
    twin_seed: options.TwinSeed = 0,
) -> None:
    """Train methods on every training split a protocol needs, score them, and print one table.

    Of several, one that fails (exit code 1: a bug, 2: a mistake) or is held (3) does not stop the others.
    """
    from harness.runs.plan import Request
    from harness.runs.task import Execution

    execution, reporter = Execution(device, workers, out, force, images), make_reporter()
    decided = {
        "METHOD": methods,
        "--preset": preset,
        "--trials": trials,
        "--seed": seed,
        "--seeds": seeds,
        "--set": sets,
        "--precision": precision,
        "--allow-partial-data": allow_partial,
    }
    wish = wished(protocol, dry_run=dry_run, json=json)
    if manifest is not None:
        refuse_beside_manifest(decided)
        perform([repeated(manifest, execution, data, twin_seed, reporter)], (), wish, reporter)
        return
    names = required(methods or None, "METHOD", "reidbench list methods")
    request = Request(
        method="",
        protocol=required(protocol, "--protocol", "reidbench list protocols"),
        data=data,
        trials=trials,
        seeds=seeds_of(seed, seeds),
        preset=preset or "paper",
        sets=tuple(sets or ()),
        precision=precision,
        allow_partial=allow_partial,
        twin_seed=twin_seed,
    )
    tasks, failures = planned(names, request, execution, reporter, ignore_missing=ignore_missing)
    perform(tasks, failures, wish, reporter)


def seeds_of(single: Sequence[int] | None, ranges: str | None) -> tuple[int, ...]:
    """Return the seeds that ``--seed`` and ``--seeds`` name together."""
    from harness.runs.plan import parse_seeds

    return (*(single or ()), *(parse_seeds(ranges) if ranges is not None else ())) or (0,)


class Wish(NamedTuple):
    """What is wanted of planned runs: a protocol's table, or only a look ahead."""

    protocol: str | None
    dry_run: bool
    json: bool


def planned(
    names: Sequence[str], request: Request, execution: Execution, reporter: Reporter, *, ignore_missing: bool
) -> tuple[list[Task], list[Failure]]:
    """Plan the runs of the named methods."""
    from harness.sweep.requests import plan_several

    return plan_several(names, request, execution, reporter.line, ignore_missing=ignore_missing)


def repeated(
    manifest: Path, execution: Execution, data: str | None, twin_seed: int, reporter: Reporter
) -> Task:
    """Plan the run that a manifest describes."""
    from harness.runs.repeat import plan_from_manifest

    return plan_from_manifest(manifest, execution, reporter.line, data=data, twin_seed=twin_seed)


def perform(tasks: Sequence[Task], unplanned: Sequence[Failure], wish: Wish, reporter: Reporter) -> None:
    """Execute runs and print their table, or say what would run; end with what failed."""
    from harness.sweep.many import outcome_table, run_each
    from harness.sweep.outlook import look_ahead
    from harness.tools.tables import show_results

    if wish.dry_run:
        text, failures = look_ahead(tasks, json=wish.json)
        say(text)
    else:
        outcomes = run_each(tasks, reporter)
        failures = [one.failure for one in outcomes if one.failure]
        if len(outcomes) > 1:
            console().print(outcome_table(outcomes))
        if finished := [one.directory.path for one in outcomes if one.directory]:
            show_results(finished, wish.protocol, console())
    report_failures([*unplanned, *failures], reporter)


def wished(protocol: str | None, *, dry_run: bool, json: bool) -> Wish:
    """Return what is wanted; ``--json`` is refused where it says nothing."""
    from harness.errors import HarnessError

    if json and not dry_run:
        raise HarnessError(
            "--json goes with --dry-run; `reidbench table --format csv` has the numbers of runs"
        )
    return Wish(protocol, dry_run, json)


def refuse_beside_manifest(given: Mapping[str, object]) -> None:
    """Refuse options that a manifest decides, rather than ignore them."""
    from harness.errors import HarnessError

    names = [name for name, value in given.items() if value]
    if names:
        raise HarnessError(f"--from repeats a run as its manifest says; leave out {', '.join(names)}")


def report_failures(failures: Sequence[Failure], reporter: Reporter) -> None:
    """Print what failed, if anything did, and end with its exit code."""
    from harness.sweep.requests import exit_code

    for failure in failures:
        reporter.line(str(failure))
    if failures:
        raise typer.Exit(exit_code(failures))


def required(value: T | None, name: str, hint: str) -> T:
    """Demand an option that is only optional beside ``--from``."""
    from harness.errors import HarnessError

    if value is None:
        raise HarnessError(f"{name} is missing; `{hint}` names the choices")
    return value


def verify(
    run: Annotated[Path, typer.Argument(help="Directory of a finished run; with --quick also a bundle.")],
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Train nothing: compare digests, compute every row from the ranks."),
    ] = False,
    data: Annotated[
        str | None, typer.Option(help="Root of its data, or 'synthetic'. Default: the manifest's.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:N or auto. Default: the manifest's.")] = "",
    workers: options.Workers = 0,
    images: options.Images = Path("data/images"),
    twin_seed: options.TwinSeed = 0,
) -> None:
    """Run a finished run again in a scratch folder; say whether its bytes are equal, or where not (exit code 1).

    With --quick, nothing is trained, and all runs of a folder or bundle are looked at.
    """
    if quick:
        verify_quickly(run)
    from harness.tools.verify import verify as train_again

    verdict = train_again(
        run, make_reporter(), data=data, device=device, workers=workers, images=images, twin_seed=twin_seed
    )
    say(str(verdict))
    raise typer.Exit(1 if verdict.difference else 0)


def verify_quickly(path: Path) -> NoReturn:
    """Print what the files of every run say of each other, and end with exit code 1 if that is a contradiction."""
    from harness.tools.recheck import recheck

    found = recheck(path)
    for one in found:
        say(str(one))
    raise typer.Exit(1 if any(one.fault for one in found) else 0)
