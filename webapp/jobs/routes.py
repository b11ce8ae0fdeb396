"""From where to where: sources and destinations of tasks in a few words, without secrets."""

from collections.abc import Mapping, Sequence
from typing import Any

LONGEST = 255
NOWHERE = "nowhere yet"
ELSEWHERE = ("elsewhere", "reported here")  # a job that somebody else runs


def name_source(extractor: Mapping[str, Any]) -> str:
    """The last part of a path or address, without its query."""
    place = str(extractor.get("path") or extractor.get("url") or extractor.get("type") or "source")
    return place.split("?", 1)[0].rstrip("/").rsplit("/", 1)[-1][:LONGEST] or "source"


def name_destination(loader: Mapping[str, Any]) -> str:
    """The database file and its table."""
    file = str(loader.get("db_path") or "warehouse").rsplit("/", 1)[-1]
    return f"{file}/{loader.get('table_name', '')}".rstrip("/")[:LONGEST]


def route_of(tasks: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> tuple[str, str]:
    """From the first task's source to the last task's destination."""
    if not tasks:
        return NOWHERE, NOWHERE
    return name_source(tasks[0][0]), name_destination(tasks[-1][1])
