"""Errors that a person can mend; the command line shows their message and exits with their code."""


class HarnessError(ValueError):
    """What is wrong, where, and how to fix it; exit code 2."""


class RunHeldError(HarnessError):
    """Another process holds the run; exit code 3."""
