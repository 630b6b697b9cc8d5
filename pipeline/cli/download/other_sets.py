"""Published sets of slices with several raters, of volumes and of ultrasound, and those that are not public."""

from pipeline.cli.download.published_set import Files, Layout, PublishedSet, Split

ON_PAGE = "as its page states them"
VOLUMES = "imagesTr/, labelsTr/ (docs/your_own_data.md)"
PICTURE = r"\.(?:png|jpe?g)"
CASE = r"(?P<part>training|validation|testing)/(?P<case>[^/]+)"

SLICES = Split(
    "slices",
    Files(rf"{CASE}/image_[^/]*{PICTURE}", "{part}/{case}/{name}", "training/0/image_0.png"),
    Files(rf"{CASE}/label(?P<rater>[0-3])_[^/]*{PICTURE}", "{part}/{case}/{name}", "training/0/label0_.png"),
    size=(128, 128),
    raters=4,
)
PATIENTS = Files(r"manifest\.csv", "manifest.csv", "manifest.csv")

LIDC = PublishedSet(
    "lidc",
    "LIDC-IDRI, as slices of 128 x 128 pixels with the masks of four radiologists",
    "https://www.cancerimagingarchive.net/collection/lidc-idri/",
    "CC BY 3.0, with citation",
    "Armato et al., The Lung Image Database Consortium (LIDC) and IDRI, Medical Physics 2011",
    (
        "slices in the folders of CIMD's code: training/<case>/ and testing/<case>/ with image_*, label0_ to label3_",
        "manifest.csv with part, case, patient, where there is one; the page itself holds the CT series",
    ),
    (
        Layout("data/lidc", ("lidc_cimd",), (SLICES,), (PATIENTS,)),
        Layout("data/lidc_4rater", ("lidc_cpu",), (SLICES,), (PATIENTS,)),
    ),
)

HIPPOCAMPUS = PublishedSet(
    "hippocampus",
    "Medical Segmentation Decathlon, task 4: the hippocampus in MR",
    "http://medicaldecathlon.com/",
    "CC BY-SA 4.0: what is derived is passed on under the same terms",
    "Simpson et al., A large annotated medical image dataset, arXiv:1902.09063",
    ("Task04_Hippocampus.tar: imagesTr/, labelsTr/, dataset.json",),
    (Layout("data/msd_hippocampus", ("hippocampus_cpu",), by_hand="the folder of the archive"),),
)

AMOS = PublishedSet(
    "amos",
    "AMOS 2022: 15 abdominal organs in CT",
    "https://amos22.grand-challenge.org/",
    ON_PAGE,
    "Ji et al., AMOS, NeurIPS 2022",
    ("amos22.zip: dataset.json, imagesTr/, labelsTr/, imagesVa/, labelsVa/",),
    (Layout("data/amos", ("amos_recycling",), by_hand="the content of the archive's folder amos22"),),
)

BRATS = PublishedSet(
    "brats2021",
    "BraTS 2021: brain tumours in four MR contrasts",
    "https://www.synapse.org/Synapse:syn25829067",
    f"{ON_PAGE}; with registration",
    "Baid et al., The RSNA-ASNR-MICCAI BraTS 2021 Benchmark, arXiv:2107.02314",
    ("the 1251 training cases",),
    (Layout("data/brats2021", ("brats_recycling",), by_hand=VOLUMES),),
)

PELVIC = PublishedSet(
    "pelvic_mr",
    "Male pelvic MR: eight structures",
    "https://zenodo.org/record/7013610",
    ON_PAGE,
    "Li et al., Prototypical few-shot segmentation for cross-institution male pelvic structures, 2022",
    ("data.zip: 589 volumes with labels", "institution.txt: who acquired which; it decides the parts"),
    (Layout("data/pelvic_mr", ("pelvic_recycling",), by_hand="data/ of the archive and institution.txt"),),
)

MUSCLE = PublishedSet(
    "muscle_us",
    "Muscle ultrasound: cross-sections",
    "https://doi.org/10.17632/3jykz7wz8d.1",
    ON_PAGE,
    "Marzola et al., Deep learning segmentation of transverse musculoskeletal ultrasound images, 2021",
    ("3917 images and masks, .png",),
    (Layout("data/muscle_us", ("muscle_us_recycling",), by_hand="images/, masks/ of the same names"),),
)

MSMRI = PublishedSet(
    "msmri",
    "ISBI 2015 challenge: lesions of multiple sclerosis, four contrasts, two raters",
    "https://smart-stats-tools.org/lesion-challenge-2015",
    f"{ON_PAGE}; with registration",
    "Carass et al., Longitudinal multiple sclerosis lesion segmentation: Resource and challenge, NeuroImage 2017",
    ("the training volumes; slices are cut from them",),
    (Layout("data/msmri", ("msmri_cimd",), by_hand="training/<case>/ with four image_* and label0_, label1_"),),
)


def _private(name: str, title: str) -> PublishedSet:
    layout = Layout(f"data/{name}", (name,), by_hand="images/, masks/ of your own")
    return PublishedSet(
        name, title, "", "not public", "Qiu et al., CVPR 2025", ("nothing: bring pairs of your own",), (layout,)
    )


OTHERS = (
    LIDC,
    HIPPOCAMPUS,
    AMOS,
    BRATS,
    PELVIC,
    MUSCLE,
    MSMRI,
    _private("stain", "Stain: 500 pairs of the authors of Siamese-Diffusion"),
    _private("faeces", "Faeces: 458 pairs of the authors of Siamese-Diffusion"),
)
