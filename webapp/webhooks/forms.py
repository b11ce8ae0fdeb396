"""The form of a webhook: what a browser sends, before the operations judge it."""

from flask_wtf import FlaskForm
from wtforms import SelectMultipleField, StringField, validators, widgets
from wtforms.fields import IntegerField
from wtforms.fields.choices import SelectChoice

from webapp.webhooks.models import Topic
from webapp.webhooks.operations import CHOICES, LONGEST_NO_SHOW, MOST_FAILURES, WebhookDraft

MEANINGS = {
    Topic.RUN_STARTED: "a run starts",
    Topic.RUN_SUCCEEDED: "a run has landed",
    Topic.RUN_FAILED: "a run has failed",
    Topic.RUN_CANCELLED: "a run was stopped",
    Topic.RUN_RECOVERED: "the first run lands after failures",
    Topic.RUN_NO_SHOW: "a run does not start at its hour",
    Topic.ROCKET_MOVED: "a rocket moves on",
    Topic.PING: "a test",
}


class WebhookForm(FlaskForm):  # type: ignore[misc]
    """What a webhook is called, where it is, and what it is told."""

    name = StringField("Name", description="Who is told, such as on-call or deploy bot.")
    url = StringField("Address", description="https, or http. Messages are signed, so no password belongs here.")
    topics = SelectMultipleField(
        "Tell it when",
        choices=[SelectChoice(topic.value, f"{MEANINGS[topic]} ({topic.value})") for topic in CHOICES],
        default=[Topic.RUN_FAILED.value, Topic.RUN_RECOVERED.value],
        widget=widgets.ListWidget(prefix_label=False),
        option_widget=widgets.CheckboxInput(),
    )
    after_failures = IntegerField(
        "Failures in a row",
        [validators.InputRequired(f"From 1 to {MOST_FAILURES}.")],
        default=1,
        description="A failed run is told from this one in a row on; a recovery only after as many.",
    )
    no_show_seconds = IntegerField(
        "Late after",
        [validators.InputRequired(f"From 10 to {LONGEST_NO_SHOW}.")],
        default=300,
        description="Seconds after its hour at which a run that has not started is told as a no-show.",
    )

    def draft(self) -> WebhookDraft:
        """What the operations take. Empty texts stay empty, so that they are refused and not left as they were."""
        return WebhookDraft(
            name=self.name.data or "",
            url=self.url.data or "",
            topics=[Topic(value) for value in self.topics.data or ()],
            after_failures=self.after_failures.data,
            no_show_seconds=self.no_show_seconds.data,
        )
