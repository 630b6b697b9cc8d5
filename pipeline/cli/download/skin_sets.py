"""Published sets of skin lesions."""

from pipeline.cli.download.published_set import Files, Layout, PublishedSet, Split

ISIC_PAGE = "https://challenge.isic-archive.com/data/"
IMAGE, MASK = r"(?P<key>ISIC_\d+)\.jpe?g", r"(?P<key>ISIC_\d+)_segmentation\.png"


def _folders(title: str, images: str, masks: str, count: int) -> Split:
    """Return pairs in two folders whose names stay; archives hold the folder or its files alone."""
    return Split(
        title,
        Files(rf"{images}/{IMAGE}", f"{images}/{{name}}", f"{images}/ISIC_0000000.jpg"),
        Files(rf"{masks}/{MASK}", f"{masks}/{{name}}", f"{masks}/ISIC_0000000_segmentation.png"),
        count,
    )


def _isic2018(part: str, count: int) -> Split:
    title = f"{part.lower()} pairs"
    return _folders(title, f"ISIC2018_Task1-2_{part}_Input", f"ISIC2018_Task1_{part}_GroundTruth", count)


def _isic2016(part: str, count: int) -> Split:
    title = f"{part.lower()} pairs"
    return _folders(title, f"ISBI2016_ISIC_Part1_{part}_Data", f"ISBI2016_ISIC_Part1_{part}_GroundTruth", count)


ISIC2016 = PublishedSet(
    "isic2016",
    "ISIC 2016, part 1: 1279 skin lesions",
    ISIC_PAGE,
    "CC0",
    "Gutman et al., Skin Lesion Analysis toward Melanoma Detection (ISBI 2016), arXiv:1605.01397",
    (
        "ISBI2016_ISIC_Part1_Training_Data.zip and ISBI2016_ISIC_Part1_Training_GroundTruth.zip: 900 pairs",
        "ISBI2016_ISIC_Part1_Test_Data.zip and ISBI2016_ISIC_Part1_Test_GroundTruth.zip: 379 pairs",
    ),
    (
        Layout(
            "data/isic2016", ("isic2016", "isic2016_ablations"), (_isic2016("Training", 900), _isic2016("Test", 379))
        ),
    ),
)

TRAINING_2018 = _isic2018("Training", 2594)
ISIC2018 = PublishedSet(
    "isic2018",
    "ISIC 2018, task 1: 3694 skin lesions",
    ISIC_PAGE,
    "CC BY-NC 4.0: not for commercial use",
    "Codella et al., Skin Lesion Analysis Toward Melanoma Detection 2018, arXiv:1902.03368; Tschandl et al. 2018",
    (
        "ISIC2018_Task1-2_Training_Input.zip and ISIC2018_Task1_Training_GroundTruth.zip: 2594 pairs",
        "ISIC2018_Task1-2_Validation_Input.zip and ISIC2018_Task1_Validation_GroundTruth.zip: 100 pairs",
        "ISIC2018_Task1-2_Test_Input.zip and ISIC2018_Task1_Test_GroundTruth.zip: 1000 pairs",
    ),
    (
        Layout(
            "data/isic2018",
            ("isic2018",),
            (TRAINING_2018, _isic2018("Validation", 100), _isic2018("Test", 1000)),
        ),
        Layout("data/isic2018", ("isic2018_dermosegdiff",), (TRAINING_2018,)),
    ),
)

CASE = r"(?P<key>IMD\d+)"
PH2 = PublishedSet(
    "ph2",
    "PH2: 200 dermoscopic images",
    "https://www.fc.up.pt/addi/ph2%20database.html",
    "research and education only",
    "Mendonca et al., PH2: A dermoscopic image database for research and benchmarking, EMBC 2013",
    ("PH2Dataset.rar: PH2 Dataset images/IMDxxx with image and lesion, 200 .bmp each",),
    (
        Layout(
            "data/ph2",
            ("ph2_cpu", "ph2_dermosegdiff", "ph2_few", "ph2_pseudo"),
            (
                Split(
                    "pairs",
                    Files(
                        rf"IMD\d+_Dermoscopic_Image/{CASE}\.bmp",
                        "PH2 Dataset images/{key}/{key}_Dermoscopic_Image/{key}.bmp",
                        "PH2 Dataset images/IMD002/IMD002_Dermoscopic_Image/IMD002.bmp",
                    ),
                    Files(
                        rf"IMD\d+_lesion/{CASE}_lesion\.bmp",
                        "PH2 Dataset images/{key}/{key}_lesion/{key}_lesion.bmp",
                        "PH2 Dataset images/IMD002/IMD002_lesion/IMD002_lesion.bmp",
                    ),
                    200,
                ),
            ),
        ),
    ),
)

HAM10000 = PublishedSet(
    "ham10000",
    "HAM10000: 10015 dermoscopic images",
    "https://doi.org/10.7910/DVN/DBW86T",
    "CC BY-NC 4.0: not for commercial use",
    "Tschandl et al., The HAM10000 dataset, Scientific Data 2018; masks: Tschandl et al., Nature Medicine 2020",
    (
        "HAM10000_images_part_1.zip and HAM10000_images_part_2.zip: 5000 and 5015 images, .jpg",
        "HAM10000_segmentations_lesion_tschandl.zip: 10015 masks, .png",
    ),
    (
        Layout(
            "data/ham10000",
            ("ham10000_dermosegdiff",),
            (
                Split(
                    "pairs",
                    Files(
                        rf"HAM10000_images(?:_part_?[12])?/{IMAGE}",
                        "HAM10000_images/{name}",
                        "HAM10000_images_part_1/ISIC_0024306.jpg",
                    ),
                    Files(
                        rf"HAM10000_segmentations_lesion_tschandl/{MASK}",
                        "HAM10000_segmentations_lesion_tschandl/{name}",
                        "HAM10000_segmentations_lesion_tschandl/ISIC_0024306_segmentation.png",
                    ),
                    10015,
                    (600, 450),
                ),
            ),
        ),
    ),
)

SKIN = (ISIC2016, ISIC2018, PH2, HAM10000)
