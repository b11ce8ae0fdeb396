"""An instance in one file, and back: `flask backup`, `flask restore`."""
