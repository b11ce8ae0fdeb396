"""Snowflake as a destination: files to a stage, COPY, one transaction."""
