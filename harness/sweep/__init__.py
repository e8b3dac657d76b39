"""Many runs: the runs of one method, or of every registered one, in turn.

A run directory is the unit of distribution: its identity, lock and last epoch make it safe to start the same runs
again. What a single run does is in `harness.training`.
"""
