"""Records of HTTP APIs arrive whole, whatever their shape and paging."""

import datetime
import gzip
import json
import ssl
import time
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.engine.api_server import Asked, Reply, api_server
from tests.engine.conftest import World
from webapp.engine.errors import Cancelled, EngineError, Kind, Origin
from webapp.engine.tasks import Receipt, run_task

LOADER = {"type": "duckdb", "db_path": "out.duckdb", "table_name": "orders"}


def load(world: World, url: str, *, allow: bool = True, **options: Any) -> Receipt:
    context = world.context(allow_private_addresses=allow, **options.pop("context", {}))
    return run_task({"type": "api", "url": url, **options}, LOADER, context)


def serve_one(world: World, body: Any, **options: Any) -> Receipt:
    with api_server(lambda asked: Reply(body)) as server:
        return load(world, server.url, **options)


def test_an_array_of_objects_becomes_rows(world: World) -> None:
    receipt = serve_one(world, [{"id": 1, "name": "tin"}, {"id": 2, "name": None, "price": 2.5}])
    assert world.query("FROM orders") == [(1, "tin", None), (2, None, 2.5)]
    assert (receipt.rows_read, receipt.rows_written, receipt.rows_found, receipt.doubt) == (2, 2, 2, None)
    assert world.heard.ended == ["fetch", "open", "load", "verify", "commit"]


def test_one_object_becomes_one_row(world: World) -> None:
    serve_one(world, {"id": 1, "at": "2026-01-02T03:04:05Z"})
    assert world.query("FROM orders") == [(1, datetime.datetime(2026, 1, 2, 3, 4, 5))]


def test_nested_values_become_structs_and_lists(world: World) -> None:
    serve_one(world, [{"id": 1, "who": {"name": "Ada", "tags": ["a", "b"]}}, {"id": 2, "who": {"age": 3}}])
    assert world.query("FROM orders") == [
        (1, {"name": "Ada", "tags": ["a", "b"], "age": None}),
        (2, {"name": None, "tags": None, "age": 3}),
    ]


def test_records_lie_at_a_path(world: World) -> None:
    serve_one(world, {"meta": 1, "data": {"items": [{"id": 1}, {"id": 2}]}}, records="data.items")
    assert world.query("FROM orders") == [(1,), (2,)]


def test_a_path_that_is_not_there_names_what_is(world: World) -> None:
    with pytest.raises(EngineError, match="rows") as caught:
        serve_one(world, {"data": [], "meta": 1}, records="rows")
    assert "data, meta" in caught.value.message
    assert caught.value.permanent


def pages_of(rows: list[dict[str, Any]], size: int) -> list[list[dict[str, Any]]]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


ROWS = [{"id": number, "name": f"n{number}"} for number in range(25)]


def by_link(asked: Asked) -> Reply:
    page = int(asked.params.get("page", "0"))
    pages = pages_of(ROWS, 10)
    more = {"Link": f'</x>; rel="prev", <?page={page + 1}>; rel="next"'} if page + 1 < len(pages) else {}
    return Reply(pages[page], headers=more)


def by_page(asked: Asked) -> Reply:
    pages = pages_of(ROWS, 10)
    number = int(asked.params["p"]) - 1
    return Reply({"items": pages[number] if number < len(pages) else []})


def by_offset(asked: Asked) -> Reply:
    start, size = int(asked.params["offset"]), int(asked.params["limit"])
    return Reply({"items": ROWS[start : start + size]})


def by_cursor(asked: Asked) -> Reply:
    start = int(asked.params.get("after", "0"))
    return Reply({"items": ROWS[start : start + 10], "meta": {"next": str(start + 10) if start + 10 < 25 else None}})


def by_field(asked: Asked) -> Reply:
    start = int(asked.params.get("start", "0"))
    return Reply({"items": ROWS[start : start + 10], "next": f"/?start={start + 10}" if start + 10 < 25 else ""})


@pytest.mark.parametrize(
    ("answer", "records", "pagination"),
    [
        (by_link, None, {"type": "link"}),
        (by_page, "items", {"type": "page", "parameter": "p"}),
        (by_page, "items", {"type": "page", "parameter": "p", "size": 10}),
        (by_offset, "items", {"type": "offset", "limit": 5}),
        (by_offset, "items", {"type": "offset", "limit": 7}),
        (by_cursor, "items", {"type": "cursor", "parameter": "after", "field": "meta.next"}),
        (by_field, "items", {"type": "link", "field": "next"}),
    ],
)
def test_every_paging_reads_every_page_once(
    world: World, answer: Any, records: str | None, pagination: dict[str, Any]
) -> None:
    with api_server(answer) as server:
        receipt = load(world, server.url, records=records, pagination=pagination)
    assert world.query("FROM orders ORDER BY id") == [(row["id"], row["name"]) for row in ROWS]
    assert receipt.rows_read == 25


@pytest.mark.parametrize(
    ("pagination", "reply"),
    [
        ({"type": "cursor"}, {"items": [{"id": 1}], "next_cursor": "same"}),
        ({"type": "page"}, {"items": [{"id": 1}]}),
        ({"type": "offset", "limit": 1}, {"items": [{"id": 1}]}),
    ],
)
def test_paging_that_never_ends_is_noticed(world: World, pagination: dict[str, Any], reply: Any) -> None:
    with api_server(lambda asked: Reply(reply)) as server, pytest.raises(EngineError, match="circles") as caught:
        load(world, server.url, records="items", pagination=pagination)
    assert caught.value.permanent


def test_method_headers_token_params_and_body_are_sent(world: World) -> None:
    with api_server(lambda asked: Reply([{"id": 1}])) as server:
        load(world, f"{server.url}/find?kept=1", method="POST", headers={"X-Team": "red"}, bearer_token="s3cret",
             params={"q": "ä b", "n": 3, "on": True, "many": ["x"]}, body={"find": "all"})  # fmt: skip
    (asked,) = server.asked
    assert (asked.method, asked.path) == ("POST", "/find")
    assert asked.params == {"kept": "1", "q": "ä b", "n": "3", "on": "true", "many": "x"}
    assert (asked.headers["Authorization"], asked.headers["X-Team"]) == ("Bearer s3cret", "red")
    assert json.loads(asked.body) == {"find": "all"}


def test_the_token_stays_with_its_own_host(world: World) -> None:
    with (
        api_server(lambda asked: Reply([{"id": 1}])) as other,
        api_server(lambda asked: Reply(None, 302, {"Location": f"{other.url}/there"})) as server,
    ):
        load(world, server.url, bearer_token="s3cret", headers={"X-Key": "k"})
    assert "Authorization" not in other.asked[0].headers
    assert "X-Key" not in other.asked[0].headers


def test_compressed_pages_are_read(world: World) -> None:
    body = gzip.compress(b'[{"id": 1}]')
    with api_server(lambda asked: Reply(body, headers={"Content-Encoding": "gzip"})) as server:
        load(world, server.url)
    assert world.query("FROM orders") == [(1,)]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([[{"a": 1}], [{"a": 2.5}]], [(1.0,), (2.5,)]),
        ([[{"a": 1}], [{"a": "x"}]], [("1",), ("x",)]),
        ([[{"a": 1, "b": True}], [{"a": {"k": 1}, "b": 2}]], [("1", "true"), ('{"k": 1}', "2")]),
        ([[{"a": [1]}], [{"a": [2.5, None]}]], [([1.0],), ([2.5, None],)]),
        ([[{"a": {"x": 1}}], [{"a": {"x": "q", "y": [1]}}]], [({"x": "1", "y": None},), ({"x": "q", "y": [1]},)]),
        ([[{"a": 2**53 + 1}], [{"a": 2}]], [(2**53 + 1,), (2,)]),
        ([[{"a": 2**53 + 1}], [{"a": 0.5}]], [("9007199254740993",), ("0.5",)]),
        ([[{"a": 12345678901234567890}]], [(12345678901234567890,)]),
        ([[{"a": "2026-01-02"}], [{"a": "soon"}]], [("2026-01-02",), ("soon",)]),
        ([[{"a": "2026-01-02T00:00:00.25"}], [{"a": "2026-01-03"}]],
         [(datetime.datetime(2026, 1, 2, 0, 0, 0, 250_000),), (datetime.datetime(2026, 1, 3),)]),
        ([[{"a": None}], [{"a": None, "b": 1}]], [(None, None), (None, 1)]),
        ([[{"a": {}}], [{"a": {}}]], [("{}",), ("{}",)]),
        ([[None, {"a": 1}]], [(None,), (1,)]),
        ([[], [{"a": 1}]], [(1,)]),
        ([[{"a": "é 🚀 \n \" \\ "}]], [("é 🚀 \n \" \\ ",)]),
    ],
)  # fmt: skip
def test_shapes_that_drift_between_pages_meet_without_loss(
    world: World, rows: list[Any], expected: list[tuple[Any, ...]]
) -> None:
    def answer(asked: Asked) -> Reply:
        page = int(asked.params.get("cursor", "0"))
        return Reply({"items": rows[page], "next_cursor": str(page + 1) if page + 1 < len(rows) else None})

    with api_server(answer) as server:
        receipt = load(world, server.url, records="items", pagination={"type": "cursor"})
    assert world.query("FROM orders") == expected
    assert receipt.doubt is None


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"<!doctype html><p>hi", "HTML"),
        (b"", "empty body"),
        (b'[{"id": 1}', "not JSON"),
        (b"[1, 2]", "objects"),
        (b'"text"', "objects"),
        (b"[]", "no records"),
        (b'[{"id": "\xff"}]', "not JSON"),
        (b'[{"id": 1}]}{"page": [{"id": 2}]', "not JSON"),
    ],
)
def test_an_answer_that_is_no_table_is_named(world: World, body: bytes, words: str) -> None:
    with pytest.raises(EngineError, match=words) as caught:
        serve_one(world, body)
    assert (caught.value.origin, caught.value.permanent) == (Origin.SOURCE, True)


@pytest.mark.parametrize(
    ("status", "permanent", "tries"), [(404, True, 1), (401, True, 1), (400, True, 1), (500, False, 3), (429, False, 3)]
)
def test_a_bad_status_is_tried_again_only_when_that_can_help(
    world: World, status: int, permanent: bool, tries: int
) -> None:
    with api_server(lambda asked: Reply({"no": 1}, status)) as server:
        with pytest.raises(EngineError, match=str(status)) as caught:
            load(world, server.url, retries=2)
        assert len(server.asked) == tries
    assert (caught.value.permanent, caught.value.facts["status"]) == (permanent, status)


def test_a_server_that_recovers_is_waited_for(world: World) -> None:
    replies = [Reply(None, 503), Reply([{"id": 1}])]
    with api_server(lambda asked: replies.pop(0)) as server:
        assert load(world, server.url).rows_found == 1


def test_a_body_that_breaks_off_is_transient(world: World) -> None:
    def half(handler: Any) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(b'[{"id": 1}')
        handler.close_connection = True

    with api_server(lambda asked: Reply(raw=half)) as server, pytest.raises(EngineError) as caught:
        load(world, server.url, retries=1)
    assert (caught.value.kind, len(server.asked)) == (Kind.TRANSIENT, 2)


def test_a_bad_status_whose_body_breaks_off_is_still_that_status(world: World) -> None:
    def half(handler: Any) -> None:
        handler.send_response(404)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(b"not fo")
        handler.close_connection = True

    with api_server(lambda asked: Reply(raw=half)) as server, pytest.raises(EngineError, match="404") as caught:
        load(world, server.url)
    assert caught.value.permanent


def silent(handler: Any) -> None:
    time.sleep(1.5)
    handler.close_connection = True


def test_a_server_that_never_answers_is_given_up(world: World) -> None:
    with api_server(lambda asked: Reply(raw=silent)) as server, pytest.raises(EngineError, match="in time") as caught:
        load(world, server.url, retries=0, timeout=0.3)
    assert caught.value.kind is Kind.TRANSIENT


def test_a_silent_server_does_not_delay_cancelling(world: World) -> None:
    began = time.monotonic()
    with api_server(lambda asked: Reply(raw=silent)) as server:
        with pytest.raises(Cancelled):
            load(world, server.url, context={"cancelled": lambda: time.monotonic() - began > 0.2})
        assert time.monotonic() - began < 1.0


def test_pages_that_came_quickly_are_told_before_the_next_one_comes(world: World) -> None:
    def answer(asked: Asked) -> Reply:
        page = int(asked.params["page"])
        if page == 3:
            end = time.monotonic() + 10
            while not world.heard.moved or world.heard.moved[-1][0] < 2:
                assert time.monotonic() < end, f"told {world.heard.moved}"
                time.sleep(0.01)
        return Reply([{"id": page}] if page < 3 else [])

    with api_server(answer) as server:
        assert load(world, server.url, pagination={"type": "page"}).rows_found == 2


def test_nobody_listening_is_transient(world: World) -> None:
    with api_server(lambda asked: Reply([])) as server:
        pass
    with pytest.raises(EngineError) as caught:
        load(world, server.url, retries=0)
    assert caught.value.kind is Kind.TRANSIENT


def test_a_redirect_loop_is_noticed(world: World) -> None:
    def around(asked: Asked) -> Reply:
        return Reply(None, 302, {"Location": "/b" if asked.path == "/a" else "/a"})

    with api_server(around) as server, pytest.raises(EngineError, match="loop") as caught:
        load(world, f"{server.url}/a")
    assert caught.value.permanent


def test_many_pages_take_bounded_memory_and_keep_their_types(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("webapp.engine.api_pages._IN_MEMORY", 1000)

    def answer(asked: Asked) -> Reply:
        page = int(asked.params["page"])
        value = page if page < 5 else page + 0.5
        rows = [{"id": page * 50 + n, "v": value, **({"late": "x"} if page > 6 else {})} for n in range(50)]
        return Reply(rows if page < 10 else [])

    with api_server(answer) as server:
        load(world, server.url, pagination={"type": "page", "start": 0})
    assert world.query("SELECT count(*), count(DISTINCT id), sum(v), count(late) FROM orders") == [
        (500, 500, 50 * (sum(range(10)) + 2.5), 150)
    ]


@pytest.mark.parametrize(("mode", "left"), [("replace", 0), ("append", 2), ("upsert", 2)])
def test_an_api_without_records_is_an_empty_load_of_a_known_table(world: World, mode: str, left: int) -> None:
    serve_one(world, [{"id": 1}, {"id": 2}])
    loader = {**LOADER, "mode": mode, "key": ["id"] if mode == "upsert" else []}
    with api_server(lambda asked: Reply([])) as server:
        receipt = run_task({"type": "api", "url": server.url}, loader, world.context(allow_private_addresses=True))
    assert world.query("SELECT count(*) FROM orders") == [(left,)]
    assert (receipt.rows_read, receipt.rows_written, receipt.rows_found, receipt.doubt) == (0, 0, 0, None)


def test_offsets_go_on_by_what_came_when_the_server_sets_its_own_page_size(world: World) -> None:
    def answer(asked: Asked) -> Reply:
        start = int(asked.params["offset"])
        return Reply(ROWS[start : start + 10])

    with api_server(answer) as server:
        load(world, server.url, pagination={"type": "offset", "limit": 5})
    assert world.query("SELECT count(*), count(DISTINCT id) FROM orders") == [(25, 25)]


def test_a_page_counted_beyond_the_end_may_fail(world: World) -> None:
    def answer(asked: Asked) -> Reply:
        start = int(asked.params["offset"])
        return Reply(ROWS[start : start + 10]) if start < 25 else Reply({"error": "no such page"}, 404)

    with api_server(answer) as server:
        assert load(world, server.url, pagination={"type": "offset", "limit": 10}).rows_found == 25


@pytest.fixture
def tls(tmp_path: Any) -> ssl.SSLContext:
    """A server context whose certificate is for localhost only and signed by itself, in cert.pem."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    pem = serialization.Encoding.PEM
    (tmp_path / "cert.pem").write_bytes(certificate.public_bytes(pem))
    (tmp_path / "key.pem").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    return context


def test_tls_is_checked_for_the_name_although_the_address_is_pinned(
    world: World, tls: ssl.SSLContext, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with api_server(lambda asked: Reply([{"id": 1}]), tls=tls) as server:
        with pytest.raises(EngineError, match="TLS") as caught:
            load(world, f"https://localhost:{server.port}/", retries=0)
        assert caught.value.permanent
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
        assert load(world, f"https://localhost:{server.port}/", retries=0).rows_found == 1
        with pytest.raises(EngineError, match="TLS"):
            load(world, f"https://127.0.0.1:{server.port}/", retries=0)
