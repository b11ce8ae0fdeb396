"""The one shape of errors under /api/v1, asserted in one place."""

from typing import Any

from werkzeug.test import TestResponse


def assert_refused(response: TestResponse, status: int, *, code: str = "", naming: str = "") -> dict[str, Any]:
    """The answer is a refusal of this status in the one shape; `naming` is the field that its text and list name."""
    assert response.status_code == status, response.get_data(as_text=True)
    assert response.mimetype == "application/json"
    body: dict[str, Any] = response.get_json()
    assert set(body) == {"error", "code", "details", "detail"}
    assert isinstance(body["error"], str)
    assert body["error"]
    assert isinstance(body["details"], dict)
    if code:
        assert body["code"] == code
    if status == 422:
        assert_names_the_field(body, naming)
    else:
        assert body["detail"] == body["error"]
    return body


def assert_names_the_field(body: dict[str, Any], naming: str) -> None:
    """A 422 lists its mistakes as FastAPI does."""
    assert body["detail"]
    for item in body["detail"]:
        assert set(item) == {"type", "loc", "msg", "input"}
    if naming:
        places = [".".join(str(part) for part in item["loc"][1:]) for item in body["detail"]]
        assert naming in places, places
