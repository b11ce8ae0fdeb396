"""Speed and memory, measured: ours, the peers and the practical limit side by side in one run."""
