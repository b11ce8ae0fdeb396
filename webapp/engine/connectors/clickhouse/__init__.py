"""ClickHouse as a destination, over its HTTP interface."""
