"""Jobs that somebody else runs: they are made by name, and reported."""
