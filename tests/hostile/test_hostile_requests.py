"""The rating page under attack and under load: requests are counted, nothing is lost or doubled, no secret told."""

import hmac
import json
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import strategies as st

from pipeline.stages.report.frame import policy
from pipeline.study import Params
from pipeline.web.guard import LARGEST, LOOPBACK, RateLimits
from pipeline.web.rate_limits import TokenBuckets
from pipeline.web.rating import app as application
from pipeline.web.rating import pages
from pipeline.web.rating.app import REFUSALS, create_app
from pipeline.web.rating.database import Database
from pipeline.web.rating.study_database import begin_study
from tests.faults.tally import count
from tests.malformed import sizes, tried
from tests.patience import HUNG
from tests.rated import Visitor, browser, fresh, saved

pytestmark = pytest.mark.faults
WIDE = RateLimits(TokenBuckets(1e9, 1e9), TokenBuckets(1e9, 1e9))
RATERS = 50


@pytest.fixture
def database(toy_study: Params) -> Database:
    """Four real and four synthetic images."""
    return begin_study(toy_study, 4)


def operations(schema: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    """Method, path and schema of the body of everything that the OpenAPI description offers."""
    known = schema["components"]["schemas"]
    found = []
    for path, methods in schema["paths"].items():
        for method, about in methods.items():
            body = about.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
            found.append((method, path, known.get(body.get("$ref", "").rsplit("/", 1)[-1], {}).get("properties", {})))
    return found


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=60),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def of_schema(about: dict[str, Any], ids: list[str]) -> st.SearchStrategy[Any]:
    """Mostly what the description asks for, at its bounds and one beyond, so that requests come far."""
    kinds = [one for one in about.get("anyOf", [about]) if one.get("type") != "null"]
    kind = kinds[0] if kinds else {}
    fitting: st.SearchStrategy[Any] = st.booleans()
    if kind.get("type") == "integer":
        fitting = st.integers(kind.get("minimum", 0) - 1, kind.get("maximum", 9) + 1)
    elif "pattern" in kind:
        fitting = st.sampled_from([*ids, fresh(), "0" * 32, "f" * 33, "../x", "F" * 32])
    elif kind.get("type") == "string":
        fitting = st.text(max_size=kind.get("maxLength", 40) + 1) | st.sampled_from(
            ["<b>", "=1+1", "\u202e", "Ann", "Bo"]
        )
    return st.one_of(fitting, fitting, fitting, ANYTHING)


@sizes(20, 1500)
def test_requests_after_the_description(database: Database, examples: int) -> None:
    client = browser(database, limits=WIDE)
    ann = Visitor.enter(client, "Ann")
    statuses: set[int] = set()
    ids = [ann.progress()["image"], ann.rate()["rating"], ann.progress()["image"]]
    offered = operations(client.app.openapi())
    keys, names = st.sampled_from([ann.key, "", "0" * 32, "é"]), st.text("0f/.%é\\?#;", min_size=1, max_size=40)
    kinds = st.sampled_from(["application/json", "application/json; charset=x", "text/plain", ""])

    def requests(operation: tuple[str, str, dict[str, Any]]) -> st.SearchStrategy[Any]:
        method, path, properties = operation
        body = st.fixed_dictionaries({}, optional={key: of_schema(about, ids) for key, about in properties.items()})
        whole = st.fixed_dictionaries({key: of_schema(about, ids) for key, about in properties.items()})
        return st.tuples(
            st.just(method),
            st.just(path),
            names | st.sampled_from([*ids, "%0d%0aX-Planted: 1", "%00", "..%2f..%2fx"]),
            whole | body | ANYTHING,
            keys,
            kinds,
        )

    def check(request: tuple[str, str, str, Any, str, str]) -> None:
        method, path, name, body, key, kind = request
        headers = {"X-Rater-Key": key.encode("latin-1"), "Content-Type": kind}
        content = json.dumps(body).encode() if method == "post" else None
        response = client.request(method, path.replace("{image}", name), content=content, headers=headers)
        statuses.add(response.status_code)
        assert response.status_code in (200, 201, *REFUSALS), request
        assert response.headers["content-security-policy"] and "traceback" not in response.text.lower()
        if response.status_code in REFUSALS:
            assert set(response.json()) == {"error"}

    tried(examples, st.sampled_from(offered).flatmap(requests), check, "requests")
    assert {200, 422} <= statuses
    rows = saved(database)
    assert len({row[0] for row in rows}) == len(rows)  # no rating twice


@pytest.mark.slow
def test_fifty_raters_over_sockets_lose_nothing(database: Database) -> None:
    """A real server, a connection for each rater, every answer sent twice by every second one."""
    with Served(database) as address:
        told: dict[str, dict[str, int]] = {}
        crowd = [threading.Thread(target=rate_all, args=(address, number, told)) for number in range(RATERS)]
        for rater in crowd:
            rater.start()
        for rater in crowd:
            rater.join(HUNG)
    rows = {row[0]: row for row in saved(database)}
    confirmed = {rating: quality for answers in told.values() for rating, quality in answers.items()}
    lost = {rating for rating, quality in confirmed.items() if rating not in rows or rows[rating][2] != quality}
    count("losses", len(lost))
    assert lost == set()
    assert len(told) == RATERS and len(confirmed) == len(rows) == RATERS * 8


class Served:
    """A server of the application on a free port of this computer, for as long as the block lasts."""

    def __init__(self, database: Database) -> None:
        import socket

        import uvicorn

        self.listener = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(create_app(database, None, LOOPBACK), log_level="error", access_log=False)
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.listener]}, daemon=True)

    def __enter__(self) -> str:
        self.thread.start()
        return f"http://127.0.0.1:{self.listener.getsockname()[1]}"

    def __exit__(self, *_: object) -> None:
        self.server.should_exit = True
        self.thread.join(HUNG)


def rate_all(address: str, number: int, told: dict[str, dict[str, int]]) -> None:
    """One rater from the name to the last image; `told` gets what the server confirmed."""
    answers: dict[str, int] = {}
    with httpx.Client(base_url=address, timeout=HUNG) as client:

        def ask(method: str, path: str, body: Any = None) -> Any:
            while True:
                count("requests")
                response = client.request(method, path, json=body)
                if response.status_code not in (429, 503):  # which say: nothing was saved, come again
                    return response.raise_for_status().json()

        client.headers["X-Rater-Key"] = ask("POST", "/api/raters", {"name": f"Rater {number}"})["key"]
        state = ask("GET", "/api/progress")
        while state["image"]:
            about = {"quality": 1 + (number + state["done"]) % 5, "looks_real": number % 2 == 0}
            body = {"rating": fresh(), "image": state["image"], **about}
            state = ask("POST", "/api/ratings", body)
            if number % 2:
                state = ask("POST", "/api/ratings", body)
            answers[body["rating"]] = body["quality"]
    told[str(number)] = answers


def test_secrets_are_compared_in_constant_time(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []
    exact = hmac.compare_digest

    def recorded(given: bytes, wanted: bytes) -> bool:
        compared.append((given, wanted))
        return exact(given, wanted)

    monkeypatch.setattr(application.hmac, "compare_digest", recorded)
    client = browser(database, token="correct horse", limits=WIDE)
    for token in ("", "c", "correct horsf", "wrong"):
        assert client.get("/api/progress", headers={"X-Study-Token": token}).status_code == 401
    assert compared == [(token.encode(), b"correct horse") for token in ("", "c", "correct horsf", "wrong")]


def test_personal_keys_are_kept_as_hashes_alone(database: Database) -> None:
    """A key is looked up by its hash: what a comparison takes tells nothing of the key."""
    ann = Visitor.enter(browser(database), "Ann")
    with database.reading() as connection:
        (kept,) = connection.execute("SELECT key_sha256 FROM raters").fetchone()
    assert ann.key not in kept and len(kept) == 64
    assert all(ann.key.encode() not in path.read_bytes() for path in database.path.parent.iterdir())


def test_bounds_hold_by_default(database: Database) -> None:
    """Of the application as `twinsynth rate serve` starts it, not of one that a test has narrowed."""
    limits = RateLimits()
    limits.requests.clock = limits.failures.clock = lambda: 0.0
    client = browser(database, limits=limits)
    guesses = [client.get("/api/progress", headers={"X-Rater-Key": fresh()}).status_code for _ in range(40)]
    count("requests", len(guesses))
    assert guesses == [401] * 30 + [429] * 10
    headers = {"Content-Type": "application/json"}
    large = browser(database).post("/api/undo", content=b" " * (LARGEST + 1), headers=headers)
    assert large.status_code == 413


def test_no_page_lets_strange_scripts_run() -> None:
    for text in (pages.served_page().policy, pages.saved_page("Ann", []).policy, policy()):
        assert text.startswith("default-src 'none'; script-src 'sha256-")
        assert "unsafe" not in text and "*" not in text and "http" not in text
        assert "base-uri 'none'" in text and "form-action 'none'" in text


NAMES = (
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '" autofocus onfocus=alert(1) x="',
    "'--><b>",
)


def test_names_are_shown_and_never_obeyed(toy_study: Params) -> None:
    """Remarks and names that are markup: the saved page and the CSV hold them as text."""
    for name in NAMES:
        page = pages.saved_page(name, [("0" * 32, b"png")]).html
        assert name not in page
        assert page.count("<script") == 2 and page.count("</script>") == 2
    assert not Path("run.txt").exists()
