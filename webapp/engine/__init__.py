"""Moves data from a source into a table; knows neither Flask nor our tables.

Nothing is imported here on purpose: ``webapp.engine.specs`` and ``webapp.engine.errors`` load without DuckDB and
PyArrow, so that a web process can validate a task without carrying either.
"""
