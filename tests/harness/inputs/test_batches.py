"""What the batches of an epoch hold: labels with one image once, unless a stream asks to repeat them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from harness.inputs.batches import EpochBatches
from methods.base import Stream
from tests.harness.inputs.cases import store_of


def rows_of(label: list[int], *, repeat: bool) -> np.ndarray:
    """Draw the rows of ten batches of 2 x 4 images, (10, 8)."""
    n = len(label)
    stream = Stream("s", "s", torch.arange(n), torch.tensor(label), 2, 4, repeat_singletons=repeat)
    store = store_of(torch.full((n, 3, 8, 4), 128, dtype=torch.uint8))
    batches = EpochBatches(
        store, np.zeros(n, np.int64), np.ones(n, np.int64), [stream], 10, (0, "b", 0, "train")
    )
    return np.array([batches[i]["s"].rows for i in range(10)])


@pytest.mark.parametrize("repeat", [False, True])
def test_a_label_with_one_image(repeat: bool) -> None:
    rows = rows_of([0, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2], repeat=repeat)
    assert rows.shape == (10, 8)
    assert (rows == 0).any()
    assert ((rows == 0).sum(1) == 4).any() == repeat
    if not repeat:
        assert ((rows == 0).sum(1) <= 1).all()


def test_labels_with_more_images_are_drawn_the_same() -> None:
    label = [0, 0, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2]
    assert (rows_of(label, repeat=True) == rows_of(label, repeat=False)).all()


def test_the_batch_shrinks_to_the_labels_there_are() -> None:
    assert rows_of([0, 0, 0], repeat=False).shape == (10, 4)
