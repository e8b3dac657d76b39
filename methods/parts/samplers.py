"""Which samples make a batch: P labels x K instances, with singletons once, with shared labels, in pairs of classes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from methods.errors import MethodError

IntArray = npt.NDArray[np.int64]


def random_multiple_gallery(
    label: IntArray,
    camera: IntArray,
    labels_per_batch: int,
    instances: int,
    iterations: int,
    generator: np.random.Generator,
    cross_camera: bool = True,
) -> IntArray:
    """Draw batches of P labels x K instances; a label with fewer samples repeats them.

    The labels come in random permutations, each label once; a permutation's last batch is dropped if short.

    Parameters
    ----------
    label, camera : int64 arrays (m,)
        Of the samples to draw from, noise left out.
    labels_per_batch : int
        P; shrinks to the number of labels.
    instances : int
        K; the first instance of a label is its anchor.
    iterations : int
        Batches to draw.
    generator : numpy Generator
    cross_camera : bool
        Draw the anchor's companions from other cameras than its own where there are any.

    Returns
    -------
    int64 array (iterations, P * K)
        Positions in `label`.

    Raises
    ------
    MethodError
        If there are no samples, noise among them, or P or K is not positive.
    """
    groups = _members(label, camera, labels_per_batch, instances)
    size = min(labels_per_batch, len(groups)) * instances
    stream = _batches(groups, camera, instances, size, generator, cross_camera, repeat_singletons=True)
    return _take(stream, iterations, size)


def gallery_with_singletons(
    label: IntArray,
    camera: IntArray,
    batch_size: int,
    instances: int,
    iterations: int,
    generator: np.random.Generator,
    cross_camera: bool = True,
) -> IntArray:
    """Draw batches as :func:`random_multiple_gallery`, but a label with one sample gives it once (quirk Q8).

    As the public sampler does. Batches are cut from a flat stream, so a label may straddle two of them. It matters to
    SpCL, where noise samples are labels of their own, and to streams of one modality with labels made over both;
    where every label has two samples, both functions draw the same.

    Returns
    -------
    int64 array (iterations, batch size)
        The batch size shrinks to what one permutation of the labels gives.
    """
    groups = _members(label, camera, batch_size, instances)
    size = min(batch_size, sum(instances if len(group) > 1 else 1 for group in groups))
    stream = _batches(groups, camera, instances, size, generator, cross_camera, repeat_singletons=False)
    return _take(stream, iterations, size)


def _members(label: IntArray, camera: IntArray, size: int, instances: int) -> list[IntArray]:
    """Return the positions of every label's samples."""
    if not len(label) or len(label) != len(camera):
        raise MethodError(f"a batch needs samples: {len(label)} labels, {len(camera)} cameras given")
    if label.min() < 0:
        raise MethodError("noise samples (label < 0) cannot be drawn; leave them out of the stream")
    if size < 1 or instances < 1:
        raise MethodError(f"a batch of {size} x {instances} is empty; both numbers must be positive")
    order = np.argsort(label, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(label[order])) + 1)


def _take(stream: Iterator[IntArray], iterations: int, size: int) -> IntArray:
    drawn = [next(stream) for _ in range(iterations)]
    return np.array(drawn, dtype=np.int64).reshape(iterations, size)


def _batches(
    groups: list[IntArray],
    camera: IntArray,
    instances: int,
    size: int,
    generator: np.random.Generator,
    cross_camera: bool,
    repeat_singletons: bool,
) -> Iterator[IntArray]:
    """Yield batches forever, permutation after permutation."""
    while True:
        pending: list[IntArray] = []
        waiting = 0
        for i in generator.permutation(len(groups)):
            pending.append(_draw(groups[i], camera, instances, generator, cross_camera, repeat_singletons))
            waiting += len(pending[-1])
            while waiting >= size:
                flat = np.concatenate(pending)
                yield flat[:size]
                pending, waiting = [flat[size:]], waiting - size


def _draw(
    members: IntArray,
    camera: IntArray,
    instances: int,
    generator: np.random.Generator,
    cross_camera: bool,
    repeat_singletons: bool,
) -> IntArray:
    """Draw an anchor and its companions from one label's samples."""
    anchor = members[generator.integers(len(members))]
    others = members[camera[members] != camera[anchor]] if cross_camera else members[:0]
    if not len(others):
        others = members[members != anchor]
    if not len(others):
        return np.full(instances if repeat_singletons else 1, anchor)
    # with replacement already at K - 1 candidates: the published threshold (quirk Q7)
    companions = generator.choice(others, instances - 1, replace=len(others) < instances)
    return np.concatenate(([anchor], companions))


def shared_label_batches(
    first: IntArray,
    second: IntArray,
    labels_per_batch: int,
    instances: int,
    iterations: int,
    generator: np.random.Generator,
) -> IntArray:
    """Draw batches whose two halves show the same labels at the same positions (AGW).

    Every batch has P distinct labels; images are drawn with replacement.

    Parameters
    ----------
    first, second : int64 arrays (m1,), (m2,)
        Labels of the two sides; negative ones are left out.
    labels_per_batch : int
        P; shrinks to the number of labels that both sides have.
    instances : int
        Images of a label and side.
    iterations : int
    generator : numpy Generator

    Returns
    -------
    int64 array (iterations, 2 * P * instances)
        Positions in `first`, then positions in `second`.

    Raises
    ------
    MethodError
        If the sides share no label.
    """
    sides = positions_by_label(first), positions_by_label(second)
    shared = sorted(sides[0].keys() & sides[1].keys())
    if not shared:
        raise MethodError("the two sides share no label, so that no batch can show one on both")
    size = min(labels_per_batch, len(shared))
    drawn = []
    for _ in range(iterations):
        chosen = generator.choice(shared, size, replace=False)
        drawn.append([generator.choice(side[int(k)], instances) for side in sides for k in chosen])
    return np.array(drawn, dtype=np.int64).reshape(iterations, 2 * size * instances)


def positions_by_label(label: IntArray) -> dict[int, IntArray]:
    """Return the positions of every label's samples, negative labels left out."""
    return {int(k): np.flatnonzero(label == k) for k in np.unique(label) if k >= 0}


class Deck:
    """Items drawn without replacement until none is left, then shuffled anew."""

    def __init__(self, items: IntArray, generator: np.random.Generator) -> None:
        self._items, self._generator = items, generator
        self._rest = items[:0]

    def take(self, count: int) -> IntArray:
        """Draw `count` items; they go on over the end of a shuffle into the next."""
        while len(self._rest) < count:
            self._rest = np.concatenate((self._rest, self._generator.permutation(self._items)))
        taken, self._rest = self._rest[:count], self._rest[count:]
        return taken


def paired_batches(
    visible: IntArray,
    infrared: IntArray,
    labels_per_batch: int,
    instances: int,
    iterations: int,
    generator: np.random.Generator,
    *,
    blind: bool,
) -> IntArray:
    """Draw batches of one class at a position of both halves (OTLA).

    Classes come without replacement until exhausted, and so do the images of a class. A blind draw, for
    infrared labels that mean nothing yet, takes visible images with replacement, and infrared ones whatever
    their class, without replacement until exhausted.

    Parameters
    ----------
    visible, infrared : int64 arrays (m1,), (m2,)
        Labels of the two sides; negative ones are left out.
    labels_per_batch : int
        P; shrinks to the number of classes there are to draw from.
    instances, iterations : int
    generator : numpy Generator

    Returns
    -------
    int64 array (iterations, 2 * P * instances)
        Positions in `visible`, then positions in `infrared`.

    Raises
    ------
    MethodError
        If there is no class to draw from.
    """
    seen, unseen = positions_by_label(visible), positions_by_label(infrared)
    classes = [k for k in seen if (len(infrared) if blind else k in unseen)]
    if not classes:
        raise MethodError("no class has images on both sides, so that no batch can be drawn")
    everything = Deck(np.arange(len(infrared)), generator)
    decks = [{k: Deck(side[k], generator) for k in classes if k in side} for side in (seen, unseen)]
    order = Deck(np.array(classes, dtype=np.int64), generator)
    drawn = []
    for _ in range(iterations):
        chosen = [int(k) for k in order.take(min(labels_per_batch, len(classes)))]
        if blind:
            left = [generator.choice(seen[k], instances) for k in chosen]
            right = [everything.take(instances) for _ in chosen]
        else:
            left, right = ([side[k].take(instances) for k in chosen] for side in decks)
        drawn.append(np.concatenate([*left, *right]))
    return np.array(drawn, dtype=np.int64)


def common_label_batches(
    visible: IntArray,
    infrared: IntArray,
    labels_per_batch: int,
    instances: int,
    iterations: int,
    generator: np.random.Generator,
) -> IntArray:
    """Draw batches of labels that the sides have in common, by visible labels (MMM).

    P distinct visible labels; one with fewer than K images on a side is drawn again from all visible labels, so that a
    label may come twice in a batch (quirk Q57). Images are drawn with replacement.

    Parameters
    ----------
    visible, infrared : int64 arrays (m1,), (m2,)
        Labels of the two sides in one numbering; negative ones are left out.
    labels_per_batch : int
        P; where there are fewer visible labels, it shrinks to the number of those with K images on both sides.
    instances, iterations : int
    generator : numpy Generator

    Returns
    -------
    int64 array (iterations, 2 * P * instances)
        Positions in `visible`, then positions in `infrared`; both show the same labels at the same places.

    Raises
    ------
    MethodError
        If no label has K images on both sides.
    """
    sides = positions_by_label(visible), positions_by_label(infrared)
    labels, none = sorted(sides[0]), np.empty(0, dtype=np.int64)
    enough = {k for k in labels if min(len(side.get(k, none)) for side in sides) >= instances}
    if not enough:
        raise MethodError(
            f"no label has {instances} visible and {instances} infrared images, so that no batch can be drawn"
        )
    size = labels_per_batch if len(labels) >= labels_per_batch else len(enough)
    drawn = []
    for _ in range(iterations):
        halves: tuple[list[IntArray], list[IntArray]] = [], []
        for label in generator.choice(labels, size, replace=False):
            while label not in enough:
                label = generator.choice(labels)
            for side, half in zip(sides, halves, strict=True):
                half.append(generator.choice(side[int(label)], instances))
        drawn.append(np.concatenate([*halves[0], *halves[1]]))
    return np.array(drawn, dtype=np.int64).reshape(iterations, 2 * size * instances)
