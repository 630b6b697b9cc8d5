"""The files that a release card describes, by their hashes, and the check of a card against them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from pipeline.core import files, paths
from pipeline.core.errors import UserError
from pipeline.data import manifest, shards
from pipeline.data.image_set import HASHES, MANIFEST, SPEC, Row
from pipeline.deploy.release.card import FORMAT, VERSION, Kind, ListedFile, ReleaseCard
from pipeline.stages.base.manifest import unlabelled_images
from pipeline.stages.pseudo_labels.output import read_record

CARD, PAGE = "release_card.json", "release_card.html"
OWN = (CARD, PAGE, files.SEAL)  # the files of a card
MISSING, DIFFERS = "missing", "differs"
LOCK = Path("dvc.lock")


@dataclass(frozen=True)
class Problem:
    """A file that is not the one that the card describes."""

    path: str
    problem: str  # MISSING or DIFFERS


@dataclass(frozen=True)
class Checked:
    """What a check has found."""

    files: int  # listed in the card, and the files of the card itself
    images: int  # files of images and masks listed in the manifest of a released image set
    sha256: str  # of the card
    problems: tuple[Problem, ...]


def listed_files(study: str, name: str, kind: Kind, has_base: bool) -> tuple[ListedFile, ...]:
    """Return the files that the card of an entry describes, as far as they exist; paths start at the current folder.

    The weights are listed where the generator is released, those of the base where the entry uses it; where images are
    released, the manifests stand for the weights.
    """
    return tuple(
        ListedFile(path=path.as_posix(), what=what, sha256=files.sha256(path), bytes=path.stat().st_size)
        for what, path in _described(study, name, kind, has_base)
        if path.is_file()
    )


def _described(study: str, name: str, kind: Kind, has_base: bool) -> Iterator[tuple[str, Path]]:
    yield "parameters", Path("params.yaml")
    yield "inputs and outputs of all stages", LOCK
    yield "manifest of the real images", paths.real(study) / MANIFEST
    yield "description of the real images", paths.real(study) / SPEC
    if unlabelled_images(study) or read_record(study):
        yield "manifest of the images without masks", paths.unlabelled(study) / MANIFEST
    bases = [("base", paths.base(study))] if has_base else []
    for what, folder in (*bases, ("generator", paths.generator(study, name))):
        if kind == "generator":
            yield from ((what, path) for path in files.finished_files(folder))
        else:
            yield f"manifest of the {what}", folder / "manifest.json"
    images = paths.synthetic(study, name)
    yield "manifest of the synthetic images", images / MANIFEST
    yield from (("description of the synthetic images", images / file) for file in (SPEC, *DESCRIPTIONS))
    yield from (("scores", paths.scores(study, name) / file) for file in ("scores.json", "images.csv"))
    yield "scores", paths.judge(study) / "metrics.json"
    yield from (("audit", paths.audit(study, name) / file) for file in AUDIT)
    yield from (("comparison", path) for path in files.finished_files(paths.comparison(study)))
    yield from (("confirmation", paths.confirmation(study) / file) for file in ("choice.json", "scores.csv"))


DESCRIPTIONS = ("README.md", "croissant.json")
AUDIT = ("audit.json", "images.csv", "suspects.csv", "membership.json", "membership.csv")


def read_card(folder: Path) -> ReleaseCard:
    """Return the card in a folder. Raises UserError where there is none, or none that this version can read."""
    path = folder / CARD
    if not path.is_file():
        raise UserError(f"{folder} holds no {CARD}; name a folder that twinsynth release has written")
    content = files.read_json(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(f"{path} is not a release card; name a folder that twinsynth release has written")
    if content.get("version") != VERSION:
        raise UserError(
            f"{path} is of version {content.get('version')!r}, but this twinsynth reads version {VERSION}; use the"
            f" version of twinsynth that wrote it ({content.get('twinsynth', 'unknown')!r})"
        )
    try:
        return ReleaseCard.model_validate(content)
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(map(str, fault["loc"]))
        raise UserError(f"{path} is damaged ({place!r}: {fault['msg']}); get it from its author again") from None


def check(folder: Path, root: Path) -> Checked:
    """Compare the card in `folder`, and every file that it lists below `root`, with their hashes.

    Of a released image set whose manifest is the one that the card describes, every image and mask is compared with the
    manifest too. Raises UserError where the folder holds no card, or one that does not list this manifest.
    """
    card = read_card(folder)
    images_listed = (paths.synthetic(card.study, card.entry) / MANIFEST).as_posix()
    if card.kind == "images" and images_listed not in {one.path for one in card.files}:
        raise UserError(
            f"{folder / CARD} does not list the manifest of the images that it describes, so these cannot be checked;"
            " get it from its author again"
        )
    problems = [*_problems_of_card(folder)]
    for one in card.files:
        path = root / one.path
        if not path.is_file() or files.sha256(path) != one.sha256:
            problems.append(_problem(path, one.path))
    images = 0
    if card.kind == "images" and images_listed not in {one.path for one in problems}:
        images, of_images = check_images(root, (root / images_listed).parent)
        problems += of_images
    return Checked(len(OWN) + len(card.files), images, files.sha256(folder / CARD), tuple(problems))


def _problems_of_card(folder: Path) -> Iterator[Problem]:
    """Yield the files of the card that are missing, or that are not those of the seal beside them."""
    seal = folder / files.SEAL
    try:
        sums = files.read_json(seal)
    except (OSError, UserError):
        sums = None
    if not isinstance(sums, dict):
        yield _problem(seal, seal.as_posix())
        sums = None
    for path in (folder / CARD, folder / PAGE):
        if not path.is_file() or (sums is not None and files.sha256(path) != sums.get(path.name)):
            yield _problem(path, path.as_posix())


def _problem(path: Path, name: str) -> Problem:
    return Problem(name, DIFFERS if path.is_file() else MISSING)


def check_images(root: Path, folder: Path) -> tuple[int, list[Problem]]:
    """Return the number of files of images and masks, and those that are not what the manifest of the set lists.

    Their paths are relative to `root`. Raises UserError where the manifest is damaged.
    """
    problems = []
    rows = manifest.read(folder)
    for row in rows:
        for column, sha256 in HASHES.items():
            try:
                wrong = DIFFERS if files.sha256_of(_content(folder, row, column)) != row[sha256] else None
            except (OSError, UserError):
                wrong = MISSING
            if wrong:
                problems.append(Problem((folder / row[column]).relative_to(root).as_posix(), wrong))
    return len(HASHES) * len(rows), problems


def _content(folder: Path, row: Row, column: str) -> bytes:
    in_shard = shards.is_in_shard(row, column)
    return shards.read_from_shard(folder, row, column) if in_shard else (folder / row[column]).read_bytes()
