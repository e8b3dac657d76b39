"""Tests of code that runs on a device: against the CPU's results, on CUDA and on a device without hardware.

``pytest tests/devices`` runs them on CUDA, where there is one. ``pytest tests/devices --pretend`` runs them on the
device of :mod:`tests.pretend`, in a process that does nothing else; ``tests/test_pretend.py`` starts that one.
"""
