"""What a data set says of its twin: how many people, which images where, which split files, of what size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from protocols.synthetic.rendering import HEIGHT, WIDTH, generator


@dataclass(frozen=True)
class Shot:
    """One image to render: where it goes, and all that decides its pixels.

    Attributes
    ----------
    path : str
        Relative to the root. Its suffix is the file format; shots that differ in the path alone are one image.
    person, camera, number : int
        The number differs between a person's images in one camera, whatever their modality.
    infrared : bool
    """

    path: str
    person: int
    camera: int
    infrared: bool
    number: int


@dataclass(frozen=True)
class Plan:
    """Everything in a twin but the pixels.

    Attributes
    ----------
    shots : list of Shot
    texts : dict
        Content of the split files by path.
    folders : tuple of str
        Folders that are there although they may hold nothing.
    """

    shots: list[Shot]
    texts: dict[str, str]
    folders: tuple[str, ...] = ()


def rendered_size(_shot: Shot, _seed: int) -> tuple[int, int]:
    """Return width and height that images are rendered in, 64 x 128."""
    return WIDTH, HEIGHT


def detector_size(shot: Shot, seed: int) -> tuple[int, int]:
    """Return width and height as boxes of a detector have them: another size for each image."""
    g = generator("size", seed, shot.person, shot.camera, shot.number)
    height = int(g.integers(120, 301))
    return height * int(g.integers(36, 52)) // 100, height


@dataclass(frozen=True)
class Twin:
    """How a twin of a data set is made.

    Attributes
    ----------
    people, images : int
        People, and images of a person in a camera, unless the user says otherwise.
    plan : callable
        From people, images and seed to a plan; :class:`~protocols.base.DataError` for numbers that cannot be.
    full_size : callable
        From a seed to a plan with the real counts.
    size : callable
        From a shot and the seed to the image's width and height in pixels.
    """

    people: int
    images: int
    plan: Callable[[int, int, int], Plan]
    full_size: Callable[[int], Plan]
    size: Callable[[Shot, int], tuple[int, int]] = rendered_size


def shares(total: int, parts: int) -> list[int]:
    """Deal a total out evenly, the first parts getting what is left over."""
    return [total // parts + (i < total % parts) for i in range(parts)]
