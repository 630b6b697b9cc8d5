"""Rules by which two groups share a training: what stands at a position, and how much of each there is in the end."""

import pytest

from pipeline.data.mixtures import FallingShare, FixedShare, Mixture, OneAfterTheOther

A, B = tuple(range(10)), tuple(range(10, 20))


def seconds(rule: Mixture, positions: int) -> list[bool]:
    return [rule.share_at(position)[0] for position in range(positions)]


@pytest.mark.parametrize("rule", [FixedShare(A, B, 0.3), FallingShare(A, B, 0.7, 60), OneAfterTheOther(A, B, 25)])
def test_every_position_has_the_next_number_of_its_group(rule: Mixture) -> None:
    counts = {True: 0, False: 0}
    for position in range(100):
        second, place = rule.share_at(position)
        assert place == counts[second]
        counts[second] += 1
    assert counts[True] == rule.seconds(100)


def test_one_group_comes_after_the_other() -> None:
    assert seconds(OneAfterTheOther(A, B, 25), 100) == [True] * 25 + [False] * 75


def test_a_falling_share_ends_in_nothing() -> None:
    drawn = seconds(FallingShare(A, B, 0.5, 700), 1000)
    assert sum(drawn) == 0.5 * 700 / 2
    assert sum(drawn[:100]) == pytest.approx(0.5 * 100 * (1 - 1 / 14), abs=1)  # a share of 0.5 to 0.43
    assert not any(drawn[700:])
