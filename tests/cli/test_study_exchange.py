"""twinsynth study exchange: the study it writes, and what it refuses."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipeline.cli import exchange
from pipeline.cli.exchange import Exchange, Source
from pipeline.cli.main import main
from pipeline.cli.plan import image_count, make_plan, set_size, weight_sources
from pipeline.core.errors import UserError
from pipeline.study import Params, load_params
from tests.conftest import REPOSITORY

STUDIES = REPOSITORY / "configs" / "studies"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(STUDIES, "configs/studies")
    shutil.copy(REPOSITORY / "params.yaml", "params.yaml")
    return tmp_path


def source_of(path: Path) -> Source:
    params = load_params(path)
    return Source(params.study, params.data, params.generators, params.training_sets)


def written(source: str, **changes: Any) -> str:
    path = STUDIES / f"{source}.yaml"
    axes = {"name": "mine", "pairs": (16, 64), "multipliers": (0, 2), "generator": "siamese", "seeds": None} | changes
    return exchange.exchange_text(path.read_text(encoding="utf-8"), source_of(path), Exchange(**axes))


def loaded(text: str, folder: Path) -> Params:
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return load_params(path)


def test_shipped_studies_are_what_the_command_writes() -> None:
    shipped = {"exchange_cpu": ("demo", (16, 32, 64, 128, 256)), "exchange_kvasir": ("kvasir_few", (50, 100, 200, 400))}
    for name, (source, pairs) in shipped.items():
        text = written(source, name=name, pairs=pairs, seeds=(0, 1, 2))
        assert (STUDIES / f"{name}.yaml").read_text(encoding="utf-8") == text


def test_limits_of_the_other_study_are_left_out(tmp_path: Path) -> None:
    text = (STUDIES / "exchange_cpu.yaml").read_text(encoding="utf-8").replace("limit: 16", "limit: 16, limit_draw: 1")
    path = tmp_path / "drawn.yaml"
    path.write_text(text, encoding="utf-8")
    axes = Exchange("mine", (16, 64), (0, 2), "siamese_16")
    study = loaded(exchange.exchange_text(text, source_of(path), axes), tmp_path)
    assert {(one.limit, one.limit_draw) for one in study.generators.values()} == {(16, 0), (64, 0)}


def test_real_images_alone_are_trained_like_the_arms(tmp_path: Path) -> None:
    """Otherwise the rate would count what longer training or stronger augmentation adds as worth of the images."""
    text = (STUDIES / "demo.yaml").read_text(encoding="utf-8")
    path = tmp_path / "longer.yaml"
    path.write_text(
        text.replace("multiplier: 1, synthetic_share", "multiplier: 1, steps: 2.0, synthetic_share"), encoding="utf-8"
    )
    axes = Exchange("mine", (16, 64), (0, 2), "siamese")
    study = loaded(exchange.exchange_text(path.read_text(encoding="utf-8"), source_of(path), axes), tmp_path)
    assert {one.steps for one in study.training_sets.values()} == {2.0}
    assert study.training_sets["real_16"].synthetic_share is None


def test_every_rung_has_its_generator_and_its_arms(tmp_path: Path) -> None:
    study = loaded(written("demo", multipliers=(0, 1, 4), seeds=(3, 4)), tmp_path)
    assert {name: (one.method, one.limit, one.copies) for name, one in study.generators.items()} == {
        "siamese_16": ("siamese", 16, 4),
        "siamese_64": ("siamese", 64, 4),
    }
    assert {name: (one.generator, one.multiplier, one.limit) for name, one in study.training_sets.items()} == {
        "real_16": (None, 0, 16),
        "siamese_x1_16": ("siamese_16", 1, 16),
        "siamese_x4_16": ("siamese_16", 4, 16),
        "real_64": (None, 0, 64),
        "siamese_x1_64": ("siamese_64", 1, 64),
        "siamese_x4_64": ("siamese_64", 4, 64),
    }
    assert study.training_sets["siamese_x1_16"].synthetic_share == 0.25
    assert (study.segment.seeds, study.confirm, study.compare.reference) == ((3, 4), None, "real_64")
    assert study.data.train_limit == 64 and study.data.unlabelled is not None  # the base sees the rest


def test_comments_are_kept_and_the_head_is_its_own() -> None:
    text = written("demo")
    assert text.startswith('# The study "mine": how many labels synthetic images are worth, made from the study demo')
    assert "# 0: every lesion is plain; 1: most are faint" in text and "sizes that two cores" not in text
    assert "\n\n\n" not in text and "\nconfirm: null\n" in text


def test_a_study_that_ends_with_its_training_sets_becomes_one_too(tmp_path: Path) -> None:
    """Sections may stand in any order, and a limit of the other study's generator is replaced with its draw."""
    path = tmp_path / "last.yaml"
    yaml = YAML()
    values = yaml.load((STUDIES / "demo.yaml").read_text(encoding="utf-8"))
    values["training_sets"] = values.pop("training_sets")
    values["generators"]["siamese"] = (values["generators"]["siamese"] or {}) | {"limit": 16, "limit_draw": 1}
    yaml.dump(values, path)
    text = exchange.exchange_text(
        path.read_text(encoding="utf-8"), source_of(path), Exchange("mine", (16, 64), (2,), "siamese")
    )
    study = loaded(text, tmp_path)
    assert [one.pair_limit for one in study.generators.values()] == [(16, 0), (64, 0)]


def test_all_pairs_need_no_limit_and_leave_no_rest(tmp_path: Path) -> None:
    study = loaded(written("demo", pairs=(20, 320)), tmp_path)
    assert study.data.train_limit is None and study.data.unlabelled is None


def test_the_ladder_doubles_up_to_all_pairs() -> None:
    assert exchange.all_pairs(source_of(STUDIES / "demo.yaml")) == 320
    assert exchange.ladder(320) == (16, 32, 64, 128, 256)
    assert exchange.ladder(32) == (16, 32)
    for pairs in (None, 31):
        with pytest.raises(UserError, match="--pairs"):
            exchange.ladder(pairs)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pairs": (16, 400)}, "--pairs ends in 400, but the study demo has about 320 training pairs"),
        ({"pairs": (16,)}, "--pairs is 16; a curve needs two numbers of pairs or more"),
        ({"pairs": (64, 16)}, "--pairs is '64,16'; give rising whole numbers from 1 on"),
        ({"multipliers": (0,)}, "--multipliers is 0, which is real images alone"),
        ({"generator": "adc"}, "the study demo has no generator 'adc'; the available ones are: siamese, controlnet"),
    ],
)
def test_impossible_axes_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        written("demo", **changes)


def test_the_command_writes_once_and_tells_the_time(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.cli import forecast as module

    seen: list[int | None] = []
    empty = module.MachineFit("this machine", 1, 1e9, None, {"segment": 0.5})

    def counted(params: Params, machines: object, pairs: int | None = None) -> module.Forecast:
        seen.append(pairs)
        return module.Forecast(params.study, pairs, {}, (), module.DiskUsage(0, 0, 0, 0), (empty,))

    monkeypatch.setattr(module, "forecast", counted)
    command = ["study", "exchange", "--from", "demo", "--pairs", "16,64", "--seeds", "0,1", "--name", "mine"]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert "4 training sets x 2 seeds, 2 generators" in out and "segment 30 min" in out and seen == [64]
    assert load_params(Path("configs/studies/mine.yaml")).study == "mine"
    assert main(command) == 2
    assert "configs/studies/mine.yaml already exists; choose another --name, or pass --force" in capsys.readouterr().err
    assert main([*command, "--force"]) == 0


def test_a_plan_counts_the_pairs_of_the_limit() -> None:
    study = load_params(STUDIES / "exchange_cpu.yaml")
    plan = make_plan(study, 256)
    assert [(one.limit, one.images) for one in plan.generators] == [(n, 2 * n) for n in (16, 32, 64, 128, 256)]
    assert plan.trainings == 5 and plan.cells == 30
    assert set_size(study.training_sets["siamese_x2_16"], study.generators, 256, 0) == 16 + 32
    assert image_count(study.generators["siamese_32"], None, 0) == 64
    assert weight_sources(study.generators) == {name: name for name in study.generators}
    assert "siamese_16: siamese, 16 real pairs, masks real, 32 images" in "\n".join(plan.lines())
