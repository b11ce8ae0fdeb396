"""Sync jobs (contract 002): a source, a destination, and the streams that move between them."""
