"""Facts of the served rating page as a process: killed, it has lost nothing confirmed; two of them share a study."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from pipeline.study import Params
from pipeline.web.rating.database import Database
from pipeline.web.rating.study_database import database_path
from tests.conftest import REPOSITORY, TOY_STUDY
from tests.patience import HUNG
from tests.rated import fresh, saved


@contextmanager
def serving() -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
    """A process of `twinsynth rate serve` and one who asks it with the personal link of Ann."""
    command = [sys.executable, "-m", "pipeline.cli", "rate", "serve", "--port", "0", "--images", "4", "--rater", "Ann"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stdout
    try:
        lines = [process.stdout.readline() for _ in range(3)]
        address, key = lines[2].removeprefix("personal link of Ann: ").strip().split("#key=")
        with httpx.Client(base_url=address, headers={"X-Rater-Key": key}, timeout=HUNG) as client:
            yield process, client
    finally:
        process.kill()
        process.wait()


def rate(client: httpx.Client) -> dict:
    """Rates the next image; the request's body, once it is confirmed."""
    image = client.get("/api/progress").raise_for_status().json()["image"]
    body = {"rating": fresh(), "image": image, "quality": 4, "looks_real": True}
    client.post("/api/ratings", json=body).raise_for_status()
    return body


@pytest.mark.faults
def test_what_was_confirmed_outlives_the_process(toy_study: Params) -> None:
    Path("params.yaml").write_text(json.dumps(TOY_STUDY))
    with serving() as (first, client), serving() as (second, other):  # both serve one study
        bodies = [rate(client), rate(other), rate(client)]
        first.send_signal(signal.SIGKILL)
        first.wait()
        bodies.append(rate(other))
        second.send_signal(signal.SIGINT)
        assert second.wait(HUNG) == 0
    database = Database(database_path("toy"))
    assert [row[0] for row in saved(database)] == [body["rating"] for body in bodies]
    assert database.path.stat().st_mode & 0o077 == 0  # its owner's alone
    with serving() as (_, client):
        assert client.post("/api/ratings", json=bodies[-1]).json()["done"] == 4  # sent again after the stop
        rate(client)
    assert len(saved(database)) == 5
