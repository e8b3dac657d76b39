"""What a run is: its specification, its plan, its directory and files; nothing here trains."""
