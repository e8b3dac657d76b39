"""What is measured, and on what.

A file for each data set holds its layout, counts, splits, protocols and the plan of its twin
(:class:`Dataset`, :class:`Protocol`); ``metrics`` scores a distance matrix, ``check`` looks a data root over,
``lists``, ``galleries`` and ``files`` are what data sets share, ``synthetic`` renders twins. Nothing here trains,
knows a run, or imports another package of ours; no file but its own knows a data set by name.

To score a matrix by a data set's rules call its protocol's ``score``; :func:`evaluate` takes the rules as arguments.
"""

from protocols.base import (
    DataError,
    Dataset,
    Headline,
    Images,
    LabelledImages,
    Modality,
    Protocol,
    Scores,
    Trial,
)
from protocols.metrics import distances, evaluate

__all__ = [
    "DataError",
    "Dataset",
    "Headline",
    "Images",
    "LabelledImages",
    "Modality",
    "Protocol",
    "Scores",
    "Trial",
    "distances",
    "evaluate",
]
