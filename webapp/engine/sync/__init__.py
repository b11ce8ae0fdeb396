"""Keeps copies of streams: full refreshes, increments and upserts, with proof that every row arrived."""
