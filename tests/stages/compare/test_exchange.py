"""The exchange rate in the stage compare: which sets form a line, what is stated, what is written."""

from typing import Any

import numpy as np
import pytest

from pipeline.core import files, paths, tables
from pipeline.metrics.statistics.exchange_rate import Runs
from pipeline.stages.compare import exchange
from pipeline.stages.compare.comparison import collect_numbers, compare, publish_comparison
from pipeline.stages.compare.design import Design
from pipeline.stages.compare.exchange import ExchangeRates, exchange_rates
from pipeline.stages.compare.exchange_rows import refused_row
from pipeline.stages.compare.params import Compare
from pipeline.stages.compare.results import Results
from pipeline.study import Params, load_params
from tests.conftest import REPOSITORY

SIZES = (25, 50, 100, 200, 400, 800)
ALL = 800
SETS: dict[str, Any] = {
    "real": {},
    "real_again": {"seed_offset": 1000},
    **{f"real_{n}": {"limit": n} for n in SIZES[:-1]},
    "siamese_100": {"limit": 100, "generator": "siamese_100", "multiplier": 4},
    "siamese_200": {"limit": 200, "generator": "siamese_200", "multiplier": 4},
    "longer_100": {"limit": 100, "steps": 2.0},
}
GENERATORS = {f"siamese_{n}": {"method": "siamese", "copies": 4, "limit": n} for n in (100, 200)}
COSTS = {"minutes_per_label": 3.0, "gpu_hours_per_image": 0.001}


def level(n: float) -> float:
    return 0.85 - 0.9 * n**-0.5


def study(sets: dict[str, Any] = SETS, generators: dict[str, Any] = GENERATORS, **section: Any) -> Params:
    values = load_params(REPOSITORY / "params.yaml").model_dump()
    values |= {"segmenters": {"unet": {}}, "judge": {"segmenter": "unet"}, "confirm": None}
    values |= {"training_sets": sets, "generators": generators, "compare": {"resamples": 2000} | section}
    return Params.model_validate(values)


def pairs(params: Params) -> dict[str, int]:
    return {name: one.limit or ALL for name, one in params.training_sets.items()}


def scores(params: Params, worth: dict[str, float], noise: float = 0.02, seeds: int = 5, images: int = 60) -> Results:
    """Scores whose means are those of as many real pairs as `worth` says, or as the set has."""
    rng, found = np.random.default_rng(0), {}
    hardness = rng.normal(0, 0.1, images)
    for name, n in pairs(params).items():
        table = hardness + rng.normal(0, noise, (seeds, images)) + rng.normal(0, noise / 4, (seeds, 1))
        for split in ("val", "test"):
            for metric in ("dice", "iou"):
                found[name, split, metric] = table - table.mean() + level(worth.get(name, n))
    ids = tuple(("", f"image{number}") for number in range(images))
    return Results(found, tuple(map(str, range(seeds))), {"val": ids, "test": ids})


def rates(params: Params, results: Results, failed: tuple[str, ...] = ()) -> ExchangeRates:
    design = Design(params.compare, params.training_sets, 1, params.seed)
    found = exchange.lines(design, params.generators, pairs(params))
    return exchange_rates(design, found, pairs(params), "unet", results, failed)


WORTH = {"siamese_100": 163.0, "siamese_200": 200.0, "longer_100": 120.0}


def test_sets_that_differ_in_their_limit_are_one_line() -> None:
    params = study()
    design = Design(params.compare, params.training_sets, 1, params.seed)
    found = exchange.lines(design, params.generators, pairs(params))
    assert [line.name for line in found] == ["real", "4x siamese", "steps 2.0"]
    assert list(found[0].by_limit) == list(SIZES)  # without the control
    assert found[0].by_limit[ALL] == ("real",)
    assert found[1].by_limit == {100: ("siamese_100",), 200: ("siamese_200",)}


def test_draws_of_one_limit_are_one_point_and_other_generators_another_line() -> None:
    sets = SETS | {"real_25_b": {"limit": 25, "limit_draw": 1}}
    sets |= {"fewer": {"limit": 200, "generator": "siamese_100", "multiplier": 4}}
    params = study(sets, GENERATORS | {"siamese_all": {"method": "siamese", "copies": 4, "seed": 1}})
    design = Design(params.compare, params.training_sets, 1, params.seed)
    found = exchange.lines(design, params.generators, pairs(params))
    assert found[0].by_limit[25] == ("real_25", "real_25_b")
    assert "4x siamese, fine-tuned on 100 pairs" in [line.name for line in found]
    (point, *_) = rates(params, scores(params, WORTH)).points
    assert (point.n_real, point.models) == (25, 10)


def test_all_pairs_are_the_same_pairs_in_every_draw() -> None:
    sets = SETS | {f"real_800_{draw}": {"limit": ALL, "limit_draw": draw} for draw in range(3)}
    params = study(sets)
    design = Design(params.compare, params.training_sets, 1, params.seed)
    assert exchange.lines(design, params.generators, pairs(params))[0].by_limit[ALL] == ("real",)


def test_a_study_without_limits_has_no_curve() -> None:
    params = study(
        {"real": {}, "x4": {"generator": "siamese_all", "multiplier": 4}},
        {"siamese_all": {"method": "siamese", "copies": 4}},
    )
    assert exchange.pair_counts(params.study, params.seed, params.training_sets) == {}
    assert rates(params, scores(params, {})) == ExchangeRates([], [], [])


def test_the_sentence_says_what_the_images_are_worth_and_what_they_cost() -> None:
    params = study(exchange=COSTS)
    found = rates(params, scores(params, WORTH))
    first, second, control = found.rates
    low, high = first.equivalent_low, first.equivalent_high
    assert first.equivalent and low and high
    assert first.equivalent == pytest.approx(163, abs=2)
    assert first.sentence == f"100 real + 4x siamese = {first.equivalent:.0f} real pairs [{low:.0f}, {high:.0f}]"
    assert first.rate == pytest.approx(first.equivalent / 100)
    assert (first.images, first.gpu_hours) == (400, pytest.approx(0.4))
    assert first.label_minutes == pytest.approx(3 * (first.equivalent - 100))
    assert first.cost and first.cost.endswith("; 400 images take 0.4 GPU hours")
    assert first.labels_worth == pytest.approx(level(150) - level(100), abs=0.002)
    assert first.images_worth == pytest.approx((level(163) - level(100)) / 2)
    assert second.rate_low and second.rate_high and second.rate_low < 1 < second.rate_high
    assert control.sentence.startswith("100 real, steps 2.0 = 1") and control.gpu_hours is None
    assert control.cost is control.images_worth is control.label_minutes is None  # it has no synthetic images
    assert control.labels_worth == pytest.approx(level(150) - level(100), abs=0.002)
    residuals = [point.residual for point in found.points if point.line == "real"]
    assert residuals == pytest.approx([0] * 6, abs=1e-4)
    (fit,) = found.fits
    assert all(low <= dice <= high for low, dice, high in zip(fit.low, fit.dice, fit.high, strict=True))


def test_beyond_the_curve_it_says_at_least_and_at_most() -> None:
    params = study(exchange=COSTS)
    above, *_ = rates(params, scores(params, WORTH | {"siamese_100": 5000.0})).rates
    assert " = at least 800 real pairs [" in above.sentence and above.sentence.endswith(", at least 800]")
    assert above.equivalent is None and above.rate is None and above.refusal is None
    assert above.cost and "replace at least 2100 minutes of labelling" in above.cost
    below, *_ = rates(params, scores(params, WORTH | {"siamese_100": 10.0})).rates
    assert " = at most 25 real pairs [at most 25, " in below.sentence


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"seeds": 2}, "2 seeds are too few; a rate needs 3, better five."),
        ({"images": 5}, "Only 5 independent test images (or groups); a rate needs 6."),
        ({"noise": 1.5}, "less than twice the standard error of that rise"),
    ],
    ids=["seeds", "images", "noise"],
)
def test_too_little_gives_no_rate_and_says_why(change: dict[str, Any], reason: str) -> None:
    params = study()
    row, *_ = rates(params, scores(params, WORTH, **change)).rates
    assert reason in str(row.refusal) and reason in row.sentence
    assert row.equivalent is row.power_law is None and row.dice == pytest.approx(level(163))


def test_three_sizes_are_too_few() -> None:
    sets = {name: SETS[name] for name in ("real", "real_100", "real_200", "siamese_100")}
    params = study(sets)
    found = rates(params, scores(params, WORTH))
    assert found.rates[0].refusal == "The curve of real images has 3 sizes; a rate needs 4."
    assert found.fits == [] and len(found.points) == 4
    assert rates(params, scores(params, WORTH), ("A control failed.",)).fits == []


def test_a_failed_control_withdraws_every_rate() -> None:
    params = study()
    found = rates(params, scores(params, WORTH), ("The control real_again differs too.",))
    assert {row.refusal for row in found.rates} == {"The control real_again differs too."}
    assert len(found.fits) == 1  # the curve itself is shown


def test_patients_are_what_is_drawn() -> None:
    params = study()
    results = scores(params, WORTH)
    many = {key: np.repeat(table, 4, axis=1) for key, table in results.tables.items()}
    ids = tuple(("", f"image{number}") for number in range(240))
    owners = tuple(f"{number // 4:03d}" for number in range(240))
    grouped = Results(many, results.seeds, {"val": ids, "test": ids}, {"val": owners, "test": owners})
    single, frames = (rates(params, one).rates[0] for one in (results, grouped))
    assert frames.equivalent == pytest.approx(single.equivalent)
    assert frames.equivalent_low == pytest.approx(single.equivalent_low, rel=0.05)


def test_the_stage_writes_tables_and_numbers(toy_study: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    """The toy study's folder, with made-up scores of a study with limits."""
    params = study(exchange=COSTS).model_copy(update={"study": "toy"})
    results = scores(params, WORTH)
    monkeypatch.setattr("pipeline.stages.compare.comparison.read_results", lambda *_: results)
    monkeypatch.setattr(exchange, "pair_counts", lambda *_: pairs(params))
    publish_comparison("toy", compare(params))
    folder = paths.comparison("toy")
    written = files.read_json(folder / "exchange.json")
    assert [row["line"] for row in written["exchange"]] == ["4x siamese", "4x siamese", "steps 2.0"]
    assert len(written["learning_curve"]) == 9 and len(written["learning_fits"]) == 1
    rows = tables.read_table(folder / "exchange.csv")
    assert rows[0]["sentence"] == written["exchange"][0]["sentence"]
    assert {row["n_real"] for row in tables.read_table(folder / "learning_curve.csv")} == set(map(str, SIZES))
    numbers = collect_numbers("toy", [], has_judge=False)
    found = numbers["exchange"]["unet"]["4x siamese"]["100"]
    assert found["equivalent"] == written["exchange"][0]["equivalent"] and "real pairs" in found["sentence"]


def test_a_study_without_limits_writes_what_it_always_wrote() -> None:
    assert "exchange" not in Compare().model_dump()
    assert Compare.model_validate({"exchange": COSTS}).model_dump()["exchange"] == COSTS | {"step": 50}


def test_a_refused_row_has_no_number_but_its_dice() -> None:
    params = study()
    about = "unet", "4x siamese", ["siamese_100"], params.training_sets["siamese_100"]
    row = refused_row(about, Runs(100, np.full((1, 3, 6), 0.5)), "Why.")
    assert (row.dice, row.equivalent, row.sentence) == (0.5, None, "100 real + 4x siamese: no rate is stated. Why.")
