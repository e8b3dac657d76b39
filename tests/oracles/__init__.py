"""Methods beside the public code of their papers: recorded inputs in, its numbers out.

`compare_*.py` hold the comparisons, `cases.py` what they share, `mutations.py` shows that they can fail.
"""
