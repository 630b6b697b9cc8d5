"""The section `data` of a study: a reader and what is common to all readers."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_serializer, model_validator
from pydantic_core.core_schema import SerializerFunctionWrapHandler

from pipeline.core.section import Entry, Section
from pipeline.stages.pseudo_labels.params import PseudoLabels

LATER = ("unlabelled", "picture_window", "palette", "ignore_label", "attributes")
OPTIONAL = ("channels", "shape", "spacing", *LATER)  # keys that are written only if they are set
Extent = Annotated[int, Field(gt=0)]
Length = Annotated[float, Field(gt=0)]
Byte = Annotated[int, Field(ge=0, le=255)]


class Unlabelled(Section):
    """Images without masks, for pretraining the base, for mean teachers and for pseudo-labels."""

    folder: str | None = Field(default=None, min_length=1)
    """Folder of pictures, of the types that the readers take. Its subfolders are not searched."""
    rest: bool = False
    """Also the training images beyond `data.train_limit`, without their masks."""
    prompt: str | None = None
    """Prompt of the folder's images; `null` for `data.prompt`."""
    pseudo_labels: PseudoLabels | None = None
    """The segmenters that predict masks for these images; `null` for none. Generators with `pseudo_labels: true` and
    training sets with `unlabelled: pseudo_labels` learn from the predicted masks.
    """

    @model_validator(mode="after")
    def names_images(self) -> Self:
        if self.folder is None and not self.rest:
            raise ValueError("give folder (of pictures), rest: true (training images beyond train_limit), or both")
        return self

    @model_serializer(mode="wrap")
    def _omit_unused(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what came later where it is not used, so that earlier fingerprints stay valid."""
        return {key: value for key, value in handler(self).items() if key != "pseudo_labels" or value is not None}


class Attributes(Section):
    """Columns of a table about the images, such as site or device, for `compare.subgroups`."""

    columns: tuple[str, ...] = Field(min_length=1)
    """Columns to keep. Their values are published in `outputs/<study>/attributes.csv`, so name none that identifies a
    patient.
    """
    file: str | None = Field(default=None, min_length=1)
    """The table: CSV with a column `id`, or JSON lines with a key `id` or `target` (stem, file name or path of each
    image). `null`: `manifest.csv` in the folder of the data set, or the file of the reader `jsonl`.
    """

    @model_validator(mode="after")
    def columns_are_free(self) -> Self:
        if taken := [name for name in self.columns if name in ("id", "group", "source", "lesion_size")]:
            raise ValueError(f"columns names {taken[0]!r}, which has a meaning of its own; rename the column")
        if len({*self.columns}) < len(self.columns):
            raise ValueError(f"columns must differ, found {list(self.columns)}")
        return self


class Data(Entry):
    """The data set: a reader and what is common to all readers."""

    reader: str
    """Layout of the data set: a file of `pipeline/methods/readers`. Its own keys are added to the common ones.
    """
    size: int = Field(default=0, ge=0, multiple_of=8)
    """Side of the square images in pixels, a multiple of 8. Volumes have `shape` instead."""
    num_classes: int = Field(default=2, ge=2, le=255)
    """Number of classes, the background included."""
    prompt: str | dict[str, str] = ""
    """Text that describes the images: one for all, or one per source. Generators need it."""
    channels: int | None = Field(default=None, gt=0, le=16)
    """Channels of each image: 1 for grey images, more for several contrasts. `null`: three for pictures, one for
    volumes.
    """
    shape: tuple[Extent, Extent, Extent] | None = None
    """Voxels of a volume along right, front and top; volumes are cropped or padded to it."""
    spacing: tuple[Length, Length, Length] | None = None
    """Size of a voxel in mm to which volumes are resampled; `null` leaves them as stored, and all must agree."""
    picture_window: tuple[float, float] | None = None
    """The two levels of grey images of 16 bits, and of DICOM images, that become black and white."""
    palette: tuple[tuple[Byte, Byte, Byte], ...] | None = None
    """Colours (red, green, blue) of the labels 0, 1, 2 ... in colour masks."""
    ignore_label: int | None = Field(default=None, le=255)
    """Value of pixels in training masks whose label is not known; no loss counts them. Scored masks may have none."""
    near_duplicates: Literal["warn", "error", "regroup"] = "warn"
    """What happens to images of different splits that look the same by perceptual hash: a warning, an error, or a move
    into one split.
    """
    val_share: float = Field(default=0.1, gt=0, lt=1)
    """Share of the training images that becomes the validation split, where the data set has none."""
    test_share: float = Field(default=0.2, gt=0, lt=1)
    """Share of the training images that becomes the test split, where the data set has none."""
    native_masks: bool = False
    """Also keep validation and test masks at the images' own size, for `segment.resolution: native`."""
    train_limit: int | None = Field(default=None, gt=0)
    """Use at most this many training pairs, as in a study with few labels; `null` for all."""
    unlabelled: Unlabelled | None = None
    """Images without masks. A base from scratch and arms with a mean teacher or pseudo-labels learn from them."""
    attributes: Attributes | None = None
    """Columns of a table about the images that are kept for `compare.subgroups`."""
    folds: int | None = Field(default=None, ge=2)
    """Number of folds of a cross-validation; the test split is one of them."""
    fold: int = Field(default=0, ge=0)
    """Number of the fold that is the test split, from 0. Every fold is a study of its own."""

    @model_validator(mode="after")
    def shares_leave_training_images(self) -> Self:
        if self.val_share + self.test_share >= 1:
            raise ValueError("val_share + test_share must be below 1; otherwise no training image is left")
        return self

    @model_validator(mode="after")
    def fold_is_one_of_the_folds(self) -> Self:
        if self.fold >= (self.folds or 1):
            raise ValueError(f"fold is {self.fold} and folds is {self.folds}; folds are counted from 0")
        return self

    @model_validator(mode="after")
    def pictures_have_a_size_and_volumes_a_shape(self) -> Self:
        if self.size == 0 and self.shape is None:
            raise ValueError(
                "size (the side of the square images in pixels) is missing; volumes have shape (voxels along three"
                " axes) instead"
            )
        if self.size and self.shape:
            raise ValueError("give size (pictures) or shape (volumes), not both")
        if self.spacing and not self.shape:
            raise ValueError("spacing is for volumes, which have shape; pictures have segment.spacing")
        if self.shape and self.native_masks:
            raise ValueError("native_masks is for pictures; volumes are scored on their common grid")
        return self

    @model_validator(mode="after")
    def rules_of_pictures_make_sense(self) -> Self:
        if self.shape and (self.picture_window or self.palette):
            raise ValueError("picture_window and palette are for pictures; volumes have the reader's window")
        if self.picture_window and self.picture_window[0] >= self.picture_window[1]:
            raise ValueError(f"picture_window is {list(self.picture_window)}; its first level, black, must be lower")
        if self.palette and len({*self.palette}) < len(self.palette):
            raise ValueError("palette names a colour twice; each label needs its own")
        if self.palette and len(self.palette) != self.num_classes:
            raise ValueError(
                f"palette names {len(self.palette)} colours, but num_classes is {self.num_classes}; the first colour"
                " is the background"
            )
        return self

    @model_validator(mode="after")
    def ignored_pixels_have_a_value_of_their_own(self) -> Self:
        if self.ignore_label is None:
            return self
        if self.ignore_label < self.num_classes:
            raise ValueError(
                f"ignore_label is {self.ignore_label}, a label of a class; give a value from {self.num_classes} to 255"
            )
        if self.shape or self.palette:
            other = "palette gives colours, not values," if self.palette else "volumes have none"
            raise ValueError(f"ignore_label is a value in the masks of pictures; {other} to ignore")
        return self

    @model_validator(mode="after")
    def unlabelled_images_can_be_had(self) -> Self:
        if self.unlabelled is None:
            return self
        if self.unlabelled.rest and self.train_limit is None:
            raise ValueError("unlabelled.rest takes the training images beyond train_limit; set train_limit")
        if self.unlabelled.folder and self.shape:
            raise ValueError("unlabelled.folder holds pictures, but data has volumes; use unlabelled.rest")
        if self.unlabelled.pseudo_labels and self.shape:
            raise ValueError("unlabelled.pseudo_labels works on pictures, but data has volumes; remove pseudo_labels")
        if self.unlabelled.folder and self.unlabelled.prompt is None and not isinstance(self.prompt, str):
            raise ValueError("unlabelled.prompt is missing; data.prompt has one prompt per source")
        return self

    @property
    def planes(self) -> int:
        """Number of channels of every image."""
        return self.channels or (1 if self.shape else 3)

    @model_serializer(mode="wrap")
    def omit_unset_keys(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Omit unset keys that came later: fingerprints of other studies predate them."""
        return {key: value for key, value in handler(self).items() if key not in OPTIONAL or value is not None}
