"""What change data capture needs of a MySQL server."""

from collections.abc import Callable, Sequence
from typing import Any

_VARIABLES = """SHOW GLOBAL VARIABLES WHERE Variable_name IN ('log_bin', 'binlog_format', 'binlog_row_image')"""
_RIGHTS = (("REPLICATION SLAVE",), ("REPLICATION CLIENT", "BINLOG MONITOR"))


def missing(ask: Callable[[str], Sequence[Any]]) -> list[str]:
    """What the server lacks, each with the setting that would help; empty when it is ready. `ask` runs a statement."""
    found = {name: str(value).upper() for name, value in ask(_VARIABLES)}
    lacks = [
        f"{name} is {found[name]} and must be {wanted}"
        # Servers that know no other value have no such variable.
        for name, wanted in (("log_bin", "ON"), ("binlog_format", "ROW"), ("binlog_row_image", "FULL"))
        if name in found and found[name] != wanted
    ]
    grants = [str(row[0]).upper() for row in ask("SHOW GRANTS")]
    whole = [grant.partition(" ON *.* ")[0] for grant in grants if " ON *.* " in grant]
    for names in _RIGHTS:
        if not any(right in grant for grant in whole for right in ("ALL PRIVILEGES", *names)):
            lacks.append(f"the user lacks {names[0]} (GRANT {names[0]} ON *.*)")
    return lacks
