"""Iceberg tables in a SQL (JDBC), REST or Glue catalog."""
