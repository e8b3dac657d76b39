"""What the other commands do, one file each.

Scoring and clustering of anybody's arrays (`score`, `cluster`, `arrays`), timing of the clustering core beside the
public algorithm (`time`, `reference_core`), pages of methods and data (`pages`, `data_check`), tables of finished runs
(`tables`), the `doctor`, and `verify`, which trains a run again.
"""
