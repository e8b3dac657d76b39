"""What the other commands do: score, cluster, time, show, verify, tables."""
