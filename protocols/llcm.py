"""LLCM: nine cameras, visible by day and infrared by night; one training split, two directions (docs/protocols.md)."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

from protocols.base import (
    Count,
    DataError,
    Dataset,
    Distance,
    Headline,
    IntArray,
    LabelledImages,
    Modality,
    Protocol,
    Scores,
    Trial,
    count,
    joined,
    one_modality,
)
from protocols.files import DataWarning, expect, images_in, needed
from protocols.galleries import Folder, ImageRow, seeded_draw
from protocols.lists import read_identities, read_labelled_paths
from protocols.metrics import evaluate, own_camera
from protocols.synthetic.plan import Plan, Shot, Twin, shares
from protocols.synthetic.rendering import generator

VISIBLE, INFRARED = Modality.VISIBLE, Modality.INFRARED
TOPS = {VISIBLE: "vis", INFRARED: "nir"}
CAMERAS = {VISIBLE: tuple(range(1, 10)), INFRARED: (1, 2, 4, 5, 6, 7, 8, 9)}
"""Test cameras; camera k is one place by day and by night, and no infrared test image is of camera 3."""
EMPTY = "cam3"
"""Folder of test_nir that is there and holds nothing."""
TRIALS = range(10)
TRAIN_IDENTITIES, TEST_IDENTITIES = 713, 351
TRAIN_IMAGES = {VISIBLE: 16_946, INFRARED: 13_975}
TEST_IMAGES = {VISIBLE: 8_680, INFRARED: 7_166}
VISIBLE_GALLERY = 484
"""Known counts (docs/protocols.md)."""
TREE = """<root>/vis/0001/0001_c01_s185535_f7010_vis.jpg   <root>/nir/0001/0001_c01_..._nir.jpg
<root>/test_vis/cam1 .. cam9/0003/0003_c01_..._vis.jpg   <root>/test_nir/cam1 .. cam9/0003/..._nir.jpg
<root>/idx/train_vis.txt  train_nir.txt   each line: vis/<identity>/<image>, one blank, an integer label
<root>/idx/test_id.txt   identities separated by commas, on one line"""
NAME, IDENTITY = re.compile(r"([0-9]+)_c([0-9]+)_"), re.compile("[0-9]{4}")
SCRIPT_RULE = "whole, queried by seeded infrared draws: not comparable with visible-to-infrared of llcm"
Folders = Mapping[Modality, Sequence[Folder]]
Lists = Mapping[Modality, LabelledImages]
Draws = Mapping[Modality, Sequence[LabelledImages]]


def camera_in_name(path: Path) -> int:
    """Return the camera that an image's name states; the identity there must be that of the folder."""
    stated = NAME.match(path.name)
    if stated is None:
        raise DataError(f"{path}: the name is not <identity>_c<camera>_...; restore the original name")
    if stated[1] != path.parent.name:
        raise DataError(f"{path}: the name says identity {stated[1]}, the folder does not; mend one")
    return int(stated[2])


class TrainingList(NamedTuple):
    """One modality's training images in the order of their lines, and the identity folder of each."""

    images: LabelledImages
    people: list[int]

    @property
    def labels(self) -> set[int]:
        """The labels in the list, which renumber the identities."""
        return set(self.images.identity.tolist())


def read_training(root: Path, modality: Modality) -> TrainingList:
    """Read ``idx/train_<modality>.txt``: labels stand in it, cameras in the names of its images.

    Raises
    ------
    DataError
        With file and line, or the image, of what is malformed.
    """
    file = needed(root, f"idx/train_{TOPS[modality]}.txt", TREE)
    names, labels = read_labelled_paths(root, file)
    for number, name in enumerate(names, start=1):
        if not re.fullmatch(rf"{TOPS[modality]}/[0-9]{{4}}/[^/]+", name):
            raise DataError(f"{file}, line {number}: {name} is not {TOPS[modality]}/<four digits>/<image>")
    cameras = [camera_in_name(root / name) for name in names]
    people = [int(name.split("/")[1]) for name in names]
    return TrainingList(one_modality(root, names, modality, cameras, labels), people)


def read_test_identities(root: Path, training: Mapping[Modality, TrainingList]) -> list[int]:
    """Read ``idx/test_id.txt``, ascending; no training list may hold one of them."""
    ids = read_identities(needed(root, "idx/test_id.txt", TREE))
    for modality, part in training.items():
        if both := sorted(set(ids) & set(part.people)):
            raise DataError(
                f"{root}/idx: identity {both[0]:04d} stands in test_id.txt and in train_{TOPS[modality]}.txt "
                f"({len(both)} such); get the original files"
            )
    return ids


def camera_folders(root: Path, modality: Modality) -> dict[int, Path]:
    """Return the test folders of a modality's cameras; warn of what else lies there."""
    known = {f"cam{camera}": camera for camera in CAMERAS[modality]}
    top, found = root / f"test_{TOPS[modality]}", {}
    for entry in sorted(top.iterdir()) if top.is_dir() else ():
        if entry.is_dir() and entry.name in known:
            refuse_odd_people(entry)
            found[known[entry.name]] = entry
        elif entry.name != EMPTY or any(entry.rglob("*")):
            warnings.warn(f"{entry} is no camera of {top.name} and is left out", DataWarning, stacklevel=3)
    return found


def refuse_odd_people(camera: Path) -> None:
    """Refuse a folder named by a number that is no identity's; warn of anything else that is no identity's folder."""
    for entry in sorted(camera.iterdir()):
        if entry.is_dir() and entry.name.isdecimal() and not IDENTITY.fullmatch(entry.name):
            raise DataError(f"{entry}: an identity has four digits, up to 9999; restore the original name")
        if not (entry.is_dir() and IDENTITY.fullmatch(entry.name)):
            warnings.warn(f"{entry} is no folder of an identity and is left out", DataWarning, stacklevel=3)


def folders_of(root: Path, modality: Modality, ids: Sequence[int]) -> list[Folder]:
    """List the images of test identities, identity major, camera minor; names must say what their folders say."""
    cameras = camera_folders(root, modality)
    found = []
    for identity, camera in product(ids, sorted(cameras)):
        place = cameras[camera] / f"{identity:04d}"
        if place.is_dir():
            found.append(Folder(identity, camera, images_in(place, ".jpg")))
            for path in (place / name for name in found[-1].names):
                if (said := camera_in_name(path)) != camera:
                    raise DataError(f"{path}: the name says camera {said}, the folder does not; mend one")
    return found


def listed(root: Path, modality: Modality, rows: Sequence[ImageRow]) -> LabelledImages:
    """Make a list of test images."""
    names = [f"test_{TOPS[modality]}/cam{c}/{i:04d}/{name}" for i, c, name in rows]
    return one_modality(root, names, modality, [row.camera for row in rows], [row.identity for row in rows])


def count_training(parts: Mapping[Modality, TrainingList]) -> list[Count]:
    """Count lines, labels and identities of the training lists."""
    pairs = {pair for part in parts.values() for pair in zip(part.images.identity, part.people, strict=True)}
    visible, infrared = (part.labels for part in parts.values())
    lines = {
        f"lines of train_{TOPS[m]}.txt": (TRAIN_IMAGES[m], len(part.images)) for m, part in parts.items()
    }
    return [
        *(count(what, *numbers) for what, numbers in lines.items()),
        count("training identities", TRAIN_IDENTITIES, len({person for _, person in pairs})),
        count("training labels", TRAIN_IDENTITIES, len(visible | infrared)),
        count("training labels of one modality alone", 0, len(visible ^ infrared)),
        count("pairs of training label and identity", TRAIN_IDENTITIES, len(pairs)),
    ]


def count_test(ids: Sequence[int], folders: Folders) -> list[Count]:
    """Count test identities and their images."""
    visible, infrared = ({folder.identity for folder in folders[m]} for m in Modality)
    images = {m: sum(len(folder.names) for folder in folders[m]) for m in Modality}
    return [
        count("test identities", TEST_IDENTITIES, len(ids)),
        *(count(f"{m.name.lower()} test images", TEST_IMAGES[m], images[m]) for m in Modality),
        count("visible gallery images", VISIBLE_GALLERY, len(folders[VISIBLE])),
        count("test identities without images (the first)", [], sorted(set(ids) - visible - infrared)[:3]),
        count("test identities of one modality alone (the first)", [], sorted(visible ^ infrared)[:3]),
    ]


def refuse_unscorable(root: Path, folders: Folders) -> None:
    """Refuse test images among which no query of either direction has a match."""
    visible, infrared = ({(f.identity, f.camera) for f in folders[m]} for m in Modality)
    if not (visible and infrared):
        name = "infrared" if visible else "visible"
        raise DataError(f"{root}: no {name} query, no {name} gallery; restore images of test identities")
    if not any(i == j and a != b for i, a in visible for j, b in infrared):
        raise DataError(
            f"{root}: every match of all queries, infrared and visible, is left out, because no identity of "
            "test_id.txt is in a visible camera and in another infrared one; restore the test folders"
        )


def shots_of(identity: int, modality: Modality, camera: int, images: int, tested: bool) -> Iterator[Shot]:
    """Place a person's images of a camera; test images lie in the folder of their camera as well."""
    top, person = TOPS[modality], f"{identity:04d}"
    for number in range(modality, 2 * images, 2):
        name = f"{person}_c{camera:02d}_s{180_000 + 7 * number}_f{5 + 240 * number}_{top}.jpg"
        for folder in (f"{top}/{person}", *([f"test_{top}/cam{camera}/{person}"] if tested else ())):
            yield Shot(f"{folder}/{name}", identity, camera, bool(modality), number)


def plan_of(seen: Sequence[tuple[int, Modality, int, int]], test: set[int]) -> Plan:
    """Plan a twin of rows of identity, modality, camera and number of images."""
    shots = [shot for i, m, c, n in seen for shot in shots_of(i, m, c, n, i in test)]
    texts = {"idx/test_id.txt": ", ".join(map(str, sorted(test))) + "\n"}
    for part, ids in (("train", {i for i, *_ in seen} - test), ("test", test)):
        label = {identity: k for k, identity in enumerate(sorted(ids))}
        for top in TOPS.values():
            own = (s for s in shots if s.person in label and s.path.startswith(f"{top}/"))
            texts[f"idx/{part}_{top}.txt"] = "".join(f"{s.path} {label[s.person]}\n" for s in own)
    return Plan(shots, texts, tuple(f"test_{top}/cam{c}" for top in TOPS.values() for c in CAMERAS[VISIBLE]))


def cameras_of(place: int, seed: int) -> dict[Modality, list[int]]:
    """Choose the cameras of the person at a place of the split: for five of eight one visible one.

    Of eight people, the second is seen by one camera alone, the same by day and by night.
    """
    g = generator("llcm cameras", seed)
    day, night = (g.permutation(CAMERAS[m]).tolist() for m in Modality)
    first, second = day[place % len(day)], day[(place + 4) % len(day)]
    turned = night[place % len(night) :] + night[: place % len(night)]
    if place % 8 == 1:
        return {m: [first if first in night else turned[0]] for m in Modality}
    visible = [first, second] if place % 8 in (0, 3, 6) else [first]
    shared = [first] if first in night and place % 2 == 0 else []
    return {VISIBLE: visible, INFRARED: [*shared, *(c for c in turned if c not in visible)][:2]}


def plan_twin(identities: int, images: int, seed: int) -> Plan:
    """Plan a twin: a third of the people test, the others train."""
    order = (generator("llcm split", seed).permutation(identities) + 1).tolist()
    test = order[: max(2, identities // 3)]
    places = sorted((i, k) for part in (test, order[len(test) :]) for k, i in enumerate(part))
    seen = [(i, m, c, images) for i, k in places for m, cams in cameras_of(k, seed).items() for c in cams]
    return plan_of(seen, set(test))


def plan_full_size(_seed: int) -> Plan:
    """Plan the real counts, dealt out evenly; every third identity tests, and some are in two cameras."""
    people = range(1, TRAIN_IDENTITIES + TEST_IDENTITIES + 1)
    test = people[2 : 3 * TEST_IDENTITIES : 3]
    seen = []
    for ids, totals in ((sorted(set(people) - set(test)), TRAIN_IMAGES), (test, TEST_IMAGES)):
        for modality, total in totals.items():
            cams, n = CAMERAS[modality], len(CAMERAS[modality])
            first = [(i, modality, cams[k % n]) for k, i in enumerate(ids)]
            second = [(i, modality, cams[(k + 4) % n]) for k, i in enumerate(ids)]
            places = first + second[: VISIBLE_GALLERY - TEST_IDENTITIES]
            seen += [(*place, n) for place, n in zip(places, shares(total, len(places)), strict=True)]
    return plan_of(seen, set(test))


class LLCMData(Dataset):
    """LLCM: nine cameras, each with visible images by day and infrared ones by night; one training split."""

    name = "llcm"
    summary = "LLCM: nine cameras, each in both modalities, one split"
    landmarks = "test_vis, test_nir and idx"
    tree = TREE
    image_folders = ("vis", "nir", "test_vis", "test_nir")
    list_folders = ("idx",)
    suffix = ".jpg"
    n_trials = len(TRIALS)
    headline = Headline("llcm", "visible-to-infrared")
    twin = Twin(90, 5, plan_twin, plan_full_size)

    def recognises(self, root: Path) -> bool:
        """Look for the test images and the lists."""
        return all((root / name).is_dir() for name in ("test_vis", "test_nir", "idx"))

    def counts(self, root: Path) -> list[Count]:
        """Lines and labels of the training lists, test identities and their images; a leak is an error."""
        training = {m: read_training(root, m) for m in Modality}
        ids = read_test_identities(root, training)
        folders = {m: folders_of(root, m, ids) for m in Modality}
        odd = sum(path.is_file() for path in (root / "test_nir" / EMPTY).rglob("*"))
        return [
            *count_training(training),
            *count_test(ids, folders),
            count(f"files in test_nir/{EMPTY}", 0, odd),
        ]

    def training(self, root: Path, split: int, *, allow_partial: bool = False) -> LabelledImages:
        """Both training lists in the order of their lines, visible first; identities are the lists' labels."""
        parts = {m: read_training(root, m) for m in Modality}
        read_test_identities(root, parts)
        expect(root, self.name, count_training(parts), allow_partial)
        return joined([part.images for part in parts.values()])

    def duplicate_groups(self) -> tuple[tuple[str, ...], ...]:
        """Test images lie with all images, and once more in the folders of their cameras."""
        return (("vis", "nir"), ("test_vis", "test_nir"))


class LLCM(Protocol):
    """All images of one modality against draws of the other, in both directions."""

    id = "llcm"
    version = "1"
    dataset = LLCMData()
    summary = "LLCM: infrared to visible and visible to infrared; all queries, ten seeded galleries each"

    def trials(self, root: Path, split: int, *, allow_partial: bool = False) -> list[Trial]:
        """Ten trials in each direction, which share their queries."""
        ids = read_test_identities(root, {})
        folders = {m: folders_of(root, m, ids) for m in Modality}
        refuse_unscorable(root, folders)
        expect(root, self.dataset.name, count_test(ids, folders), allow_partial)
        rows = {m: [ImageRow(i, c, name) for i, c, names in folders[m] for name in names] for m in Modality}
        whole = {m: listed(root, m, rows[m]) for m in Modality}
        drawn = {m: [listed(root, m, seeded_draw(folders[m], t, 1)) for t in TRIALS] for m in Modality}
        return self.pairs(whole, drawn)

    def pairs(self, whole: Lists, drawn: Draws) -> list[Trial]:
        """Pair all images of each modality with the draws of the other, an image of an identity in a camera."""
        directions = (("infrared-to-visible", INFRARED, VISIBLE), ("visible-to-infrared", VISIBLE, INFRARED))
        return [
            Trial(setting, trial, whole[asked], drawn[side][trial], "seeded")
            for setting, asked, side in directions
            for trial in TRIALS
        ]

    def score(
        self,
        distance: Distance,
        query_ids: IntArray,
        gallery_ids: IntArray,
        query_cams: IntArray,
        gallery_cams: IntArray,
    ) -> Scores:
        """CMC over identities; a query does not see its own identity in its own camera."""
        skip, group = own_camera(query_ids, gallery_ids, query_cams, gallery_cams)
        return evaluate(distance, query_ids, gallery_ids, skip, group, True)


class LLCMScript21(LLCM):
    """What the released test script prints for its mode [2, 1]: infrared to visible once more, the draws asking."""

    id = "llcm-script21"
    summary = (
        "LLCM, second mode of the released script: drawn infrared queries, all visible images as gallery"
    )
    extra = True

    def pairs(self, whole: Lists, drawn: Draws) -> list[Trial]:
        """Pair the infrared draws with all visible images."""
        return [Trial("script 2-1", t, drawn[INFRARED][t], whole[VISIBLE], SCRIPT_RULE) for t in TRIALS]
