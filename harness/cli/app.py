"""The ``reidbench`` command: one thin function per command; what a command needs is imported when it runs."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

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
app.add_typer(data_app, name="data")


def method_names() -> list[tuple[str, str]]:
    """Complete METHOD: names and summaries, read without importing torch."""
    from harness.registry import methods

    return [(entry.name, entry.summary) for entry in methods().values()]


def protocol_names() -> list[tuple[str, str]]:
    """Complete --protocol."""
    from harness.registry import protocols, unions

    several = [(name, " and ".join(members)) for name, members in unions().items()]
    return [(entry.name, entry.summary) for entry in protocols().values()] + several


def dataset_names() -> list[tuple[str, str]]:
    """Complete --like."""
    from harness.registry import datasets

    return [(entry.alias or entry.name, entry.summary) for entry in datasets().values()]


def preset_names() -> list[str]:
    """Complete --preset."""
    from harness.runs.configuration import ENGINE_PRESETS

    return list(ENGINE_PRESETS)


DataOption = Annotated[
    str | None,
    typer.Option("--data", help="Root of the data set, or 'synthetic'. Default: REIDBENCH_DATA."),
]
DeviceOption = Annotated[str, typer.Option(help="cpu, cuda, cuda:N or auto.")]
PresetOption = Annotated[str, typer.Option(help="demo, paper or paper-large.", autocompletion=preset_names)]
WorkersOption = Annotated[int, typer.Option(min=0, help="Processes that prepare batches.")]
TwinSeedOption = Annotated[int, typer.Option(help="Seed of the twin of --data synthetic.")]
OutOption = Annotated[Path, typer.Option("--out", help="Folder of all runs.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="key=value of the method's or the engine's configuration; repeatable."),
]
PartialOption = Annotated[
    bool,
    typer.Option("--allow-partial-data", help="Go on when counts are not the known ones; marks every row."),
]
FEATURES_HELP = ".npz with features (n, d), unit rows; modality, camera, identity as far as they are known."
CLUSTER_KEYS = (
    "expansion: plain (or none), modality-mean, mie, capped, camera-aware; clusterer: dbscan, hdbscan, agglomerative, "
    "infomap; k1, k2, eps, min_samples; of capped: cap, pool; of camera-aware: k1_intra, k1_inter, k2_intra, k2_inter."
)


@app.command(
    epilog="Example: reidbench run dmic --protocol regdb --data synthetic --preset demo --trials 1-2"
)
def run(
    method: Annotated[
        str | None,
        typer.Argument(help="METHOD, METHOD:variant, or 'all'.", autocompletion=method_names),
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(help="As `reidbench list protocols` names it.", autocompletion=protocol_names),
    ] = None,
    data: DataOption = None,
    trials: Annotated[
        str | None,
        typer.Option(help="Training splits where there are several, as 1-10 or 1,4-6. Default: all."),
    ] = None,
    seed: Annotated[
        list[int] | None,
        typer.Option(min=0, max=2**63 - 1, help="Seed of the run; repeatable. Default: 0."),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(help="demo, paper or paper-large. Default: paper.", autocompletion=preset_names),
    ] = None,
    sets: SetOption = None,
    device: DeviceOption = "auto",
    precision: Annotated[
        str | None, typer.Option(help="auto, 32, bf16 or 16. Default: the preset's.")
    ] = None,
    workers: WorkersOption = 0,
    out: OutOption = Path("runs"),
    force: Annotated[bool, typer.Option("--force", help="Run again although the run has finished.")] = False,
    manifest: Annotated[Path | None, typer.Option("--from", help="manifest.json of a run to repeat.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would run, and stop.")] = False,
    allow_partial: PartialOption = False,
    twin_seed: TwinSeedOption = 0,
) -> None:
    """Train a method on every training split a protocol needs, score it, and print the table.

    With 'all' every registered method has its turn; one that fails is reported at the end (exit code 2).
    """
    from harness.runs import plan as launch
    from harness.sweep import many as sweep

    reporter = make_reporter()
    failures: list[sweep.Failure] = []
    if manifest is None:
        required(method, "METHOD", "reidbench list methods")
        required(protocol, "--protocol", "reidbench list protocols")
    request = launch.Request(
        method=method or "",
        protocol=protocol or "",
        data=data,
        trials=trials,
        seeds=tuple(seed or (0,)),
        preset=preset or "paper",
        sets=tuple(sets or ()),
        device=device,
        precision=precision,
        workers=workers,
        out=out,
        force=force,
        allow_partial=allow_partial,
        twin_seed=twin_seed,
    )
    if manifest is not None:
        fixed = {
            "METHOD": method,
            "--preset": preset,
            "--trials": trials,
            "--seed": seed,
            "--set": sets,
            "--precision": precision,
            "--allow-partial-data": allow_partial,
        }
        refuse_beside_manifest(fixed)
        tasks = launch.plan_from_manifest(manifest, request, reporter)
    elif method == sweep.ALL:
        tasks, failures = sweep.plan_all(request, reporter)
    else:
        tasks = launch.plan(request, reporter)
    if dry_run:
        for line in launch.describe(tasks):
            reporter.line(line)
    elif method == sweep.ALL:
        finished, stopped = sweep.run_each(tasks, reporter)
        failures += stopped
        if finished:
            launch.show_results([done.path for done in finished], protocol, console())
    else:
        launch.show_results(launch.run_all(tasks, reporter), protocol, console())
    report_failures(failures, reporter)


def refuse_beside_manifest(given: Mapping[str, object]) -> None:
    """Refuse options that a manifest decides, rather than ignore them."""
    from harness.errors import HarnessError

    names = [name for name, value in given.items() if value]
    if names:
        raise HarnessError(f"--from repeats a run as its manifest says; leave out {', '.join(names)}")


def report_failures(failures: Sequence[Any], reporter: Any) -> None:
    """Print what failed, if anything did, and end with exit code 2."""
    for failure in failures:
        reporter.line(str(failure))
    if failures:
        raise typer.Exit(2)


@app.command(epilog="Example: reidbench verify runs/regdb/dmic/0123456789ab")
def verify(
    run: Annotated[Path, typer.Argument(help="Directory of a finished run.")],
    data: Annotated[
        str | None, typer.Option(help="Root of its data, or 'synthetic'. Default: the manifest's.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:N or auto. Default: the manifest's.")] = "",
    workers: WorkersOption = 0,
    twin_seed: TwinSeedOption = 0,
) -> None:
    """Run a finished run again in a scratch folder; say whether its bytes are equal, or where not (exit code 1)."""
    from harness.runs.plan import Request
    from harness.tools.verify import verify as repeat

    request = Request("", "", data=data, device=device, workers=workers, twin_seed=twin_seed)
    verdict = repeat(run, request, make_reporter())
    console().print(str(verdict), highlight=False, markup=False, soft_wrap=True)
    raise typer.Exit(1 if verdict.difference else 0)


@app.command("list", epilog="Example: reidbench list methods")
def list_(
    what: Annotated[str, typer.Argument(help="methods or protocols; both by default.")] = "all",
) -> None:
    """List the methods and protocols there are."""
    from harness.tools.pages import listing

    console().print(listing(what))


@app.command(epilog="Example: reidbench show dmic --schedule")
def show(
    method: Annotated[str, typer.Argument(help="METHOD or METHOD:variant.", autocompletion=method_names)],
    diff: Annotated[
        str | None,
        typer.Option("--diff", help="Another METHOD[:variant] to compare with.", autocompletion=method_names),
    ] = None,
    preset: PresetOption = "paper",
    schedule: Annotated[bool, typer.Option("--schedule", help="Plot the schedules of eps and k2.")] = False,
) -> None:
    """Show where a method comes from, its configuration per data set, and who says so."""
    from harness.tools import pages as page

    console().print(page.diff(method, diff, preset) if diff else page.page(method, preset))
    if schedule:
        sys.stdout.write(page.schedule_plot(method, preset) + "\n")


@app.command(epilog="Example: reidbench score result.npz --protocol regdb --out metrics.csv")
def score(
    file: Annotated[Path, typer.Argument(help=".npz with distance or features, ids and cameras.")],
    protocol: Annotated[
        str, typer.Option(help="As `reidbench list protocols` names it.", autocompletion=protocol_names)
    ],
    out: Annotated[Path | None, typer.Option(help="CSV file to write: metric,value in percent.")] = None,
) -> None:
    """Score anybody's result by a protocol's rules."""
    from harness.runs.files import write_atomic
    from harness.tools.score import score_file

    frame = score_file(file, protocol)
    if out is not None:
        write_atomic(out, frame.to_csv(index=False).encode())
    for row in frame.itertuples():
        console().print(f"{row.metric:8} {row.value:6.2f} %", highlight=False)


@app.command(
    epilog="Example: reidbench cluster features.npz --set expansion=mie --set eps=0.5 --out labels.csv"
)
def cluster(
    file: Annotated[Path, typer.Argument(help=FEATURES_HELP)],
    sets: Annotated[
        list[str] | None, typer.Option("--set", help=f"key=value; repeatable. {CLUSTER_KEYS}")
    ] = None,
    device: DeviceOption = "auto",
    out: Annotated[Path | None, typer.Option(help="CSV file to write: index,label; noise is -1.")] = None,
) -> None:
    """Cluster anybody's features, and say how good the clusters are if identities are there."""
    from harness.runs.files import check_folder, write_atomic
    from harness.tools.cluster import cluster_file, configuration
    from harness.training.engine import make_fabric

    config = configuration(sets or ())
    check_folder(out)
    if config.unused:
        make_reporter().line(f"not used by this configuration: {', '.join(config.unused)}")
    outcome = cluster_file(file, config, make_fabric(device, "32").device)
    if out is not None:
        write_atomic(out, outcome.csv())
    for line in outcome.lines():
        console().print(line, highlight=False)


@app.command(epilog="Example: reidbench variants features.npz --eps 0.4,0.5,0.6 --out table.csv")
def variants(
    file: Annotated[Path, typer.Argument(help=FEATURES_HELP)],
    eps: Annotated[str, typer.Option(help="Radii to try, separated by commas.")] = "0.4,0.5,0.6",
    sets: Annotated[
        list[str] | None, typer.Option("--set", help="key=value of `reidbench cluster`; repeatable.")
    ] = None,
    device: DeviceOption = "auto",
    out: Annotated[Path | None, typer.Option(help="CSV file to write.")] = None,
) -> None:
    """Try every expansion with every clusterer and eps on the same features, in one table."""
    from harness.runs.files import check_folder, write_atomic
    from harness.tools.cluster import variants_of_file
    from harness.tools.tables import text_table
    from harness.training.engine import make_fabric

    check_folder(out)
    reporter = make_reporter()
    frame = variants_of_file(file, sets or (), eps, make_fabric(device, "32").device, reporter.line)
    if out is not None:
        write_atomic(out, frame.to_csv(index=False).encode())
    sys.stdout.write(text_table(frame) + "\n")


@app.command(epilog="Example: reidbench time --n 2000,4000 --against reference,faiss --figure scaling.png")
def time(
    n: Annotated[
        str, typer.Option("--n", help="Numbers of samples, separated by commas.")
    ] = "8000,16000,34167",
    dim: Annotated[int, typer.Option(min=1, help="Width of the features.")] = 2048,
    k1: Annotated[int, typer.Option(min=1, help="Length of the neighbour lists.")] = 30,
    k2: Annotated[int, typer.Option(min=1, help="Neighbours that the expansion averages over.")] = 6,
    eps: Annotated[float, typer.Option(help="Radius of DBSCAN.")] = 0.6,
    device: DeviceOption = "auto",
    against: Annotated[
        str, typer.Option(help="reference (the public algorithm), faiss, both, or none.")
    ] = "reference,faiss",
    reference_limit: Annotated[
        int, typer.Option(min=1, help="Largest size at which the reference runs; beyond, extrapolated.")
    ] = 16_000,
    repeat: Annotated[int, typer.Option(min=1, help="Runs of every size.")] = 3,
    seed: Annotated[int, typer.Option(help="Seed of the synthetic features.")] = 0,
    out: Annotated[Path | None, typer.Option(help="CSV file to write.")] = None,
    figure: Annotated[Path | None, typer.Option(help="Log-log scaling figure to write.")] = None,
) -> None:
    """Time every stage of the clustering core on synthetic features, beside the public algorithm and faiss."""
    import harness.tools.time as timing
    from harness.runs.files import check_folder, write_atomic
    from harness.tools.tables import text_table
    from harness.training.engine import make_fabric

    plan = timing.Plan(
        dim=dim, k1=k1, k2=k2, eps=eps, repeat=repeat, seed=seed, reference_limit=reference_limit
    )
    sizes, rivals = timing.parse_sizes(n), timing.parse_rivals(against)
    for path in (out, figure):
        check_folder(path)
    frame = timing.measure(plan, sizes, rivals, make_fabric(device, "32").device, make_reporter().line)
    if out is not None:
        write_atomic(out, frame.to_csv(index=False).encode())
    if figure is not None:
        timing.draw(frame, figure)
    sys.stdout.write(text_table(frame) + "\n")


CheckpointOption = Annotated[
    list[str] | None,
    typer.Option("--checkpoint", help="Also show these epochs: best-of-last-stage, as public codes report."),
]


@app.command(epilog="Example: reidbench table runs --format latex > table.tex")
def table(
    runs: Annotated[list[Path], typer.Argument(help="Run directories, or folders of them.")],
    format_: Annotated[str, typer.Option("--format", help="md, latex or csv.")] = "md",
    protocol: Annotated[str | None, typer.Option(help="Only this protocol.")] = None,
    published: Annotated[
        bool, typer.Option("--published", help="Add the numbers of papers, with sources.")
    ] = False,
    checkpoint: CheckpointOption = None,
) -> None:
    """Compare finished runs in one table."""
    from harness.tools.tables import checkpoints_shown, render

    shown = checkpoints_shown(checkpoint or ())
    sys.stdout.write(render(runs, format_, protocol, published, shown))


@app.command(epilog="Example: reidbench report runs --out report.html")
def report(
    runs: Annotated[list[Path], typer.Argument(help="Run directories, or folders of them.")],
    out: Annotated[Path, typer.Option(help="HTML file to write.")] = Path("report.html"),
    checkpoint: CheckpointOption = None,
) -> None:
    """Write a self-contained HTML report of finished runs."""
    from harness.tools.tables import checkpoints_shown, write_report

    write_report(runs, out, checkpoints_shown(checkpoint or ()))
    console().print(f"report: {out}", highlight=False)


@app.command(epilog="Example: reidbench doctor")
def doctor(out: OutOption = Path("runs")) -> None:
    """Check versions, devices, faiss, disk and data roots; say what is wrong and how to fix it."""
    from harness.tools.pages import doctor_page

    page, healthy = doctor_page(out)
    console().print(page)
    raise typer.Exit(0 if healthy else 1)


@data_app.command("synth", epilog="Example: reidbench data synth data/twin --like regdb --seed 0")
def data_synth(
    out: Annotated[Path, typer.Argument(help="Folder to make.")],
    like: Annotated[
        str, typer.Option(help="Data set, as `reidbench list` names it.", autocompletion=dataset_names)
    ],
    identities: Annotated[int | None, typer.Option(min=4, help="Number of people.")] = None,
    images: Annotated[int | None, typer.Option(min=1, help="Images of a person in a camera.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the twin.")] = 0,
    difficulty: Annotated[str, typer.Option(help="easy, medium or hard.")] = "medium",
    full_size: Annotated[
        bool, typer.Option("--full-size", help="The real data set's counts, tiny images.")
    ] = False,
) -> None:
    """Make a synthetic twin: same folders, names and split files as the real data set."""
    from harness.errors import HarnessError
    from harness.registry import load_dataset
    from protocols.synthetic.twin import synthesise

    known = sorted(name for name, _ in dataset_names())
    try:
        dataset = load_dataset(like)
    except HarnessError as error:
        raise HarnessError(f"--like {like}: expected {' or '.join(known)} ({error})") from None
    reporter = make_reporter()
    with reporter.bars():
        made = synthesise(
            out,
            dataset,
            identities=identities,
            images=images,
            seed=seed,
            difficulty=difficulty,
            full_size=full_size,
            track=lambda people: reporter.track(people, len(people), "render people"),
        )
    console().print(str(made), highlight=False, markup=False, soft_wrap=True)


@data_app.command("check", epilog="Example: reidbench data check /data/RegDB")
def data_check(
    root: Annotated[Path, typer.Argument(help="Root of the data set.")], allow_partial: PartialOption = False
) -> None:
    """Compare counts with the known ones; find unreadable, foreign and duplicate files and leaking identities."""
    from harness.tools.pages import check_page

    page, ok = check_page(root, allow_partial)
    console().print(page, soft_wrap=True)  # a path that is broken over lines cannot be copied
    raise typer.Exit(0 if ok else 2)


@data_app.command("fingerprint", epilog="Example: reidbench data fingerprint /data/RegDB")
def data_fingerprint(root: Annotated[Path, typer.Argument(help="Root of the data set.")]) -> None:
    """Print the digest of a data root: equal data, equal digest."""
    from harness.runs.data import recognise
    from protocols.check import fingerprint

    sys.stdout.write(fingerprint(root, recognise(root)) + "\n")


@data_app.command(
    "export", epilog="Example: reidbench data export --protocol regdb --data /data/RegDB --out lists"
)
def data_export(
    protocol: Annotated[
        str, typer.Option(help="As `reidbench list protocols` names it.", autocompletion=protocol_names)
    ],
    out: Annotated[Path, typer.Option(help="Folder for the CSV files.")],
    data: DataOption = None,
    allow_partial: PartialOption = False,
) -> None:
    """Write query_<trial>.csv and gallery_<trial>.csv, in evaluation order, for anybody's code.

    The lists of the protocol's first setting go into the folder itself, those of another into a folder of its name.
    """
    from harness.registry import load_protocols
    from harness.runs.data import export, find_root

    protocols = load_protocols(protocol)
    for chosen in protocols:
        root = find_root(data, chosen, 0, make_reporter())
        target = out / chosen.id if len(protocols) > 1 else out
        written = export(chosen, root, target, allow_partial=allow_partial)
        for folder in dict.fromkeys(path.parent for path in written):
            files = sum(path.parent == folder for path in written)
            console().print(
                f"{folder}: {files} query and gallery lists", markup=False, highlight=False, soft_wrap=True
            )


def console() -> Console:
    """Return a console on standard output."""
    return Console(soft_wrap=False)


def make_reporter() -> Any:
    """Return a reporter on standard error, so that tables on standard output can be piped."""
    from harness.training.progress import Reporter

    return Reporter(Console(stderr=True))


def required(value: str | None, name: str, hint: str) -> None:
    """Demand an option that is only optional beside ``--from``."""
    from harness.errors import HarnessError

    if value is None:
        raise HarnessError(f"{name} is missing; `{hint}` names the choices")


def show_warnings_once() -> None:
    """Write each warning as one line, and never the same one again; Python's own filter forgets."""
    shown: set[str] = set()

    def show(message: Warning | str, *_args: object, **_more: object) -> None:
        if str(message) not in shown:
            shown.add(str(message))
            sys.stderr.write(f"warning: {message}\n")

    warnings.showwarning = show


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; a mendable error ends in one message and exit code 2 (3: the run is held)."""
    from harness.errors import explain, mendable

    show_warnings_once()
    try:
        app(args=list(arguments) if arguments is not None else None)
    except BaseException as error:
        if not isinstance(error, mendable()):
            raise
        text, code = explain(error)
        sys.stderr.write(f"error: {text}\n")
        raise SystemExit(code) from None
