"""The form of a job: its own fields here, its tasks in `task_form`."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from flask_wtf import FlaskForm
from wtforms import BooleanField, FloatField, IntegerField, SelectField, StringField, TextAreaField, validators
from wtforms.fields.choices import SelectChoice

from webapp.errors import Invalid
from webapp.jobs import operations as jobs
from webapp.jobs.models import ExecutorChoice, Job, Missed, Overlap
from webapp.jobs.operations import LIMITS, MAXIMUM_DESCRIPTION, JobDraft, TaskDraft
from webapp.jobs.task_form import TaskDraftForm, name_errors

OVERLAPS = {
    Overlap.QUEUE: "wait for the one under way",
    Overlap.SKIP: "leave the new one out",
    Overlap.REPLACE: "stop the one under way",
}
MISSED = {
    Missed.ONE: "make up for them with one run",
    Missed.SKIP: "leave them out",
    Missed.ALL: "make up for each",
}
EXECUTORS = {
    ExecutorChoice.DEFAULT: "whoever does it usually here",
    ExecutorChoice.LOCAL: "the workers of this instance",
    ExecutorChoice.AIRFLOW: "Apache Airflow",
}


def _within(name: str) -> validators.NumberRange:
    low, high = LIMITS[name]
    return validators.NumberRange(low, high, f"Between {low:g} and {high:g}.")


class SecondsField(FloatField):  # type: ignore[misc]
    """A length of time in seconds, shown without needless decimals; what was sent is shown as it was sent."""

    def _value(self) -> str:
        text: str = super()._value()
        return text if self.raw_data else text.removesuffix(".0")


class PolicyForm(FlaskForm):  # type: ignore[misc]
    """What jobs of every kind have: their time zone, and how they behave when something goes wrong."""

    timezone = StringField("Time zone", default="UTC", description="Such as UTC or Europe/Berlin.")
    overlap = SelectField(
        "When a run is due while another is under way",
        choices=[SelectChoice(key.value, word) for key, word in OVERLAPS.items()],
        default=Overlap.QUEUE.value,
    )
    missed = SelectField(
        "Starts that were missed",
        choices=[SelectChoice(key.value, word) for key, word in MISSED.items()],
        default=Missed.ONE.value,
        description="Because no worker was alive.",
    )
    concurrency_limit = IntegerField("Runs at once", [_within("concurrency_limit")], default=1)
    max_attempts = IntegerField(
        "Attempts",
        [_within("max_attempts")],
        default=3,
        description="How often a run is tried in all; only what may go away by itself is tried again.",
    )
    retry_delay_seconds = SecondsField(
        "Wait before the second attempt",
        [_within("retry_delay_seconds")],
        default=5.0,
        description="Seconds; doubled before each further one.",
    )
    timeout_seconds = SecondsField(
        "Longest run", [_within("timeout_seconds")], default=21600.0, description="Seconds; then it is stopped."
    )
    no_progress_seconds = SecondsField(
        "Longest silence",
        [_within("no_progress_seconds")],
        default=900.0,
        description="Seconds without progress or a log line; then it is stopped.",
    )

    executor = SelectField(
        "Who executes its runs",
        choices=[SelectChoice(key.value, word) for key, word in EXECUTORS.items()],
        default=ExecutorChoice.DEFAULT.value,
    )

    def policy(self) -> JobDraft:
        """These settings as the operations take them."""
        return JobDraft(
            timezone=(self.timezone.data or "UTC").strip(),
            overlap=Overlap(self.overlap.data),
            missed=Missed(self.missed.data),
            concurrency_limit=self.concurrency_limit.data,
            max_attempts=self.max_attempts.data,
            retry_delay_seconds=self.retry_delay_seconds.data,
            timeout_seconds=self.timeout_seconds.data,
            no_progress_seconds=self.no_progress_seconds.data,
            executor=ExecutorChoice(self.executor.data),
        )

    def show(self, job: Job | None) -> None:
        """Choices that WTForms cannot take from the job itself."""
        if job is not None and not self.is_submitted():
            self.overlap.data, self.missed.data = job.overlap.value, job.missed.value
            self.executor.data = job.executor.value


class JobForm(PolicyForm):
    """What a job is called, when it starts, and how it behaves when something goes wrong."""

    name = StringField("Name", [validators.DataRequired("A job needs a name."), validators.Length(max=255)])
    description = TextAreaField("Description", [validators.Length(max=MAXIMUM_DESCRIPTION)])
    schedule = StringField(
        "Schedule",
        default="@manual",
        description="@manual, @hourly, @daily, @weekly, @monthly, or cron: minute hour day month weekday; with six "
        "fields the first one is the second.",
    )
    is_enabled = BooleanField("Switched on", default=True, description="A job that is off starts only by hand.")

    def draft(self, tasks: tuple[TaskDraft, ...]) -> JobDraft:
        """What the operations take."""
        return replace(
            self.policy(),
            name=self.name.data,
            description=self.description.data or "",
            schedule=self.schedule.data or "@manual",
            is_enabled=self.is_enabled.data,
            tasks=tasks,
        )


def form_of(job: Job | None) -> JobForm:
    """The form with what was sent, else with the job as it is, else with the defaults."""
    form = JobForm(obj=job)
    form.show(job)
    return form


def find_mistakes(form: JobForm, tasks: list[TaskDraftForm], drafts: tuple[TaskDraft, ...]) -> dict[str, list[str]]:
    """What is wrong with the tasks, by field name; the form's own fields get their errors themselves."""
    form.validate()
    _check_schedule(form)
    if not drafts:
        return {"tasks": ["A job needs at least one task."]}
    found: dict[str, list[str]] = {}
    for at, draft in enumerate(drafts):
        try:
            jobs.check_task(at, draft.extractor, draft.loader)
        except Invalid as error:
            problems: list[Mapping[str, Any]] = error.details["errors"]
            found |= name_errors(problems, tasks)
    for task in tasks:
        found |= {name: [message] for name, message in task.unreadable.items()}
    return found


def _check_schedule(form: JobForm) -> None:
    try:
        jobs.check_schedule(form.schedule.data, form.timezone.data or "UTC")
    except Invalid as error:
        blame(form, error)


def blame(form: JobForm, error: Invalid) -> None:
    """Put the error beside its field, or above the form when it has none."""
    if error.field and error.field in form:
        field = form[error.field]
        field.errors = [*field.errors, error.message]
    else:
        form.form_errors.append(error.message)
