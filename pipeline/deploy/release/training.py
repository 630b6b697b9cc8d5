"""What a released generator was trained on, and how it and its images were made."""

from typing import Any, cast

from pipeline.core import files, paths
from pipeline.data.image_set import MANIFEST
from pipeline.data.pseudo_labels import labelled, pseudo_labelled
from pipeline.deploy.base_terms import TERMS
from pipeline.deploy.generator_card import dotted_values
from pipeline.deploy.release.card import Made, Privacy, TrainedOn, UsedBase
from pipeline.deploy.release.finished import FinishedEntry
from pipeline.networks.stable_diffusion.families import SD1, Family
from pipeline.stages.base import manifest as base_manifest
from pipeline.stages.finetune import generator, privacy_record
from pipeline.stages.finetune.params import OUTSIDE
from pipeline.stages.generate.provenance import notice
from pipeline.stages.mix.treatments import recipe


def trained_on(finished: FinishedEntry, terms: str | None) -> TrainedOn:
    """Return what the generator was trained on; `terms` are those of the training images, None if they are not known.

    Only counts and hashes: no name of a file or a patient.
    """
    entry, train, elsewhere = finished.entry, labelled(finished.train), finished.method in OUTSIDE
    groups = {row["group"] for row in train if row.get("group")}
    limit = entry.pair_limit
    return TrainedOn(
        data_set=train.spec.name,
        reader=finished.params.data.reader,
        extent=train.spec.spatial,
        classes=train.spec.num_classes,
        images=None if elsewhere else len(train),
        masks=None if elsewhere else len(train) * train.spec.raters,
        groups=None if elsewhere or not groups else len({row.get("group") or row["id"] for row in train}),
        limit=None if limit is None else str(limit),
        pseudo_labelled=len(pseudo_labelled(finished.train)),
        manifest_sha256=files.sha256(paths.real(finished.study) / MANIFEST),
        terms=terms,
        base=_base(finished) if entry.learns_on_base(finished.name) else None,
    )


def _base(finished: FinishedEntry) -> UsedBase:
    path = paths.base(finished.study) / base_manifest.FILE
    record: dict[str, Any] = files.read_json(path) if path.is_file() else {}
    source, family = base_manifest.base_source(finished.study), record.get("family")
    known = TERMS[cast(Family, family or SD1)]
    scratch = base_manifest.saw_training_images(finished.study)
    return UsedBase(
        source=source,
        family=family,
        revision=record.get("revision"),
        commit=record.get("commit"),
        saw_training_images=True if scratch else None,
        unlabelled_images=base_manifest.unlabelled_images(finished.study, finished.beyond_limit),
        terms=known.text if known.is_of(source) else None,
    )


def made(finished: FinishedEntry) -> Made:
    """Return how the generator was trained and how its images were made."""
    params, name, entry = finished.params, finished.name, finished.entry
    trained, elsewhere = entry.learns(name), finished.method in OUTSIDE
    row = finished.images.rows[0] if len(finished.images) else {}
    same = [
        other for other, one in params.generators.items() if other != name and recipe(one, other) == _recipe(finished)
    ]
    return Made(
        method=finished.method,
        trained=trained,
        elsewhere=elsewhere,
        made_by=row.get("made_by") or None,
        version=str(row.get("version", "unknown")),
        study_seed=params.seed,
        entry_seed=entry.seed,
        same_recipe=tuple(same),
        steps=params.finetune.max_steps if trained else None,
        settings=_settings(finished),
        privacy=_privacy(finished.manifest.get("privacy")),
        generator_sha256=finished.sha256,
        images=len(finished.images),
        image_masks=len({row.get("mask_id", row["source_id"]) for row in finished.images}),
        mask_source=entry.masks,
        notice=notice(row),
    )


def _recipe(finished: FinishedEntry) -> str:
    return recipe(finished.entry, finished.name)


def _privacy(record: dict[str, Any] | None) -> Privacy | None:
    if record is None:
        return None
    keys = Privacy.model_fields.keys() - {"covers"}
    covers = privacy_record.sentence(privacy_record.columns(record))
    return Privacy(**{key: record[key] for key in keys}, covers=covers)


def _settings(finished: FinishedEntry) -> dict[str, Any]:
    """Return the settings of training and of drawing by dotted path; of absolute paths only the last part."""
    params, name, entry = finished.params, finished.name, finished.entry
    options = generator.options(name, entry).model_dump(mode="json")
    own = entry.model_dump(mode="json", exclude={"method", "privacy", *entry.options})
    values = dotted_values(f"generators.{name}", {"method": finished.method, **own, **options})
    if entry.learns(name):
        values |= dotted_values("finetune", entry.settings(params.finetune).model_dump(mode="json"))
    if finished.method not in OUTSIDE:
        values |= dotted_values("generate", params.generate.model_dump(mode="json"))
    return values
