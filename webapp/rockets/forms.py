"""The forms of the fleet."""

from flask_wtf import FlaskForm
from wtforms import IntegerField, StringField, validators

LONGEST_FLIGHT = 86_400


def printable(form: FlaskForm, field: StringField) -> None:
    """Refuse what no page and no database can show."""
    if not field.data.isprintable():
        raise validators.ValidationError("Only characters that can be seen.")


PLACE = [validators.DataRequired("This is needed."), validators.Length(max=255), printable]


def stripped(text: str | None) -> str | None:
    """The text without spaces around it."""
    return text.strip() if text else text


class FlightForm(FlaskForm):  # type: ignore[misc]
    """A plain flight: no data, only the flight plan."""

    source = StringField(
        "From", PLACE, [stripped], default="Earth", description="Where it starts: a place, a system, a name."
    )
    destination = StringField("To", PLACE, [stripped], default="Mars", description="Where it lands.")
    seconds = IntegerField(
        "Flight time in seconds",
        [validators.InputRequired("A whole number of seconds."), validators.NumberRange(0, LONGEST_FLIGHT)],
        default=60,
        description="Counted from the launch, which follows three seconds of preparation.",
    )
