"""The error that a person sees when a method or the clustering core is given something it cannot use."""


class MethodError(ValueError):
    """A configuration or input is unusable; the message says what is wrong and how to fix it."""
