"""Delta Lake tables in a folder or an S3-compatible bucket."""
