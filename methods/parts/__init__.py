"""What several papers share: networks, heads, losses, memories, samplers, views, settings, and the steps of an epoch.

Everything here is a function with arguments and a result, a value, or a small class that keeps its own state; none
knows which paper uses it. ``two_stream`` has the one class that papers may inherit from beside the contract. What only
one paper needs stands in that paper's file; what works on plain arrays is in ``clustering`` and ``association``.
"""
