"""From image files to batches: the store of resized images, and the draws and augmented views of an epoch.

Paths end here; what goes on to a method is tensors and row numbers. The recipes of views and the samplers themselves
are in `methods.parts`.
"""
