"""``python -m harness`` is ``reidbench``."""

from harness.cli.app import main

main()
