"""Views of images for training: recipes, what is drawn for them, and the pixels that follow from it.

What is drawn comes first, as small arrays that are the same on every device (:func:`draw_views`); then the pixels of a
whole batch are changed (:func:`apply_views`), in main memory by compiled loops, elsewhere by torch operations, to the
same bits. Nothing here draws from a generator of its own, knows a data set, or reads a file.
"""

from methods.parts.views.pixels import apply_views, normalise
from methods.parts.views.recipes import RECIPES, Draws, Erasing, Recipe, concatenated, draw_views, pad_width

__all__ = [
    "RECIPES",
    "Draws",
    "Erasing",
    "Recipe",
    "apply_views",
    "concatenated",
    "draw_views",
    "normalise",
    "pad_width",
]
