"""What the stages of a study with several attacked generators leave: private ones, one that learns nothing, no arm."""

from typing import Any

from pipeline.core import files, paths, tables
from pipeline.core.section import parse
from pipeline.data.image_set import ImageSet
from pipeline.data.sample import DatasetSpec
from pipeline.networks.stable_diffusion.families import SD1
from pipeline.stages.finetune import privacy_record
from pipeline.stages.finetune.fingerprint import fingerprint
from pipeline.stages.generate import provenance
from pipeline.stages.pseudo_labels.output import publish_none
from pipeline.study import Params
from tests.conftest import TOY_STUDY, blobs, copies
from tests.finished_study import arm, leave_results, write_audit

PRIVATE = {"method": "controlnet", "copies": 1}
BUDGET = {"delta": 0.0125, "max_grad_norm": 0.1}
SPENT = {"delta": 0.0125, "unit": "training pair", "accountant": "opacus 1.5, RDP", "steps": 2, "reproducible": False}
SPENT |= {"noise_multiplier": 1.5, "max_grad_norm": 0.1, "sampling": "Poisson, 2 of 8 pairs on average"}
GENERATORS: dict[str, Any] = {
    "siamese": {"copies": 2},
    "controlnet_eps8": PRIVATE | {"privacy": BUDGET | {"epsilon": 8}},
    "controlnet_eps1": PRIVATE | {"privacy": BUDGET | {"epsilon": 1}},
    "copy_paste": {"copies": 1},
    "unused": PRIVATE,
}
STUDY = TOY_STUDY | {
    "finetune": TOY_STUDY["finetune"] | {"lora_rank": 2},
    "generators": GENERATORS,
    "training_sets": {
        "real": {},
        "siamese_x1": {"generator": "siamese", "multiplier": 1},
        "siamese_x2": {"generator": "siamese", "multiplier": 2},
        "siamese_x2_share": {"generator": "siamese", "multiplier": 2, "synthetic_share": 0.25},
        **{f"{name}_x1": {"generator": name, "multiplier": 1} for name in list(GENERATORS)[1:4]},
    },
}
# training set: generator, multiplier, Dice on test images (that of the reference is 0.7) and on validation images
ARMS = {
    "siamese_x1": ("siamese", 1, 0.73, 0.60),
    "siamese_x2": ("siamese", 2, 0.75, 0.70),
    "siamese_x2_share": ("siamese", 2, 0.76, 0.65),
    "controlnet_eps8_x1": ("controlnet_eps8", 1, 0.72, 0.6),
    "controlnet_eps1_x1": ("controlnet_eps1", 1, 0.695, 0.6),
    "copy_paste_x1": ("copy_paste", 1, 0.71, 0.6),
}
AUC = {  # generator: score: AUC and the ends of its interval
    "siamese": {
        "loss": (0.81, 0.7, 0.9),
        "released": (0.58, 0.5, 0.67),
        "autoencoder": (0.9, 0.85, 0.95),
    },
    "controlnet_eps8": {"loss": (0.56, 0.48, 0.64), "released": (0.53, 0.45, 0.61)},
    "controlnet_eps1": {"loss": (0.51, 0.43, 0.59), "released": (0.505, 0.42, 0.59)},
    "copy_paste": {"released": (0.97, None, None)},
    "unused": {},
}


def attacked_study() -> Params:
    """The study; the current folder holds what its stages leave, without the weights of networks."""
    params, spec = parse(Params, STUDY), DatasetSpec(name="blobs", size=32)
    real = ImageSet.create(paths.real("toy"), spec, blobs(spec, {"train": 8, "val": 3, "test": 4}))
    base = {"source": "public_base", "fingerprint": "1", "family": SD1, "commit": "c0ffee"}
    files.write_json(paths.base("toy") / "manifest.json", base)
    publish_none("toy")
    leave_results()
    scores = {name: files.read_json(paths.scores("toy", "siamese") / name) for name in ("scores.json", "metrics.json")}
    for name, entry in params.generators.items():
        manifest: dict[str, Any] = {"fingerprint": fingerprint(params, name, real.split("train"))}
        if entry.privacy:
            manifest["privacy"] = SPENT | {"epsilon": entry.privacy.epsilon - 0.02}
        files.write_json(paths.generator("toy", name) / "manifest.json", manifest)
        draw_images(params, name, real)
        for file, content in scores.items():
            files.write_json(paths.scores("toy", name) / file, content)
        write_audit(paths.audit("toy", name))
        write_attacks(name)
        paths.snapshots("toy", name).mkdir(parents=True, exist_ok=True)
    files.write_json(paths.confirmation("toy") / "choice.json", {"seeds": []})
    for folder in (paths.records("toy"), *(paths.training_set("toy", name) for name in params.training_sets)):
        folder.mkdir(parents=True)
    write_arms()
    return params


def draw_images(params: Params, name: str, real: ImageSet) -> None:
    """Leave two images per training mask, whose rows say by which generator they were made."""
    weights = files.tree_sha256(paths.generator("toy", name))
    about = provenance.set_columns(name, params.generators[name], params.generate, weights)
    shared = about | privacy_record.columns(privacy_record.read(paths.generator("toy", name)))
    drawn = ((sample, row | shared | {"mask_id": row["source_id"]}) for sample, row in copies(real, 2))
    ImageSet.create(paths.synthetic("toy", name), real.spec, drawn)


def write_attacks(name: str) -> None:
    """Leave membership.json of one generator."""
    rates = {0.05: (0.3, None), 0.01: (None, "1.0% false positives need at least 100 controls; there are 7")}
    rates[0.001] = (None, "0.1% false positives need at least 1000 controls; there are 7")
    found = [
        {"false_positive_rate": rate, "share": share, "low": share and 0.1, "high": share and 0.6, "reason": reason}
        | {"bootstrap_low": share and 0.05, "bootstrap_high": share and 0.7, "allowed": int(7 * rate)}
        for rate, (share, reason) in rates.items()
    ]
    attacks = [
        {"score": score, "auc": auc, "low": low, "high": high, "found": found}
        | {"interval_reason": None if low else "an interval needs at least 6 training images; found 5"}
        for score, (auc, low, high) in AUC[name].items()
    ]
    about = {"members": 8, "controls": 7, "member_groups": None, "control_groups": None, "left_out": []}
    absent = {"loss": "copy_paste has no trained weights"} if name == "copy_paste" else {}
    files.write_json(paths.audit("toy", name) / "membership.json", about | {"attacks": attacks, "absent": absent})


def write_arms(segmenters: tuple[str, ...] = ("unet",)) -> None:
    """Leave the comparison."""
    rows = []
    for segmenter in segmenters:
        rows.append(arm("real", "reference", 0, 0.7))
        for name, (generator, multiplier, dice, val_dice) in ARMS.items():
            row = arm(name, "rival" if generator == "copy_paste" else "arm", multiplier, dice)
            rows.append(row | {"generator": generator, "val_dice": val_dice, "segmenter": segmenter})
    path = paths.comparison("toy") / "comparison.json"
    files.write_json(path, files.read_json(path) | {"arms": rows})
    tables.write_table(paths.comparison("toy") / "arms.csv", [{"training_set": row["training_set"]} for row in rows])
