"""What this package raises where a person can mend something."""

from __future__ import annotations


class ResultsError(ValueError):
    """Rows, run directories or tables are unusable; the message says what, where, and how to fix it."""
