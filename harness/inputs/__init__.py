"""From image files to batches: images decoded once a machine, where they are held, and the drawn views of an epoch.

Paths end here; what goes on to a method is tensors and row numbers. The recipes of views and the samplers themselves
are in `methods.parts`.
"""
