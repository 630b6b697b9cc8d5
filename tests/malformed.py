"""Malformed input by the thousand: bytes bent at random but repeatably, and what may come out of reading them."""

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from tests.faults.tally import count

EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 10**9)
WORDS = (b"..", b"/", b"\0", b"\xff\xfe", b"%s", b"nan", b"-1", b"1e999", b"\n", b'"', b"\xed\xa0\x80", b"9" * 400)


def sizes(few: int, many: int) -> pytest.MarkDecorator:
    """Parameter `examples`: a few by default, many in the whole fault suite."""
    return pytest.mark.parametrize("examples", [few, pytest.param(many, marks=pytest.mark.slow)])


def tried(examples: int, strategy: SearchStrategy[Any], check: Callable[[Any], None], kind: str = "malformed") -> None:
    """Gives `check` so many inputs, always the same ones, and counts them; it fails with the input that it told of."""

    def one(value: Any) -> None:
        count(kind)
        check(value)

    chosen = settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate],
    )
    chosen(given(strategy)(one))()


def bent(originals: Sequence[bytes]) -> SearchStrategy[bytes]:
    """One of the originals with one to five changes: cut, flipped, overwritten, repeated, mixed with another one."""
    return st.builds(_bent, st.sampled_from(originals), st.sampled_from(originals), st.integers(0, 2**64))


def _bent(content: bytes, other: bytes, seed: int) -> bytes:
    rng = random.Random(seed)
    for _ in range(rng.randint(1, 5)):
        content = rng.choice(CHANGES)(bytearray(content), other, rng)
    return content


def _cut(content: bytearray, _: bytes, rng: random.Random) -> bytes:
    return bytes(content[: rng.randrange(len(content) + 1)])


def _flip(content: bytearray, _: bytes, rng: random.Random) -> bytes:
    if content:
        content[_place(content, rng)] ^= 1 << rng.randrange(8)
    return bytes(content)


def _overwrite(content: bytearray, _: bytes, rng: random.Random) -> bytes:
    """A number that headers do not expect, of one, two, four or eight bytes."""
    width, order = rng.choice((1, 2, 4, 8)), rng.choice(("little", "big"))
    at, value = _place(content, rng), rng.choice((*EXTREMES, rng.getrandbits(32)))
    content[at : at + width] = (value % 256**width).to_bytes(width, order)
    return bytes(content)


def _insert(content: bytearray, _: bytes, rng: random.Random) -> bytes:
    at = _place(content, rng)
    content[at:at] = rng.choice((*WORDS, rng.randbytes(rng.randrange(9))))
    return bytes(content)


def _remove(content: bytearray, _: bytes, rng: random.Random) -> bytes:
    at = _place(content, rng)
    del content[at : at + rng.randrange(1, 33)]
    return bytes(content)


def _repeat(content: bytearray, _: bytes, rng: random.Random) -> bytes:
    at = _place(content, rng)
    part = content[at : at + rng.randrange(1, 65)]
    content[at:at] = part * rng.randrange(1, 4)
    return bytes(content)


def _mix(content: bytearray, other: bytes, rng: random.Random) -> bytes:
    at = _place(content, rng)
    return bytes(content[:at]) + other[at:]


CHANGES = (_cut, _flip, _flip, _overwrite, _overwrite, _overwrite, _insert, _remove, _repeat, _mix)


def _place(content: bytearray, rng: random.Random) -> int:
    """Anywhere, but every second time among the first 200 bytes, where headers are."""
    length = len(content)
    return rng.randrange(min(length, 200) if rng.random() < 0.5 else length) if length else 0
