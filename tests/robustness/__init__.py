"""What no usual test meets: disks that fail, processes killed at any moment, files of any content, two at once.

Each has a short seeded part that the suite runs, and a long one: ``python -m tests.robustness.faults``, ``... .soak``
and ``... .fuzz`` (in the Makefile: ``make faults``, ``make soak`` and ``make fuzz``).
"""
