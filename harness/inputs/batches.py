"""The batches of an epoch: which samples, in which views, augmented from seeds of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from harness.inputs.images import ImageStore
from harness.runs.seeds import numpy_generator, seed_for
from methods.base import INFRARED, VISIBLE, Part, Stream
from methods.parts.samplers import gallery_with_singletons, random_multiple_gallery
from methods.parts.views import RECIPES


class EpochBatches(Dataset[dict[str, Part]]):
    """The batches of one epoch, each made from its own seeds, whatever worker makes it.

    Item i holds, for every stream, the part that iteration i trains on.
    """

    def __init__(
        self,
        store: ImageStore,
        modality: npt.NDArray[np.int64],
        camera: npt.NDArray[np.int64],
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

    def _draw(self, stream: Stream, iterations: int) -> npt.NDArray[np.int64]:
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

    def __getitem__(self, iteration: int) -> dict[str, Part]:
        return {name: self._part(stream, iteration) for name, stream in self._streams.items()}

    def _part(self, stream: Stream, iteration: int) -> Part:
        position = self.positions[stream.name][iteration]
        rows, label = stream.sample_index.numpy()[position], stream.pseudo_label.numpy()[position]
        views: Mapping[int, tuple[str, ...]] = {
            VISIBLE: stream.visible_views,
            INFRARED: stream.infrared_views,
        }
        # ordered by view, then by sample; a modality with fewer views drops out of the later ones
        chosen = [
            (i, view, views[int(self._modality[row])][view])
            for view in range(max(len(v) for v in views.values()))
            for i, row in enumerate(rows)
            if view < len(views[int(self._modality[row])])
        ]
        pixels = self._store[rows]
        images = [
            RECIPES[recipe](
                pixels[i], np.random.Generator(np.random.PCG64(self._seed(stream.name, iteration, view, i)))
            )
            for i, view, recipe in chosen
        ]
        at = np.array([i for i, _, _ in chosen])
        return Part(
            images=torch.stack(images),
            modality=torch.from_numpy(self._modality[rows[at]]),
            camera=torch.from_numpy(self._camera[rows[at]]),
            pseudo_label=torch.from_numpy(label[at]),
            sample_index=torch.from_numpy(rows[at]),
            view=torch.tensor([view for _, view, _ in chosen]),
            label_space=stream.label_space,
        )

    def _seed(self, stream: str, iteration: int, view: int, position: int) -> int:
        return seed_for(*self._seeds, "augment", stream, iteration, view, position)
