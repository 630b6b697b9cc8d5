"""Facts of the rating page's requests: nothing leaks, nothing is lost, doubled or overwritten."""

import asyncio
import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.core import paths
from pipeline.core.errors import UserError
from pipeline.data.image_set import ImageSet
from pipeline.study import Params
from pipeline.web.guard import LARGEST, LOOPBACK, Guard, RateLimits
from pipeline.web.listening import configuration
from pipeline.web.rate_limits import TokenBuckets
from pipeline.web.rating.app import REFUSALS, create_app
from pipeline.web.rating.database import Database
from pipeline.web.rating.server import Address, serve
from pipeline.web.rating.study_database import begin_study
from tests.rated import Visitor, browser, fresh, saved, words

WIDE = RateLimits(TokenBuckets(1e9, 1e9), TokenBuckets(1e9, 1e9))


@pytest.fixture
def database(toy_study: Params) -> Database:
    """Four real and four synthetic images."""
    return begin_study(toy_study, 4)


@pytest.fixture
def ann(database: Database) -> Visitor:
    return Visitor.enter(browser(database, limits=WIDE), "Ann")


def test_a_rater_from_the_first_image_to_the_last(ann: Visitor, database: Database) -> None:
    assert ann.progress() | {"image": "?"} == {"name": "Ann", "done": 0, "total": 8, "image": "?", "last": None}
    bodies = [ann.rate(quality=1 + k % 5, looks_real=k % 2 == 0) for k in range(8)]
    assert ann.progress() == {"name": "Ann", "done": 8, "total": 8, "image": None, "last": bodies[-1]["rating"]}
    assert [row[2:4] for row in saved(database)] == [(1 + k % 5, int(k % 2 == 0)) for k in range(8)]
    assert len({body["image"] for body in bodies}) == 8


def test_no_response_tells_where_an_image_is_from(ann: Visitor) -> None:
    pictures = []
    for _ in range(8):
        image = ann.progress()["image"]
        pictures.append(ann.get(f"/api/images/{image}"))
        ann.rate(remark="dark")
        ann.post("/api/undo", {"rating": ann.progress()["last"]})
        ann.rate()
    for path in ("/", "/api/images/nothing", "/api/x"):
        ann.get(path)
    rows = [*ImageSet.open(paths.real("toy")), *ImageSet.open(paths.synthetic("toy", "siamese"))]
    secrets = {"siamese", "toy", "blobs", *(str(row[key]) for row in rows for key in ("id", "file_name", "sha256"))}
    assert len(ann.heard) > 60
    said = "".join(map(words, ann.heard))
    assert {secret for secret in secrets if secret in said} == set()
    assert {len(picture.content) for picture in pictures} == {len(pictures[0].content)}
    assert len({json.dumps(dict(picture.headers)) for picture in pictures}) == 1
    assert pictures[0].headers["cache-control"] == "no-store"
    assert not {"etag", "last-modified", "content-disposition", "server"} & set(pictures[0].headers)
    answers = [response.text for response in ann.heard if response.url.path.startswith("/api/")]
    assert not any("synthetic" in text or "real" in text.replace("looks_real", "") for text in answers)


def test_a_request_sent_twice_counts_once(ann: Visitor, database: Database) -> None:
    body = ann.rate(remark="a shadow")
    before = saved(database)
    again = ann.post("/api/ratings", body)
    assert (again.status_code, again.json()["done"]) == (200, 1)
    assert saved(database) == before


def test_a_saved_rating_is_never_overwritten(ann: Visitor, database: Database) -> None:
    body, other = ann.rate(), fresh()
    before = saved(database)
    for change in ({"quality": 1}, {"rating": other}, {"remark": "x"}, {"image": ann.progress()["image"]}):
        assert ann.post("/api/ratings", body | change).status_code == 409
    assert saved(database) == before


def test_images_are_rated_in_order(ann: Visitor, database: Database) -> None:
    with database.reading() as connection:
        later = connection.execute("SELECT image FROM tasks WHERE position = 3").fetchone()[0]
    body = {"rating": fresh(), "image": later, "quality": 3, "looks_real": False}
    assert ann.post("/api/ratings", body).json() == {"error": "this is not the image to rate next"}
    assert saved(database) == []


def test_undo_is_how_a_rating_changes(ann: Visitor, database: Database) -> None:
    first, second = ann.rate(quality=5), ann.rate(quality=1)
    assert ann.post("/api/undo", {"rating": first["rating"]}).status_code == 409  # not the last one
    assert ann.post("/api/undo", {"rating": second["rating"]}).json()["done"] == 1
    assert ann.post("/api/undo", {"rating": second["rating"]}).json()["done"] == 1  # sent twice
    assert ann.post("/api/ratings", second).json() == {"error": "this rating was taken back; rate the image again"}
    assert ann.post("/api/undo", {"rating": fresh()}).status_code == 404
    ann.post("/api/ratings", second | {"rating": fresh(), "quality": 2}).raise_for_status()
    assert [row[2] for row in saved(database)] == [5, 2, 1]  # the last is kept as undone


def test_others_images_and_ratings_are_out_of_reach(ann: Visitor, database: Database) -> None:
    ben = Visitor.enter(ann.client, "Ben")
    body = ann.rate()
    image = ann.progress()["image"]
    assert ben.get(f"/api/images/{image}").status_code == 404
    assert ben.post("/api/ratings", {**body, "rating": fresh(), "image": image}).status_code == 404
    assert ben.post("/api/undo", {"rating": body["rating"]}).status_code == 404
    assert len(saved(database)) == 1


PLACES = ("../../ratings/toy/rating.sqlite", "..%2f..%2fetc%2fpasswd", "%2e%2e/%2e%2e/x", "%00", "images/test_0.png",
          "1", "test_0", "0" * 32, "x" * 5000)  # fmt: skip


def test_only_ids_lead_to_images(ann: Visitor) -> None:
    for place in PLACES:
        response = ann.get(f"/api/images/{place}")
        assert response.status_code == 404, place
        assert response.json()["error"]


FINE = {"rating": "f" * 32, "image": "?", "quality": 3, "looks_real": True}


MALFORMED = (
    ({"quality": 0}, 422), ({"quality": 6}, 422), ({"quality": "3"}, 422), ({"quality": 3.0}, 422),
    ({"quality": True}, 422), ({"quality": 10**400}, 422), ({"looks_real": 1}, 422), ({"looks_real": None}, 422),
    ({"rating": "../x"}, 422), ({"rating": "F" * 32}, 422), ({"rating": "f" * 32 + "\n"}, 422), ({"image": 7}, 422),
    ({"image": "0" * 32}, 404), ({"remark": "x" * 1001}, 422), ({"remark": "x" * 4001}, 422), ({"remark": 1}, 422),
    ({"arm": "real"}, 422), ({"rater": "Ben"}, 422),
)  # fmt: skip


def test_malformed_ratings_change_nothing(ann: Visitor, database: Database) -> None:
    image = ann.progress()["image"]
    for change, status in MALFORMED:
        response = ann.post("/api/ratings", {**FINE, "image": image, **change})
        assert response.status_code == status, change
        assert len(response.json()["error"]) < 200
    assert saved(database) == []


def test_what_is_no_rating_at_all(ann: Visitor, database: Database) -> None:
    headers = {"X-Rater-Key": ann.key, "Content-Type": "application/json"}
    for body in (b"", b"null", b"[]", b"{", b"\xff", b"[" * 8000, b'{"rating": 1e999}', b"9" * 5000):
        assert ann.client.post("/api/ratings", content=body, headers=headers).status_code in (400, 422), body[:20]
    assert saved(database) == []


def test_remarks_become_one_printable_line(ann: Visitor, database: Database) -> None:
    ann.rate(remark=" a\nb\u2028c\x00\x1b[31m <b>\u202e ")
    assert saved(database)[0][4] == "a b c[31m <b>"


def test_names_that_are_none(ann: Visitor) -> None:
    for name in ("", " ", "<b>x</b>", "=1+1", "a" * 41, "a/b", "a\x00b", "'; DROP TABLE raters; --"):
        assert ann.client.post("/api/raters", json={"name": name}).status_code == 422, name


def test_two_raters_of_one_name(ann: Visitor) -> None:
    for name in ("Ann", " ann ", "ＡＮＮ"):
        response = ann.client.post("/api/raters", json={"name": name})
        assert response.status_code == 409
        assert "in use; open the personal link" in response.json()["error"]
    assert Visitor.enter(ann.client, "Ann B").progress()["done"] == 0


def test_starting_is_repeatable_when_its_answer_was_lost(ann: Visitor) -> None:
    body = {"name": "Ben", "attempt": fresh()}
    first, second = (ann.client.post("/api/raters", json=body) for _ in range(2))
    assert first.status_code == second.status_code == 201
    assert first.json() == second.json()
    assert ann.client.post("/api/raters", json=body | {"attempt": fresh()}).status_code == 409


def test_a_locked_database_loses_nothing(ann: Visitor, database: Database) -> None:
    hasty = Visitor(browser(replace(database, wait=0.05)), ann.key)
    body = {**FINE, "image": ann.progress()["image"]}
    with closing(database.connect()) as other:
        other.execute("BEGIN IMMEDIATE")
        response = hasty.post("/api/ratings", body)
        assert (response.status_code, response.headers["retry-after"]) == (503, "2")
        assert "nothing was saved" in response.json()["error"]
        assert hasty.progress()["done"] == 0  # reading goes on
    assert hasty.post("/api/ratings", body).json()["done"] == 1


def test_a_full_disk_loses_nothing(ann: Visitor, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    connect = Database.connect

    def full(self: Database) -> sqlite3.Connection:
        connection = connect(self)
        connection.execute("PRAGMA max_page_count = 1")  # no less than there are
        return connection

    kept = [ann.rate()["rating"]]
    status, body = 200, {**FINE, "remark": "€" * 1000}
    with monkeypatch.context() as small:
        small.setattr(Database, "connect", full)
        while status == 200:  # until the last page has no room
            image, rating = ann.progress()["image"], fresh()
            status = ann.post("/api/ratings", {**body, "rating": rating, "image": image}).status_code
            kept += [rating] * (status == 200)
    assert status == 503
    assert len(kept) < 8
    assert [row[0] for row in saved(database)] == kept
    ann.rate()
    assert ann.progress()["done"] == len(kept) + 1


def test_a_database_that_was_removed(ann: Visitor, database: Database) -> None:
    database.path.unlink()
    assert ann.get("/api/progress").status_code == 503
    assert not database.path.exists()


def test_the_token_comes_before_everything(database: Database) -> None:
    client = browser(database, token="correct horse", limits=WIDE)
    for token in ("", "correct hors", "correct horses", "ünicode"):
        headers = {"X-Study-Token": token.encode("latin-1")}
        assert client.post("/api/raters", json={"name": "Ann"}, headers=headers).status_code == 401
    assert client.post("/api/raters", json={"name": "Ben"}, headers={"X-Study-Token": "wrong"}).status_code == 401
    assert client.get("/api/progress", headers={"X-Rater-Key": "x"}).status_code == 401
    response = client.post("/api/raters", json={"name": "Cem"}, headers={"X-Study-Token": "correct horse"})
    assert response.status_code == 201


def test_a_wrong_link(ann: Visitor) -> None:
    for key in ("", "0" * 32, "é", "x" * 64):
        headers = {"X-Rater-Key": key.encode("latin-1")}
        assert ann.client.get("/api/progress", headers=headers).status_code == 401
        assert ann.client.post("/api/undo", json={"rating": fresh()}, headers=headers).status_code == 401


ELSEWHERE = (
    ({"Origin": "http://evil.example"}, 403), ({"Origin": "null"}, 403), ({"Origin": "http://127.0.0.1:1"}, 403),
    ({"Origin": "http://[bad"}, 403), ({"Sec-Fetch-Site": "cross-site"}, 403), ({"Sec-Fetch-Site": "same-site"}, 403),
    ({"Host": "evil.example"}, 400), ({"Host": "[bad"}, 400), ({"Content-Type": "text/plain"}, 415),
    ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
    ({"Origin": "http://127.0.0.1:8765", "Sec-Fetch-Site": "same-origin"}, 201),
)  # fmt: skip


def test_requests_of_other_pages_are_refused(ann: Visitor) -> None:
    for headers, status in ELSEWHERE:
        given = {"Content-Type": "application/json"} | headers
        response = ann.client.post("/api/raters", content=b'{"name": "Eve"}', headers=given)
        assert response.status_code == status, headers


def test_large_requests_are_refused_by_what_they_say_and_by_what_they_send(ann: Visitor) -> None:
    headers = {"Content-Type": "application/json", "X-Rater-Key": ann.key}
    assert ann.client.post("/api/undo", content=b" " * (LARGEST + 1), headers=headers).status_code == 413
    streamed = ann.client.post("/api/undo", content=(b" " * 4096 for _ in range(3)), headers=headers)
    assert "content-length" not in streamed.request.headers
    assert streamed.status_code == 413
    assert ann.client.post("/api/undo", content=b"x", headers=headers | {"Content-Length": "-1"}).status_code == 413


def test_too_many_requests(database: Database) -> None:
    clock = [0.0]
    few = RateLimits(TokenBuckets(1, 5, lambda: clock[0]), TokenBuckets(1e9, 1e9))
    client = browser(database, limits=few)
    statuses = [client.get("/").status_code for _ in range(7)]
    assert statuses == [200] * 5 + [429] * 2
    clock[0] = 1.5
    assert [client.get("/").status_code for _ in range(2)] == [200, 429]


def test_guessing_keys_is_slowed_down(ann: Visitor, database: Database) -> None:
    client = browser(database, limits=RateLimits(TokenBuckets(1e9, 1e9), TokenBuckets(0.001, 3)))
    guesses = [client.get("/api/progress", headers={"X-Rater-Key": fresh()}).status_code for _ in range(5)]
    assert guesses == [401, 401, 401, 429, 429]


def test_wrong_tokens_lock_out_nobody_with_a_right_one(database: Database) -> None:
    """All of a hospital come from one address."""
    limits = RateLimits(TokenBuckets(1e9, 1e9), TokenBuckets(0.001, 3))
    ann = Visitor.enter(browser(database, limits=limits), "Ann")
    for _ in range(5):
        refused = ann.client.get("/api/progress", headers={"X-Rater-Key": fresh()})
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "2")
    assert refused.json() == {"error": "too many requests; wait a little"}
    assert refused.headers["content-security-policy"]
    ann.rate()
    assert ann.progress()["done"] == 1
    assert ann.get("/").status_code == 200


def test_a_body_that_does_not_come_is_not_waited_for(database: Database) -> None:
    guard = Guard(create_app(database), "", None, WIDE, patience=0.05)
    headers = [(b"host", b"x"), (b"content-type", b"application/json"), (b"content-length", b"10")]
    sent: list[dict] = []

    async def receive() -> dict:
        if not sent:
            await asyncio.sleep(3600)
        return {}

    async def send(message: dict) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/api/undo", "headers": headers, "client": ("a", 1)}
    asyncio.run(guard(scope, receive, send))
    assert [message.get("status") for message in sent] == [408, None]
    assert (b"connection", b"close") in sent[0]["headers"]
    assert json.loads(sent[1]["body"]) == {"error": "the request's body did not come within 0.05 s"}


def test_the_requests_are_described_to_nobody(ann: Visitor) -> None:
    assert [ann.get(path).status_code for path in ("/openapi.json", "/docs", "/redoc")] == [404] * 3


def test_no_address_but_that_of_the_connection_is_believed(database: Database) -> None:
    assert configuration(create_app(database)).proxy_headers is False


@pytest.mark.parametrize("token", ["x", "fifteen-letters"])
def test_a_short_token_is_refused(database: Database, token: str) -> None:
    with pytest.raises(UserError, match=rf"--token has {len(token)} characters and could be guessed; use at least 16"):
        serve(database, Address(port=0, token=token), print)


def test_what_is_remembered_of_clients_is_bounded() -> None:
    buckets = TokenBuckets(1, 2)
    for number in range(6000):
        buckets.take(str(number))
    assert len(buckets.tokens) == 4096


def test_every_response_carries_the_policy(ann: Visitor) -> None:
    for path, status in (("/", 200), ("/api/progress", 200), ("/nothing", 404), ("/api/images/x", 404)):
        response = ann.get(path)
        assert response.status_code == status
        policy = response.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'sha256-")
        assert "unsafe" not in policy
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["referrer-policy"] == "no-referrer"
    assert ann.client.post("/api/raters", content=b"x").headers["content-security-policy"]  # refused by the guard


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=40)
    | st.sampled_from(["0" * 32, "f" * 32]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=8,
)


def requests_of(schema: dict) -> list[tuple[str, str, list[str]]]:
    """Method, path and keys of the body of everything that the description offers."""
    found = []
    for path, methods in schema["paths"].items():
        for method, about in methods.items():
            body = about.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
            name = body.get("$ref", "").rsplit("/", 1)[-1]
            found.append((method, path, list(schema["components"]["schemas"].get(name, {}).get("properties", {}))))
    return found


def test_the_description_names_all_requests(ann: Visitor) -> None:
    assert {(method, path) for method, path, _ in requests_of(ann.client.app.openapi())} == {
        ("post", "/api/raters"), ("get", "/api/progress"), ("get", "/api/images/{image}"), ("post", "/api/ratings"),
        ("post", "/api/undo"),
    }  # fmt: skip


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
@given(data=st.data())
def test_requests_made_up_from_the_description(ann: Visitor, database: Database, data: st.DataObject) -> None:
    method, path, keys = data.draw(st.sampled_from(requests_of(ann.client.app.openapi())))
    path = path.replace("{image}", data.draw(st.text("0f/.%é\\?#", min_size=1, max_size=40)))
    body = data.draw(JSON | st.fixed_dictionaries({key: JSON for key in keys}))
    headers = {"Content-Type": "application/json", "X-Rater-Key": data.draw(st.sampled_from([ann.key, "", "0" * 32]))}
    if method == "post":
        content = json.dumps(body).encode()
        response = ann.client.post(path, content=content, headers=headers)
    else:
        response = ann.client.get(path, headers=headers)
    assert response.status_code in (200, 201, *REFUSALS)
    assert saved(database) == []  # no image's id can be guessed


def test_fifty_raters_at_once(database: Database) -> None:
    app = create_app(database, None, LOOPBACK, WIDE)

    async def asked(client: httpx.AsyncClient, method: str, path: str, **request: Any) -> Any:
        """Ask again while the database is busy, as the page does."""
        response = await client.request(method, path, **request)
        while response.status_code == 503:
            response = await client.request(method, path, **request)
        return response.raise_for_status().json()

    async def rate(client: httpx.AsyncClient, number: int) -> None:
        rater = await asked(client, "POST", "/api/raters", json={"name": f"Rater {number}"})
        headers = {"X-Rater-Key": rater["key"]}
        state = await asked(client, "GET", "/api/progress", headers=headers)
        while state["image"]:
            body = {"rating": fresh(), "image": state["image"], "quality": 1 + number % 5, "looks_real": True}
            state = await asked(client, "POST", "/api/ratings", json=body, headers=headers)

    async def crowd() -> None:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            await asyncio.gather(*(rate(client, number) for number in range(50)))

    asyncio.run(crowd())
    rows = saved(database)
    assert len({row[1] for row in rows}) == len(rows) == 50 * 8
    assert {quality: sum(row[2] == quality for row in rows) for quality in range(1, 6)} == dict.fromkeys(
        range(1, 6), 80
    )
