"""The Python API: every name is documented with an example, and every example runs on a finished toy study."""

import doctest
import inspect

import numpy as np
import pytest

from pipeline import api
from pipeline.core.errors import UserError
from pipeline.core.section import parse
from pipeline.data.sample import DatasetSpec
from pipeline.study import Params
from tests.conftest import TOY_STUDY
from tests.toy_outputs import write_toy_outputs


@pytest.fixture
def finished(toy_study: Params, spec: DatasetSpec) -> Params:
    """The toy study with untrained networks in the places of trained ones."""
    write_toy_outputs(toy_study, spec)
    return toy_study


def test_ten_names_are_documented_and_typed() -> None:
    assert len(api.__all__) == 10
    for name in api.__all__:
        function = getattr(api, name)
        signature = inspect.signature(function)
        assert ">>>" in (inspect.getdoc(function) or ""), name
        assert signature.return_annotation is not signature.empty
        assert all(one.annotation is not signature.empty for one in signature.parameters.values()), name


@pytest.mark.parametrize("name", api.__all__)
def test_example_runs(name: str, finished: Params) -> None:
    function = getattr(api, name)
    (example,) = doctest.DocTestFinder(recurse=False).find(function, name, globs={**vars(api), "np": np})
    report: list[str] = []
    assert doctest.DocTestRunner().run(example, out=report.append).failed == 0, "".join(report)


def test_groups_count_as_one_unit() -> None:
    rng = np.random.default_rng(0)
    reference = rng.normal(0.8, 0.1, (3, 60))
    scores = reference + np.repeat(rng.normal(0.02, 0.05, 12), 5)
    alone = api.compare_scores(scores, reference).evidence
    grouped = api.compare_scores(scores, reference, groups=[f"patient{n // 5}" for n in range(60)]).evidence
    assert (alone.n_units, grouped.n_units) == (60, 12)
    assert grouped.difference_high - grouped.difference_low > alone.difference_high - alone.difference_low
    assert grouped.difference == pytest.approx(alone.difference)


def test_few_seeds_carry_no_verdict() -> None:
    found = api.compare_scores(np.full((2, 50), 0.9), np.full((2, 50), 0.5))
    assert found.verdict == "inconclusive"
    assert "seed" in (found.reason or "")


def test_tables_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UserError, match=r"found \[3, 4\] and \[3, 5\]"):
        api.compare_scores(np.zeros((3, 4)), np.zeros((3, 5)))
    with pytest.raises(UserError, match="groups names 2 images"):
        api.compare_scores(np.zeros((3, 4)), np.zeros((3, 4)), groups=["a", "b"])


def test_an_unknown_generator_is_refused(toy_params: Params) -> None:
    with pytest.raises(UserError, match=r"no generator 'gan'; the available ones are: siamese"):
        api.load_generator(toy_params, "gan")


def test_images_of_another_program_are_no_generator() -> None:
    entries = {"elsewhere": {"method": "folder", "copies": 1, "root": "images"}}
    study = parse(Params, TOY_STUDY | {"generators": TOY_STUDY["generators"] | entries})
    with pytest.raises(UserError, match=r"generators\.elsewhere brings images of another program"):
        api.load_generator(study, "elsewhere")
