"""The command line: ``reidbench``, its commands, and how errors end it.

A command is a thin function whose arguments are its options; what it needs (torch above all) is imported when it runs,
so that help and completion answer at once. `app` lists all commands in the groups that ``--help`` shows, and each
``..._commands`` file holds one group. Nothing here computes anything.
"""
