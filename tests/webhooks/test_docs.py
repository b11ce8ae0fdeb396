"""What docs/webhooks.md says is so: the check of signatures works, the example has the fields of real messages."""

import json
import re
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests import factories
from tests.support.people import Person
from tests.webhooks.receiver import Receiver
from tests.webhooks.test_webhooks import carry_once, fly, make, told
from webapp.runs.states import RunState
from webapp.webhooks.models import Topic

PAGE = (Path(__file__).resolve().parent.parent.parent / "docs" / "webhooks.md").read_text()
Work = Callable[..., Any]


def test_the_check_of_signatures_takes_real_messages_and_no_others(alice: Person, tmp_path: Path):
    [code] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "check.py").write_text(code)
    is_genuine = runpy.run_path(str(tmp_path / "check.py"))["is_genuine"]
    with Receiver() as receiver:
        hook = make(alice, receiver.url)
        alice.app.test_client().post(f"/api/v1/webhooks/{hook['id']}/test", headers=alice.headers)
        carry_once(alice.app)
        [(headers, body)] = receiver.got
    assert is_genuine(hook["secret"], headers, body)
    assert not is_genuine(hook["secret"], headers, body + b" ")
    assert not is_genuine(hook["secret"], headers | {"webhook-timestamp": "1767225600"}, body)
    assert not is_genuine("whsec_" + "A" * 43 + "=", headers, body)


def test_the_example_has_the_fields_of_a_real_message(alice: Person, work: Work, look: Work):
    [text] = re.findall(r"```http\n.*?\n\n(\{.*?)```", PAGE, re.DOTALL)
    example = json.loads(text)
    with work():
        job = factories.make_job(name="Sales").id
    make(alice, "http://127.0.0.1:9/", "run.failed")
    fly(work, job, RunState.RUNNING, RunState.FAILED)
    [real] = told(look)
    assert list(example) == list(real)
    for part in ("job", "run"):
        assert list(example["data"][part]) == list(real["data"][part])


def test_each_topic_is_told_of():
    assert re.findall(r"^\| `([a-z._]+)`", PAGE, re.MULTILINE) == list(Topic)
