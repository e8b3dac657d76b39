"""Numbers that both ways to change pixels share."""

from __future__ import annotations

import numpy as np

MEAN = np.array((0.485, 0.456, 0.406))
STD = np.array((0.229, 0.224, 0.225))
SCALE = (1 / (255 * STD)).astype(np.float32)
OFFSET = (-MEAN / STD).astype(np.float32)
"""A level of 0 to 255 times SCALE plus OFFSET is what scaling to [0, 1] and normalising by ImageNet's mean and
standard deviation give."""
LUMINANCE = (0.2989, 0.5870, 0.1140)
"""Weights of red, green and blue in a grey level."""
PILLOW = (19595, 38470, 7471)
"""Pillow's weights, of 65536."""
