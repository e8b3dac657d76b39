"""Many runs: every method one after the other."""
