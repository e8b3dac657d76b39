"""The readers that are fuzzed, each with files of ours to damage and a way to give it what was drawn."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import warnings
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
import torch
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save

from harness.cli.app import main
from harness.errors import HarnessError
from harness.inputs.images import read_image
from harness.registry import load_method, methods
from harness.runs.configuration import ENGINE_PRESETS, resolve, split_variant
from harness.runs.data import proof, recognise, remembered
from harness.runs.holder import HOLDER, holder_of, myself, read_holder
from harness.runs.manifest import earlier_environments, spec_from_manifest
from harness.runs.plan import parse_trials
from harness.runs.run_spec import RunSpec
from harness.runs.weights import digest_of, read_weights
from harness.tools.inspection import inspect
from harness.tools.recheck import recheck
from harness.tools.samples import read_samples
from harness.tools.score import score_file
from harness.training.checkpoint import load_checkpoint, save_checkpoint
from protocols.check import check
from protocols.galleries import read_permutations
from protocols.lists import read_identities, read_labelled_paths
from protocols.llcm import LLCMData
from protocols.matlab import read_matlab
from protocols.regdb import RegDBData
from protocols.synthetic.twin import synthesise
from protocols.sysu_mm01 import SysuMM01Data
from results.bundles import write_bundle
from results.checksums import COMPLETE, changed_files
from results.formats import to_latex, to_markdown
from results.manifests import read_manifest
from results.schema import HISTORY, METRICS, PROFILE
from results.store import find_runs, load_runs, read_frame
from results.tables import comparison
from tests.results.cases import write_scored_run
from tests.robustness.fuzz import Reader
from tests.robustness.inputs import archives, damaged, documents, edited, saved, text_edits, words

SPEC = RunSpec(
    method="dmic",
    label="dmic:mie",
    preset="demo",
    config={"eps": 0.6, "first": {"k1": 30}},
    engine={"height": 64, "weights": "none"},
    dataset="regdb",
    split=1,
    seed=0,
    data_digest="0" * 64,
    data="synthetic",
    weights="none",
    sources="1" * 64,
    training_version=2,
)


def file_reader(name: str, suffix: str, drawn: Any, read: Callable[[Path], object]) -> Reader:
    """Return a reader of one file of drawn bytes."""

    def from_file(content: bytes, folder: Path) -> object:
        path = folder / f"given{suffix}"
        path.write_bytes(content)
        return read(path)

    return Reader(name, drawn, from_file)


def arrays() -> dict[str, Any]:
    """Return a small result to score, and features to cluster."""
    rng = np.random.default_rng(0)
    query, gallery = np.repeat(np.arange(4), 2), np.repeat(np.arange(4), 3)
    features = rng.standard_normal((8, 4))
    return {
        "distance": rng.random((8, 12)),
        "query_ids": query,
        "gallery_ids": gallery,
        "query_cams": np.full(8, 3),
        "gallery_cams": np.full(12, 1),
        "features": (features / np.linalg.norm(features, axis=1, keepdims=True)).astype("f4"),
        "modality": np.arange(8) % 2,
        "camera": np.arange(8) % 3,
    }


def score_whole(folder: Path) -> None:
    """Score a result that is as it should be: the first time, the loops are compiled, which takes seconds."""
    path = folder / "whole.npz"
    path.write_bytes(saved(**arrays()))
    with warnings.catch_warnings(action="ignore"):  # four people are a short gallery
        for protocol in ("regdb", "sysu-all"):
            score_file(path, protocol)


def matlab(packed: bool, **content: Any) -> bytes:
    """Return a ``.mat`` file."""
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, content, do_compression=packed)
    return buffer.getvalue()


def permutations() -> np.ndarray:
    """Return a permutation file's cells, small."""
    cells = np.empty((6, 1), dtype=object)
    for camera in range(6):
        inner = np.empty((3, 1), dtype=object)
        for identity in range(3):
            inner[identity, 0] = np.tile(np.arange(1, 4, dtype="u1"), (10, 1))
        cells[camera, 0] = inner
    return cells


def pytorch(content: Any, new: bool) -> bytes:
    """Return what ``torch.save`` writes, in its new format or its old one."""
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=new)
    return buffer.getvalue()


def image_files() -> list[bytes]:
    """Return small images of the formats that data sets come in."""
    pixels = np.random.default_rng(0).integers(0, 256, (12, 8, 3), dtype=np.uint8)
    found = []
    for how in (
        {"format": "BMP"},
        {"format": "JPEG"},
        {"format": "PNG"},
        {"format": "TIFF"},
        {"format": "GIF"},
    ):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, **how)
        found.append(buffer.getvalue())
    return [*found, b"BM" + struct.pack("<IHHIIiiHH", 154, 0, 0, 54, 40, 100000, 100000, 1, 24) + bytes(140)]


def read_pixels(path: Path) -> object:
    return read_image(path, 32, 16, Image.Resampling.BICUBIC)


def weights_of(path: Path) -> object:
    return digest_of(read_weights(path))


def array_readers() -> list[Reader]:
    """Return the readers of arrays, weights and images."""
    content = arrays()
    npz = saved(**content)
    state = {
        "conv1.weight": torch.arange(6.0).reshape(2, 3),
        "module.fc.bias": torch.ones(2, dtype=torch.bfloat16),
    }
    odd = {"state_dict": state, "epoch": 3, "best": np.float64(0.5)}
    cells = [matlab(packed, rand_perm_cam=permutations()) for packed in (False, True)]
    mats = [matlab(packed, **content) for packed in (False, True)]
    weights = [pytorch(one, new) for one in (state, odd) for new in (False, True)]
    npzs = st.one_of(damaged([npz]), archives(list(content)))
    return [
        file_reader("result .npz", ".npz", npzs, lambda path: score_file(path, "sysu-all")),
        file_reader("features .npz", ".npz", npzs, lambda path: read_samples(path, torch.device("cpu"))),
        file_reader("result .mat", ".mat", damaged(mats), lambda path: score_file(path, "regdb")),
        file_reader("permutations .mat", ".mat", damaged(cells), lambda path: read_permutations(path, 6)),
        file_reader("any .mat", ".mat", damaged([*mats, *cells]), lambda path: read_matlab(path, content)),
        file_reader("weights .pth", ".pth", damaged(weights), weights_of),
        file_reader("weights .safetensors", ".safetensors", damaged([save(state)]), weights_of),
        file_reader("image", ".bmp", damaged(image_files()), read_pixels),
    ]


def saved_checkpoint(folder: Path) -> bytes:
    """Return a small checkpoint."""
    path = folder / "whole.ckpt"
    state = {
        "run": "r",
        "done": 2,
        "modules": {"net": {"w": torch.arange(4.0)}},
        "schedules": [1.5, None, "x"],
    }
    save_checkpoint(path, state)
    return path.read_bytes()


def manifest() -> dict[str, Any]:
    """Return a manifest."""
    return {
        "manifest_version": 2,
        "run": SPEC.id,
        "spec": SPEC.model_dump(),
        "data_root": "/data",
        "protocols": {"regdb": "1"},
        "environment": {"python": "3.11", "packages": {"torch": "2.14"}, "gpus": []},
        "device": "cpu",
        "earlier": [],
    }


def read_plan(path: Path) -> object:
    spec, root = spec_from_manifest(path, read_manifest(path))
    return spec.id, root


class Directory:
    """What :func:`~harness.runs.manifest.earlier_environments` reads of a run's directory."""

    def __init__(self, path: Path) -> None:
        self.manifest = self.last = path


def table_reader(name: str, run: Path, file: str, schema: Any) -> Reader:
    """Return a reader of a table of a run."""
    drawn = damaged([(run / file).read_bytes()], text=True)
    return file_reader(name, ".csv", drawn, lambda path: read_frame(path, schema))


def run_readers(folder: Path) -> list[Reader]:
    """Return the readers of runs, whole and by file."""
    run = write_scored_run(folder, "dmic", identities=4, each=2)
    whole = {path.name: path.read_bytes() for path in run.iterdir()}
    write_bundle({"dmic-0-1": run}, folder / "whole.zip")
    bundle = (folder / "whole.zip").read_bytes()
    checkpoint = saved_checkpoint(folder)

    def read_run(drawn: tuple[str, list[Any], bool], scratch: Path) -> object:
        """Read a run of which a file is damaged; with digests that fit, or without any."""
        name, edits, silent = drawn
        place = scratch / "runs" / run.name
        place.mkdir(parents=True, exist_ok=True)
        for one, content in whole.items():
            (place / one).write_bytes(edited(content, edits) if one == name else content)
        if silent:
            (place / COMPLETE).write_bytes(b"")
        for path in (place, place.parent):
            recheck(path)
        inspect(place)
        rows = comparison(load_runs(place.parent))
        return to_markdown(rows), to_latex(rows)

    files = st.tuples(st.sampled_from(sorted(whole)), text_edits, st.booleans())
    return [
        table_reader("metrics.csv", run, "metrics.csv", METRICS),
        table_reader("history.csv", run, "history.csv", HISTORY),
        table_reader("profile.csv", run, "profile.csv", PROFILE),
        file_reader("manifest.json", ".json", documents(manifest()), read_plan),
        file_reader(
            "manifest.json, earlier",
            ".json",
            documents(manifest()),
            lambda p: earlier_environments(Directory(p)),
        ),  # type: ignore[arg-type]
        Reader("holder.json", documents(asdict(myself())), read_who),
        Reader("COMPLETE", damaged([whole[COMPLETE]], text=True), complete_reader(whole)),
        Reader("run", files, read_run, slow=20),
        file_reader("bundle", ".zip", damaged([bundle]), lambda path: find_runs([path])),
        file_reader("checkpoint", ".ckpt", damaged([checkpoint]), load_checkpoint),
    ]


def read_who(content: bytes, folder: Path) -> object:
    """Read who holds a run, and whether that process lives."""
    (folder / HOLDER).write_bytes(content)
    found = read_holder(folder)
    return holder_of(folder), found and (str(found), found.dead)


def complete_reader(whole: dict[str, bytes]) -> Callable[[bytes, Path], object]:
    """Return a function that compares files with drawn digests."""

    def read(content: bytes, folder: Path) -> object:
        (folder / "metrics.csv").write_bytes(whole["metrics.csv"])
        (folder / COMPLETE).write_bytes(content)
        return changed_files(folder)

    return read


def remembered_in(content: bytes, folder: Path) -> object:
    path = folder / "0123456789abcdef01234567"
    path.write_bytes(content)
    return remembered(path)


def text_readers() -> list[Reader]:
    """Return the readers of lists and of what is remembered of data."""
    listed = b"Visible/1/a.bmp 0\nVisible/2/b.bmp 1\n"

    def read_list(content: bytes, folder: Path) -> object:
        for name in ("Visible/1/a.bmp", "Visible/2/b.bmp"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).touch()
        (folder / "list.txt").write_bytes(content)
        return read_labelled_paths(folder, folder / "list.txt")

    known = f"{'a' * 64} {proof('0123456789abcdef01234567', 'a' * 64)}\n".encode()
    return [
        Reader("list of images", damaged([listed, listed.replace(b"/", b"\\")], text=True), read_list),
        file_reader("list of identities", ".txt", damaged([b"1,2,30,395\n"], text=True), read_identities),
        Reader("fingerprint", damaged([known], text=True), remembered_in),
    ]


def folder_reader(name: str, dataset: Any, folder: Path, identities: int) -> Reader:
    """Return a reader of a data root in which a few things are not as they should be."""
    root = folder / name.replace(" ", "-")
    synthesise(root, dataset, identities=identities, images=2, seed=1, difficulty="easy", size=(8, 16))
    files = sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    strange = st.sampled_from(
        [
            *(
                b"\xba\xb9.txt",
                b"._0001.jpg",
                b"Thumbs.db",
                b"[b].bmp",
                b"\x1b[31m.jpg",
                b"a\nb.bmp",
                b"\xd9\xa3.jpg",
            ),
            *(b"0001.JPG", b"cam9", b"0000", b"SYNTHETIC.json", b".DS_Store", "²²²².jpg".encode()),
        ]
    )
    how = st.sampled_from(["file", "folder", "pipe", "nowhere", "loop", "gone", "empty", "list"])
    change = st.tuples(how, st.integers(0, 10**6), strange, text_edits)

    def read(changes: list[Any], scratch: Path) -> object:
        undo: list[Callable[[], object]] = []
        try:
            for one in changes:
                undo.append(disturb(root, files, *one))
            with contextlib.suppress(HarnessError):
                recognise(root)
            check(root, dataset)
            for split in dataset.splits[:1]:
                dataset.training(root, split, allow_partial=True)
        finally:
            for step in reversed(undo):
                step()
        return None

    return Reader(name, st.lists(change, min_size=1, max_size=2), read, slow=4)


def disturb(
    root: Path, files: list[str], how: str, at: int, strange: bytes, edits: list[Any]
) -> Callable[[], object]:
    """Change one thing below a root; return what takes it back."""
    path = root / files[at % len(files)]
    lists = [name for name in files if name.endswith(".txt")]
    if how == "list":
        path = root / lists[at % len(lists)]
    if how in ("gone", "empty", "list"):
        before = path.read_bytes() if path.is_file() else b""
        if how == "gone":
            path.unlink(missing_ok=True)
        else:
            path.write_bytes(edited(before, edits) if how == "list" else b"")
        return lambda: path.write_bytes(before)
    new = os.path.join(os.fsencode(path.parent), strange)  # noqa: PTH118 - bytes
    if os.path.lexists(new):
        return lambda: None
    made = {
        "file": lambda: Path(os.fsdecode(new)).write_bytes(b"x"),
        "folder": lambda: os.mkdir(new),  # noqa: PTH102
        "pipe": lambda: os.mkfifo(new),
        "nowhere": lambda: os.symlink(b"/nowhere", new),  # noqa: PTH211
        "loop": lambda: os.symlink(os.fsencode(root), new),  # noqa: PTH211
    }
    made[how]()
    return lambda: os.rmdir(new) if how == "folder" else os.unlink(new)  # noqa: PTH106, PTH108


def configure(drawn: tuple[str, str, str, list[tuple[str, str]]], _folder: Path) -> object:
    label, dataset, preset, pairs = drawn
    name, variant = split_variant(label)
    return resolve(load_method(name), dataset, preset, variant, [f"{key}={value}" for key, value in pairs])


def configuration_reader() -> Reader:
    """Return the reader of methods, presets and values."""
    names = sorted(methods())
    keys = [
        "eps",
        "k1",
        "epochs",
        "iterations",
        "precision",
        "weights",
        "height",
        "engine.width",
        "lr",
        "stage_init",
    ]
    return Reader(
        "configuration",
        st.tuples(
            st.sampled_from([*names, *(f"{name}:public" for name in names)]) | words,
            st.sampled_from(["regdb", "sysu-mm01", "llcm"]),
            st.sampled_from(list(ENGINE_PRESETS)) | words,
            st.lists(st.tuples(st.sampled_from(keys) | words, words), max_size=3),
        ),
        configure,
    )


def command(arguments: list[str], folder: Path) -> object:
    """Run a command that needs no training; how it ends is checked here."""
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            main([argument.replace("\0", "") for argument in arguments])
    except SystemExit as end:
        if end.code not in (None, 0, 1, 2):
            raise AssertionError(f"exit {end.code}") from None
    return None


def argument_readers(folder: Path) -> list[Reader]:
    """Return the readers of what is typed: trials, and whole command lines."""
    run = write_scored_run(folder / "typed", "dmic", identities=4, each=2)
    (folder / "typed.npz").write_bytes(saved(**arrays()))
    commands = st.sampled_from(
        [
            ["list"], ["show", "dmic"], ["table", str(run)], ["table", str(run), "--format"],
            ["compare", "--runs", str(run)],
            ["score", str(folder / "typed.npz"), "--protocol"], ["run", "dmic", "--dry-run", "--protocol"],
            ["run", "source-only", "--protocol", "regdb", "--data", "nowhere", "--dry-run", "--set"],
            ["verify", "--quick", str(run)], ["doctor", str(run)], ["data", "check"], ["data", "synth", "x", "--like"],
            ["run", "--from"], ["show", "dmic", "--diff"], ["bundle", str(run), "--out"], ["figure"],
            ["run", "all", "--dry-run", "--data", "nowhere", "--protocol"],
        ]
    )  # fmt: skip
    options = st.sampled_from(
        [
            "--help",
            "--seed",
            "--trials",
            "--checkpoint",
            "--metric",
            "--layout",
            "--published",
            "--out",
            "--format",
            "--",
        ]
    )
    splits = (tuple(range(1, 11)), (0,))
    return [
        Reader(
            "trials",
            st.tuples(words | st.from_regex(r"[0-9,\- ²٣]{0,12}", fullmatch=True), st.sampled_from(splits)),
            lambda drawn, _: parse_trials(drawn[0].encode("utf-8", "replace").decode(), drawn[1]),
        ),
        Reader(
            "command line",
            st.builds(lambda a, b: [*a, *b], commands, st.lists(options | words, max_size=3)),
            command,
            slow=4,
        ),
    ]


def readers(folder: Path) -> list[Reader]:
    """Return all readers; what they need is made in a folder."""
    return [
        *array_readers(),
        *run_readers(folder),
        *text_readers(),
        folder_reader("folder of RegDB", RegDBData(), folder, 4),
        folder_reader("folder of SYSU-MM01", SysuMM01Data(), folder, 5),
        folder_reader("folder of LLCM", LLCMData(), folder, 9),
        configuration_reader(),
        *argument_readers(folder),
    ]
