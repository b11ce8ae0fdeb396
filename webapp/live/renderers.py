"""What the rooms show of an event in open pages: a renderer turns events into HTML, once for all who look.

A topic is what a page follows: `board`, `run:<id>`, `rocket:<id>`, ... A fragment goes to every viewer of its topic in
the event's project, so it holds nothing that differs between viewers: no form token, no button for some roles only.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from webapp.events import Event

TopicsOf = Callable[[Event], Iterable[str]]
Render = Callable[[list[Event]], str]
GroupBy = Callable[[Event], object]


def by_subject(event: Event) -> object:
    """What an event is about."""
    return event.subject_id


@dataclass(frozen=True)
class Renderer:
    """For events whose kind begins with `kind_prefix`: the topics that they concern, and their HTML.

    `render` gets all events of one group (default: of one subject) since it was last called, oldest first, and returns
    HTML whose top-level elements carry an `id` (see docs/live-feed.md), or an empty text for nothing to show. All
    events of a group concern the same topics in the same project.
    """

    kind_prefix: str
    topics_of: TopicsOf
    render: Render
    group_by: GroupBy = by_subject


@dataclass
class Renderers:
    """All renderers of an application, in the order in which they were registered."""

    known: list[Renderer] = field(default_factory=list)

    def register(
        self, kind_prefix: str, topics_of: TopicsOf, render: Render, *, group_by: GroupBy = by_subject
    ) -> None:
        """Have `render` called for events of these kinds when somebody follows one of the topics."""
        self.known.append(Renderer(kind_prefix, topics_of, render, group_by))

    def for_kind(self, kind: str) -> Iterator[Renderer]:
        """The renderers of an event of this kind."""
        return (renderer for renderer in self.known if kind.startswith(renderer.kind_prefix))
