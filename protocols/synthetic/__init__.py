"""Synthetic twins of the data sets: rendering of people, and folders in the real layouts."""
