"""The machine that runs a benchmark."""
