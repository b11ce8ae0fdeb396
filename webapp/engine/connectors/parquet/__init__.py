"""Parquet files in a folder or in an S3-compatible bucket."""
