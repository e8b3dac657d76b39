"""``python -m harness`` is ``reidbench``."""

from harness.cli import main

main()
