"""The batches of an epoch: which samples, in which views, and what is drawn for them; pixels come last."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from harness.inputs.store import ImageStore
from harness.inputs.workers import ahead
from harness.runs.seeds import numpy_generator
from methods.base import INFRARED, VISIBLE, Drawn, Part, Stream, timed
from methods.parts.host import to_device
from methods.parts.samplers import gallery_with_singletons, random_multiple_gallery
from methods.parts.views import RECIPES, Draws, apply_views, concatenated, draw_views

Longs = npt.NDArray[np.int64]


@dataclass(frozen=True)
class DrawnPart:
    """What one stream contributes to an iteration, before any pixel is looked at: b images.

    Attributes
    ----------
    rows, modality, camera, pseudo_label, view : int64 arrays (b,)
        As in :class:`~methods.values.Part`; `rows` are those of the training set.
    draws : Draws
        Of the b images.
    label_space : str
    pixels : uint8 tensor (b, 3, h, w), optional
        Images that another process has read already.
    """

    rows: Longs
    modality: Longs
    camera: Longs
    pseudo_label: Longs
    view: Longs
    draws: Draws
    label_space: str
    pixels: Tensor | None = None

    def part(self, store: ImageStore, device: torch.device) -> Part:
        """Change the pixels on a device; labels, rows and draws alone cross the bus where the images are there."""
        with timed("transfer"):
            pixels = store.take(self.rows, device) if self.pixels is None else self.pixels.to(device)
            labels = np.stack([self.modality, self.pseudo_label, self.rows, self.view, self.camera])
            here = torch.from_numpy(labels)
            modality, pseudo_label, sample_index, view, camera = to_device(here, device).unbind()
        with timed("augment"):
            images = apply_views(pixels, self.draws)
        return Part(
            images=images,
            modality=modality,
            camera=camera,
            pseudo_label=pseudo_label,
            sample_index=sample_index,
            view=view,
            label_space=self.label_space,
            on_host=Drawn(*here[:4].unbind()),
        )


class EpochBatches(Dataset[dict[str, DrawnPart]]):
    """The batches of one epoch; what is drawn for an iteration comes from generators of its own.

    Item i holds, for every stream, what is drawn for iteration i.
    """

    def __init__(
        self,
        store: ImageStore,
        modality: Longs,
        camera: Longs,
        streams: Sequence[Stream],
        iterations: int,
        seeds: tuple[int, str, int, str],
    ) -> None:
        self._store, self._modality, self._camera = store, modality, camera
        self._streams = {stream.name: stream for stream in streams}
        self._seeds = seeds
        self.positions = {stream.name: self._draw(stream, iterations) for stream in streams}
        self._iterations = iterations

    def __len__(self) -> int:
        return self._iterations

    def _draw(self, stream: Stream, iterations: int) -> Longs:
        """Positions in the stream's own arrays, (iterations, batch)."""
        if stream.batch_indices is not None:
            return stream.batch_indices.numpy()
        repeat = stream.repeat_singletons
        draw = random_multiple_gallery if repeat else gallery_with_singletons
        return draw(
            stream.pseudo_label.numpy(),
            self._camera[stream.sample_index.numpy()],
            stream.num_ids if repeat else stream.num_ids * stream.num_instances,
            stream.num_instances,
            iterations,
            numpy_generator(*self._seeds, "sampler", stream.name),
            cross_camera=stream.cross_camera,
        )

    def __getitem__(self, iteration: int) -> dict[str, DrawnPart]:
        with timed("draw"):
            return {name: self._drawn(stream, iteration) for name, stream in self._streams.items()}

    def _drawn(self, stream: Stream, iteration: int) -> DrawnPart:
        position = self.positions[stream.name][iteration]
        rows = stream.sample_index.numpy()[position]
        kind = self._modality[rows]
        generator = numpy_generator(*self._seeds, "augment", stream.name, iteration)
        at, view, draws = views_of(stream, kind, self._store.size, generator)
        return DrawnPart(
            rows=rows[at],
            modality=kind[at],
            camera=self._camera[rows[at]],
            pseudo_label=stream.pseudo_label.numpy()[position][at],
            view=view,
            draws=draws,
            label_space=stream.label_space,
        )

    def parts(self, workers: int, device: torch.device) -> Iterator[dict[str, Part]]:
        """Yield the parts of every iteration on a device.

        Parameters
        ----------
        workers : int
            Processes that prepare batches beforehand, with their images unless a device holds these.
        device : torch.device
        """
        if workers and not self._store.on_device:
            prepared = ahead(WithPixels(self, self._store), workers)
        else:
            prepared = (self[i] for i in range(len(self)))
        for drawn in prepared:
            yield {name: part.part(self._store, device) for name, part in drawn.items()}


class WithPixels(Dataset[dict[str, DrawnPart]]):
    """The batches of an epoch with the images that they need, for processes that read ahead."""

    def __init__(self, batches: EpochBatches, store: ImageStore) -> None:
        self._batches, self._store = batches, store

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, iteration: int) -> dict[str, DrawnPart]:
        host = torch.device("cpu")
        return {
            name: replace(drawn, pixels=self._store.take(drawn.rows, host))
            for name, drawn in self._batches[iteration].items()
        }


def views_of(
    stream: Stream, modality: Longs, size: tuple[int, int], generator: np.random.Generator
) -> tuple[Longs, Longs, Draws]:
    """Draw the views of a batch: which sample each image is of, which view it is, and its draws.

    Ordered by view, then by sample; a modality with fewer views drops out of the later ones.
    """
    recipes = {VISIBLE: stream.visible_views, INFRARED: stream.infrared_views}
    sample, number, drawn = [], [], []
    for view in range(max(map(len, recipes.values()))):
        members, parts = [], []
        for kind, names in recipes.items():
            if view < len(names):
                members.append(np.flatnonzero(modality == kind))
                parts.append(draw_views(RECIPES[names[view]], len(members[-1]), size, generator))
        at = np.concatenate(members)
        order = np.argsort(at)
        sample.append(at[order])
        number.append(np.full(len(at), view))
        drawn.append(concatenated(parts).of(order))
    return np.concatenate(sample), np.concatenate(number), concatenated(drawn)
