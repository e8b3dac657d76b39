"""Synthetic twins of data sets: rendering of people, and folders in the layout of the real ones.

A data set says in its own file what its twin holds (a :class:`~protocols.synthetic.plan.Twin`); ``twin`` renders and
writes it, ``source`` renders other people to train source weights on.
"""
