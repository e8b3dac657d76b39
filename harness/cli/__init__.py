"""The command line: one thin function a command; what a command needs is imported when it runs."""
