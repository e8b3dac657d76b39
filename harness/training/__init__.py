"""How a run is trained: from a task to the files of a finished run.

`execute` brings a task to its end: `setup` prepares all that never changes, `loop` trains epoch by epoch on the
`engine`, `state` keeps what the next process needs, and `recorder` writes what results are made of. `evaluation`
scores, `diagnostics` compares pseudo-labels with identities that no method sees. Methods, samplers and losses are in
`methods`; rules of scoring in `protocols`.
"""
