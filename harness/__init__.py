"""The machine that runs a benchmark: the command line, runs and their files, training, many runs, and the other tools.

It is the only package that knows devices, files of runs and layers of configuration. Nothing here knows a paper or a
data set by name: both come through :mod:`harness.registry`. Inside, `cli` stands on `tools` and `sweep`, they on
`training`, that on `inputs` and `runs`.
"""
