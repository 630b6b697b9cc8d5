"""Published sets of polyps, each alone and as its part of PraNet's benchmark (Fan et al. 2020), the study polyps."""

from pipeline.cli.download.published_set import Files, Layout, PublishedSet, Split

PICTURE = r"\.(?:tiff?|png|bmp|jpe?g)"
NUMBER = rf"(?P<key>\d+){PICTURE}"
STUDIES = ("polyps", "polyps_ablations", "polyps_adc", "polyps_sd21", "polyps_sdxl", "bench")
BENCHMARK, TRAIN = "data/polyps", "TrainDataset"
SHARED = (f"{TRAIN}/images", f"{TRAIN}/masks")
RESEARCH = "research and education only, with citation"


def _benchmark(*splits: Split) -> Layout:
    return Layout(BENCHMARK, STUDIES, splits, shared=SHARED)


def _part(folder: str, images: str, masks: str, name: str, example: str) -> tuple[Files, Files]:
    """Return images and masks that become `folder`/images and `folder`/masks; `name` matches file names."""
    prefix = "p?" if name is NUMBER else ""  # of masks: p1.tif belongs to 1.tif
    return (
        Files(rf"(?:{images})/{name}", f"{folder}/images/{{key}}{{suffix}}", example),
        Files(rf"(?:{masks})/{prefix}{name}", f"{folder}/masks/{{key}}{{suffix}}", example),
    )


KVASIR_NAME = rf"(?P<key>c[jk][0-9a-z]{{23}}){PICTURE}"
KVASIR_EXAMPLE = "Kvasir-SEG/images/cju0qkwl35piu0993l0dewei2.jpg"
CLINIC = (
    "Original|(?:CVC-)?ClinicDB/images?",
    "Ground.?Truth|(?:CVC-)?ClinicDB/masks?",
    NUMBER,
    "CVC-ClinicDB/Original/1.tif",
)
CLINIC_SIZE, COLON_SIZE = (384, 288), (574, 500)


def _kvasir(folder: str) -> tuple[Files, Files]:
    images = Files(f"images/{KVASIR_NAME}", f"{folder}images/{{key}}{{suffix}}", KVASIR_EXAMPLE)
    return images, Files(f"masks/{KVASIR_NAME}", f"{folder}masks/{{key}}{{suffix}}", KVASIR_EXAMPLE)


def _pranet(folder: str, title: str, count: int) -> Split:
    name = rf"(?P<key>[^/]+){PICTURE}"
    parts = _part(folder, f"{folder}/images?", f"{folder}/masks?", name, f"{folder}/images/1.png")
    return Split(title, *parts, count)


KVASIR_PAIRS = Split("pairs", *_kvasir(""), 1000)
KVASIR = PublishedSet(
    "kvasir_seg",
    "Kvasir-SEG: 1000 polyps",
    "https://datasets.simula.no/kvasir-seg/",
    "research and education only; commercial use needs the authors' written permission",
    "Jha et al., Kvasir-SEG: A Segmented Polyp Dataset, MMM 2020",
    ("kvasir-seg.zip: 1000 images and 1000 masks, .jpg",),
    (
        Layout(
            "data/kvasir_seg",
            ("kvasir_96", "kvasir_96_levers", "kvasir_cpu"),
            (KVASIR_PAIRS,),
        ),
        Layout("data/kvasir_few", ("kvasir_few", "kvasir_pseudo", "exchange_kvasir"), (KVASIR_PAIRS,)),
        _benchmark(
            Split("training pairs", *_kvasir(f"{TRAIN}/"), 900, unlisted="Kvasir"),
            Split("test pairs", *_kvasir("TestDataset/Kvasir/"), 100, listed="Kvasir"),
        ),
    ),
)

CLINICDB = PublishedSet(
    "cvc_clinicdb",
    "CVC-ClinicDB: 612 frames of polyps",
    "https://polyp.grand-challenge.org/CVCClinicDB/",
    RESEARCH,
    "Bernal et al., WM-DOVA maps for accurate polyp highlighting in colonoscopy, CMIG 2015",
    ("CVC-ClinicDB.rar: Original/ and Ground Truth/, 612 .tif each",),
    (
        _benchmark(
            Split("training pairs", *_part(TRAIN, *CLINIC), 550, CLINIC_SIZE, unlisted="CVC-ClinicDB"),
            Split("test pairs", *_part("TestDataset/CVC-ClinicDB", *CLINIC), 62, CLINIC_SIZE, listed="CVC-ClinicDB"),
        ),
    ),
)

ETIS = PublishedSet(
    "etis",
    "ETIS-Larib Polyp DB: 196 frames of polyps",
    "https://polyp.grand-challenge.org/ETISLarib/",
    RESEARCH,
    "Silva et al., Toward embedded detection of polyps in WCE images, IJCARS 2014",
    ("ETIS-LaribPolypDB.rar: 196 images and their masks in Ground Truth/ (p1.tif for 1.tif)",),
    (
        _benchmark(
            Split(
                "test pairs",
                *_part(
                    "TestDataset/ETIS-LaribPolypDB",
                    "ETIS[^/]*(?:/images?)?",
                    "ETIS[^/]*/(?:Ground.?Truth|masks?)",
                    NUMBER,
                    "ETIS-LaribPolypDB/1.tif",
                ),
                196,
                (1225, 966),
            ),
        ),
    ),
)

COLONDB = PublishedSet(
    "cvc_colondb",
    "CVC-ColonDB: 380 frames of polyps",
    "http://vi.cvc.uab.es/colon-qa/cvccolondb/",
    RESEARCH,
    "Tajbakhsh et al., Automated polyp detection in colonoscopy videos, IEEE TMI 2016; Bernal et al. 2012",
    ("380 images and 380 masks; the page has been out of reach at times, PraNet's TestDataset holds them too",),
    (
        _benchmark(
            Split(
                "test pairs",
                *_part(
                    "TestDataset/CVC-ColonDB",
                    "(?:CVC-)?ColonDB/(?:images?|bbdd)",
                    "(?:CVC-)?ColonDB/(?:masks?|gtpolyp|Ground.?Truth)",
                    NUMBER,
                    "CVC-ColonDB/images/1.png",
                ),
                380,
                COLON_SIZE,
            ),
        ),
    ),
)

CVC300 = PublishedSet(
    "cvc_300",
    "CVC-300: the 60 test frames of EndoScene that PraNet's benchmark has",
    "https://pages.cvc.uab.es/CVC-Colon/index.php/databases/cvc-endoscenestill/",
    RESEARCH,
    "Vazquez et al., A benchmark for endoluminal scene segmentation of colonoscopy images, 2017",
    ("CVC-EndoSceneStill holds 300 frames of CVC-300; the 60 of the benchmark are those of PraNet's TestDataset",),
    (
        _benchmark(
            Split(
                "test pairs",
                *_part(
                    "TestDataset/CVC-300",
                    "CVC-300/(?:images?|bbdd)",
                    "CVC-300/(?:masks?|gtpolyp)",
                    NUMBER,
                    "CVC-300/images/149.png",
                ),
                60,
                COLON_SIZE,
            ),
        ),
    ),
)

PRANET = PublishedSet(
    "pranet",
    "PraNet's polyp benchmark: the five sets above as the study polyps wants them, in two archives",
    "https://github.com/DengPingFan/PraNet",
    "those of each set: research and education, with citation",
    "Fan et al., PraNet, MICCAI 2020, and the five sets",
    ("TrainDataset.zip: 1450 training pairs", "TestDataset.zip: five test sets, 798 pairs"),
    (
        Layout(
            BENCHMARK,
            STUDIES,
            (
                _pranet(TRAIN, "training pairs", 1450),
                *(
                    _pranet(f"TestDataset/{name}", f"test pairs of {name}", count)
                    for name, count in (
                        ("CVC-300", 60),
                        ("CVC-ClinicDB", 62),
                        ("CVC-ColonDB", 380),
                        ("ETIS-LaribPolypDB", 196),
                        ("Kvasir", 100),
                    )
                ),
            ),
        ),
    ),
)

POLYPS = (KVASIR, CLINICDB, ETIS, COLONDB, CVC300, PRANET)
