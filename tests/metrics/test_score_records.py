"""Records of scores.json: complete, and those of earlier versions read under the names of today."""

from dataclasses import replace

import pytest

from pipeline.core.errors import UserError
from pipeline.core.section import parse
from pipeline.metrics.images.score import ScoreResult, current_record
from pipeline.metrics.statistics.grouped import Interval
from pipeline.stages.score.params import Score

RESULT = ScoreResult("fid_infinity", 3.0, 50, "lower", variant="heldout")
LATER = ("n_real", "n_groups", "interval_reason", "p_reason", "subsets", "subset_size", "subset_sd")


def test_a_record_of_today_is_as_it_is_written() -> None:
    assert current_record(RESULT.record()) == RESULT.record()
    assert current_record(current_record(RESULT.record())) == RESULT.record()


@pytest.mark.parametrize(
    ("old", "name"),
    [
        ("fid_infinity", "fid_infinity_both"),
        ("fid_infinity_legacy", "fid_infinity_both_legacy"),
        ("frechet_infinity.clip_b32", "frechet_infinity_both.clip_b32"),
        ("kid", "kid"),
    ],
)
def test_earlier_records_keep_their_values_under_the_name_of_what_they_are(old: str, name: str) -> None:
    earlier = {key: value for key, value in RESULT.record().items() if key not in LATER} | {"name": old}
    assert current_record(earlier) == replace(RESULT, name=name).record()


def test_a_score_takes_its_interval_or_the_reason() -> None:
    there, gone = RESULT.within(Interval(1.0, 4.0, 7)), RESULT.within(Interval(None, None, 1, "one group"))
    assert (there.low, there.high, there.n_groups, there.interval_reason) == (1.0, 4.0, 7, None)
    assert (gone.low, gone.high, gone.n_groups, gone.interval_reason) == (None, None, 1, "one group")


def test_earlier_names_of_parameters_are_read() -> None:
    earlier = parse(Score, {"subsets": 7, "subset_size": 30}, "score")
    assert earlier == Score(kid_subsets=7, kid_subset_size=30)
    assert set(earlier.model_dump()) & {"subsets", "subset_size"} == set()
    with pytest.raises(UserError, match="subsets is the earlier name of kid_subsets; keep kid_subsets alone"):
        parse(Score, {"subsets": 7, "kid_subsets": 8}, "score")
    with pytest.raises(UserError, match=r"score\.kid_subset_size"):
        parse(Score, {"subset_size": 1}, "score")
    with pytest.raises(UserError, match=r"score\.kid_subset is not a parameter; did you mean kid_subset"):
        parse(Score, {"kid_subset": 3}, "score")
