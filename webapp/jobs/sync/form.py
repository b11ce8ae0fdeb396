"""The form of a sync job: from where, to where, which streams, and when."""

import uuid
from dataclasses import dataclass, field
from typing import Any

from flask import request

from webapp.accounts.access import Actor
from webapp.connections import discovery
from webapp.connections import operations as connections
from webapp.connections.models import Connection, ConnectionRole
from webapp.engine.connectors.base import Stream
from webapp.engine.connectors.sums import adds_up
from webapp.engine.sync.plan import Counting
from webapp.errors import Conflict, Invalid, NotFound
from webapp.jobs.forms import PolicyForm
from webapp.jobs.operations import check_schedule
from webapp.jobs.schedules import MANUAL
from webapp.jobs.sync.catalog import plain_name, read_catalog
from webapp.jobs.sync.choices import (
    NAMESPACE,
    REPLACE,
    UPSERT,
    Choices,
    How,
    Place,
    choices_of,
    database_of,
    document_for,
    filled,
    in_mode,
    pack,
    unpack,
)
from webapp.jobs.sync.fields import (
    OPERATORS,
    PAGE,
    TRANSFORMS,
    Fields,
    apply_page,
    opened_on,
    places_on,
    problems_of,
    with_condition,
    with_partition,
)
from webapp.jobs.sync.models import SyncDefinition
from webapp.jobs.sync.operations import SyncDraft

LONGEST_NAME = 255


@dataclass(frozen=True)
class Row:
    """A stream on the page of streams: what is known of it, and how it shall be moved (None: not at all)."""

    at: int
    stream: Stream
    how: How | None
    database: str
    is_opened: bool = False

    @property
    def shown(self) -> How:
        """What its fields show."""
        return self.how or How()

    @property
    def columns(self) -> frozenset[str]:
        """The columns that are copied."""
        return frozenset(self.shown.columns or (column.name for column in self.stream.columns))

    @property
    def problems(self) -> dict[str, str]:
        """What is wrong with it by itself, by field."""
        return problems_of(self.shown)

    @property
    def told(self) -> list[str]:
        """Words for the settings that are not shown unless it is opened."""
        how = self.shown
        words = [f"{len(self.columns)} of {len(self.stream.columns)} columns"] if how.columns else []
        words += [f"in {how.database}"] if how.database else []
        words += [f"laid out by {how.partitions}"] if how.partitions else []
        words += [f"sums of {', '.join(how.sums)}"] if how.sums else []
        words += [] if how.count == Counting.CHEAP else [f"counted {how.count}"]
        return words if how.normalization else [*words, "not normalized"]

    @property
    def addable(self) -> list[str]:
        """The columns whose sums can be compared."""
        return [column.name for column in self.stream.columns if adds_up(column.type)]


@dataclass
class SyncForm:
    """What stands in the form; `database` is where the streams go that do not say otherwise."""

    name: str = ""
    source: str = ""
    destination: str = ""
    database: str = ""
    schedule: str = MANUAL
    is_enabled: bool = True
    choices: Choices = field(default_factory=dict)
    q: str = ""
    namespace: str = ""
    page: int = 1
    opened: Place | None = None
    errors: dict[str, str] = field(default_factory=dict)

    @property
    def usual_database(self) -> str:
        """Where streams go when nobody says anything."""
        return f"{plain_name(self.name)}:{NAMESPACE}"

    @property
    def packed(self) -> str:
        """The choices as the form's hidden field carries them."""
        return pack(self.choices)

    @property
    def source_id(self) -> uuid.UUID | None:
        """The chosen source."""
        return _id(self.source)

    def blame(self, error: Invalid | Conflict) -> None:
        """Put what is wrong beside its field."""
        field_name = error.field if isinstance(error, Invalid) else error.details.get("field")
        names = {"frequency": "schedule", "streams_config": "streams", "version": "destination"}
        message = error.message.removeprefix("streams_config: ").removeprefix("version: ")
        self.errors[names.get(field_name or "", field_name or "name")] = message


def _id(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


def form_of(definition: SyncDefinition | None) -> SyncForm:
    """The form of a job as it is, or of a new one with what the address says."""
    if definition is None:
        asked = request.args
        return SyncForm(source=asked.get("source", ""), destination=asked.get("destination", ""))
    job, catalog = definition.job, read_catalog(definition.streams)
    return SyncForm(
        name=job.name,
        source=str(definition.source_id),
        destination=str(definition.destination_id),
        database=database_of(catalog),
        schedule=job.schedule,
        is_enabled=job.is_enabled,
        choices=choices_of(catalog),
    )


def read_form(fields: Fields) -> SyncForm:
    """What was sent. Choices belong to the source that they were made from."""
    form = SyncForm(
        name=fields.get("name", "").strip()[: LONGEST_NAME + 1],
        source=fields.get("source", ""),
        destination=fields.get("destination", ""),
        database=fields.get("database", "").strip()[:LONGEST_NAME],
        schedule=fields.get("schedule", "").strip() or MANUAL,
        is_enabled="is_enabled" in fields,
        q=fields.get("q", "").strip()[:200],
        namespace=fields.get("namespace", ""),
    )
    page = fields.get("page", "1")
    form.page = int(page) if page.isdecimal() and len(page) < 6 else 1
    try:
        if form.source == fields.get("source_shown", form.source):
            form.choices = apply_page(unpack(fields.get("choices", "")), fields)
            form.opened = opened_on(fields)
        else:
            form.namespace = ""
        if (form.q, form.namespace) != (fields.get("q_shown", ""), fields.get("namespace_shown", "")):
            form.page, form.opened = 1, None
    except Invalid as error:
        form.blame(error)
    return form


# --- its buttons ------------------------------------------------------------------------------------------------------


def rearrange(actor: Actor, form: SyncForm, fields: Fields) -> None:
    """Do what a button of the form says: turn a page, choose in bulk, open a stream, help with its text, discover."""
    word, _, rest = fields.get("do", "").partition(".")
    if word == "page" and rest.isdecimal():
        form.page, form.opened = max(1, min(int(rest), 100_000)), None
    elif word in ("open", "close", "condition", "partition"):
        _change_row(form, word, rest, fields)
    elif form.source_id and word in ("all", "none", "mode"):
        _choose(actor, form, form.source_id, word, fields.get("bulk_mode", ""))
    elif form.source_id and word == "discover":
        try:
            discovery.start_discovery(actor, form.source_id, pattern=fields.get("pattern", "").strip()[:200])
        except (Invalid, NotFound) as error:
            form.errors["streams"] = error.message


def _change_row(form: SyncForm, word: str, number: str, fields: Fields) -> None:
    place = next((place for at, place in places_on(fields) if str(at) == number), None)
    if place is None:
        return
    form.opened = None if word == "close" else place
    if word in ("condition", "partition"):
        change = with_condition if word == "condition" else with_partition
        form.choices[place] = change(form.choices.get(place, How()), f"s{number}.", fields)


def _choose(actor: Actor, form: SyncForm, source_id: uuid.UUID, word: str, mode: str) -> None:
    """Choose all that the search fits, or none of them, or move those that are chosen in another way."""
    narrowed: Any = {"search": form.q, "namespace": form.namespace or None}
    if word == "mode" and mode != REPLACE:
        cursors = discovery.cursors_of(actor, source_id, keyed=mode == UPSERT, **narrowed)
        form.choices = in_mode(form.choices, mode, cursors)
        return
    found = discovery.places_of(actor, source_id, **narrowed)
    if word == "all":
        form.choices = dict.fromkeys(found, How()) | form.choices
    elif word == "none":
        gone = set(found) if form.q or form.namespace else set(form.choices)
        form.choices = {place: how for place, how in form.choices.items() if place not in gone}
    else:
        form.choices = in_mode(form.choices, mode, dict.fromkeys(found, ""))


# --- what it means ----------------------------------------------------------------------------------------------------


def draft_of(actor: Actor, form: SyncForm, policy: PolicyForm, before: Any) -> SyncDraft | None:
    """What the operations take; None when something is wrong, which the form then says."""
    is_sound = policy.validate()
    form.errors |= _mistakes(form, policy)
    if form.source_id and _connection(actor, form.source_id, ConnectionRole.SOURCE) is None:
        form.errors["source"] = "Source not found"  # before what it holds is looked at
    if form.errors or not is_sound or form.source_id is None:
        return None
    database = form.database or (database_of(read_catalog(before)) if before else "") or form.usual_database
    try:
        known = discovery.streams_of(form.source_id, form.choices.keys())
        streams = document_for(form.choices, known, database=database, before=before)
    except Invalid as error:
        form.blame(error)
        return None
    return SyncDraft(
        name=form.name,
        source_id=form.source_id,
        destination_id=_id(form.destination),
        frequency=form.schedule,
        streams=streams,
        is_enabled=form.is_enabled,
        policy=policy.policy(),
    )


def _mistakes(form: SyncForm, policy: PolicyForm) -> dict[str, str]:
    found = {}
    if not form.name:
        found["name"] = "A sync needs a name."
    elif len(form.name) > LONGEST_NAME:
        found["name"] = f"At most {LONGEST_NAME} characters."
    if form.source_id is None:
        found["source"] = "Choose where the data comes from."
    if _id(form.destination) is None:
        found["destination"] = "Choose where the copies are kept."
    if form.source_id and not form.choices and "streams" not in form.errors:
        found["streams"] = "Choose at least one stream."
    try:
        check_schedule(form.schedule, (policy.timezone.data or "UTC").strip())
    except Invalid as error:
        found[error.field or "schedule"] = error.message
    return found


# --- what is shown ----------------------------------------------------------------------------------------------------


def streams_part(actor: Actor, form: SyncForm) -> dict[str, Any]:
    """One page of the source's streams with what is chosen, and how the discovery stands."""
    source = _connection(actor, form.source_id, ConnectionRole.SOURCE)
    if source is None:
        return {"sync": form, "connection": None, "rows": [], "discovery": None, "total": 0, "pages": 1}
    progress = discovery.discovery_of(actor, source.id)  # first: what a discovery that is done has found is all there
    found = discovery.page_of_streams(
        actor,
        source.id,
        search=form.q,
        namespace=form.namespace or None,
        offset=(form.page - 1) * PAGE,
        limit=PAGE,
    )
    return {
        "sync": form,
        "connection": source,
        "rows": [_row(form, at, one) for at, one in enumerate(found.streams or _only_chosen(form))],
        "discovery": progress,
        "namespaces": discovery.namespaces_of(actor, source.id),
        "total": found.total,
        "pages": max(1, -(-found.total // PAGE)),
        "operators": OPERATORS,
        "transforms": TRANSFORMS,
    }


def _row(form: SyncForm, at: int, stream: Stream) -> Row:
    place = (stream.namespace, stream.name)
    database = plain_name(filled(form.database or form.usual_database, stream.namespace))
    return Row(at, stream, form.choices.get(place), database, place == form.opened)


def _only_chosen(form: SyncForm) -> list[Stream]:
    """Streams of a job whose source has not been discovered yet: those that it moves."""
    if form.q or form.namespace or form.page > 1:
        return []
    return [Stream(namespace, name, ()) for namespace, name in list(form.choices)[:PAGE]]


def ends(actor: Actor) -> dict[str, list[Connection]]:
    """The sources and destinations to choose from."""
    return {
        "sources": connections.list_connections(actor, ConnectionRole.SOURCE),
        "destinations": connections.list_connections(actor, ConnectionRole.DESTINATION),
    }


def _connection(actor: Actor, connection_id: uuid.UUID | None, role: ConnectionRole) -> Connection | None:
    try:
        return connections.get_connection(actor, connection_id, role=role) if connection_id else None
    except NotFound:
        return None
