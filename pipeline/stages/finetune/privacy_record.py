"""What a published generator states about its differential privacy, for the cards and rows of what it draws."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.core import files

COVERED = (
    "The generator was fine-tuned with differential privacy: epsilon {epsilon:.3g} at delta {delta:.3g} per {unit}"
    " ({accountant}). This covers the weights of the generator against what they reveal of one training pair, provided"
    " that its base model has seen none of the pairs. It does not cover masks taken from training pairs, several images"
    " of one patient taken together, the choice of settings, or further generators trained on the same pairs. Its noise"
    " comes from the system's entropy, so the training cannot be repeated exactly."
)
COLUMNS = {"epsilon": "epsilon", "delta": "delta", "privacy_unit": "unit", "privacy_accountant": "accountant"}


def read(folder: Path) -> dict[str, Any] | None:
    """Return the record of the generator in a folder; None where it was trained without privacy."""
    path = folder / "manifest.json"
    return files.read_json(path).get("privacy") if path.is_file() else None


def columns(record: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the columns of the images that a generator draws: epsilon, delta, unit and accountant, or none."""
    return {} if record is None else {column: record[key] for column, key in COLUMNS.items()}


def statement(folder: Path) -> str:
    """Return what a card says of the generator in a folder; nothing of one without privacy."""
    return sentence(columns(read(folder)))


def sentence(columns: Mapping[str, Any]) -> str:
    """Return what a card says of a generator with these columns; nothing of one without privacy."""
    if "epsilon" not in columns:
        return ""
    return COVERED.format(
        epsilon=columns["epsilon"],
        delta=columns["delta"],
        unit=columns["privacy_unit"],
        accountant=columns["privacy_accountant"],
    )
