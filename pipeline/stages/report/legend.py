"""What the marks of figures, the columns of tables and the colours of masks mean, as the page says it beside them."""

from collections.abc import Mapping

Key = tuple[tuple[str, str], ...]  # a symbol of SYMBOLS, and its meaning in this figure

# Drawn in a box of 32 x 12, in the colour of the text. The template puts them into an <svg>.
SYMBOLS: Mapping[str, str] = {
    "line": '<path d="M1 6H31" fill="none" stroke="currentColor" stroke-width="2"/>',
    "dashed": '<path d="M1 6H31" fill="none" stroke="currentColor" stroke-width="2" stroke-dasharray="4 3"/>',
    "dotted": '<path d="M1 6H31" fill="none" stroke="currentColor" stroke-width="2" stroke-dasharray="1.5 3"/>',
    "band": '<rect x="1" y="1" width="30" height="10" fill="currentColor" fill-opacity=".25"/>',
    "bar": '<path d="M16 1V11M12 1H20M12 11H20" fill="none" stroke="currentColor" stroke-width="1.5"/>',
    "sign": '<circle cx="16" cy="6" r="4" fill="currentColor"/>',
    "signs": '<circle cx="6" cy="6" r="3.5" fill="currentColor"/><rect x="13" y="2.5" width="7" height="7"'
    ' fill="currentColor"/><path d="M27 1L31 6L27 11L23 6Z" fill="currentColor"/>',
    "right": '<path d="M11 1L21 6L11 11Z" fill="currentColor"/>',
    "left": '<path d="M21 1L11 6L21 11Z" fill="currentColor"/>',
    "diamond": '<path d="M16 1L21 6L16 11L11 6Z" fill="currentColor"/>',
    "filled": '<rect x="1" y="1" width="30" height="10" fill="currentColor"/>',
    "outline": '<path d="M1 6H31" stroke="#080c14" stroke-width="9"/>'
    '<path d="M1 6H31" stroke="#40ffa0" stroke-width="3"/>',
    "hatched": '<rect x="1" y="1" width="30" height="10" fill="none" stroke="currentColor"/>'
    '<path d="M4 11L14 1M12 11L22 1M20 11L30 1" stroke="currentColor"/>',
}

CURVE: Key = (
    ("line", "one generator, named in the figure; its markers are at the multipliers that were trained"),
    ("bar", "confidence interval of a mean"),
    ("dashed", "the reference: real images only"),
    ("band", "confidence interval of the reference"),
)
CEILINGS: Key = (("line", "grey, without markers: a training set with more real images"),)
DIFFERENCES: Key = (
    ("line", "confidence interval of a difference"),
    ("right", "better"),
    ("left", "worse"),
    ("diamond", "equivalent"),
    ("sign", "inconclusive"),
    ("dashed", "no difference"),
    ("band", "the margin within which two arms count as equivalent"),
)
LOSSES: Key = (
    ("line", "one loss, named in the figure; each point is the mean over a fiftieth of the run"),
    ("signs", "distinguish the lines; they mark no particular step"),
)
VALIDATION: Key = (
    ("line", "one loss, named in the figure"),
    ("signs", "the steps at which it was computed"),
)
FEATURES: Key = (("signs", "one image each; colour and marker show its kind, as named in the figure"),)
SNAPSHOTS: Key = (
    ("line", "the score"),
    ("sign", "a snapshot that was scored"),
    ("band", "confidence interval, where the score has one"),
)
OVER_SEEDS: Key = (
    ("line", "mean over the seeds of one segmenter, named in the figure"),
    ("band", "from the worst to the best seed"),
    ("signs", "distinguish the lines"),
)
BOUNDARY: Key = (
    ("line", "the weight at one time t, named in the figure"),
    ("signs", "distinguish the lines"),
)
EXCHANGE: Key = (
    ("line", "the curve of real images alone; other lines are named in the figure"),
    ("signs", "the numbers of real pairs that were measured"),
    ("bar", "confidence interval of a mean"),
    ("band", "confidence interval of the curve, or of the line of the same colour"),
    ("dashed", "grey: the power law fitted to real images alone"),
    ("dotted", "the reading of the exchange rate: from an arm to the number of real pairs that reach its Dice"),
)
FRONTIER: Key = (
    (
        "signs",
        "one generator in the arm that validation chose; colour and marker show its epsilon",
    ),
    (
        "bar",
        "confidence intervals: vertical for Dice, horizontal for the AUC; without a bar, there is none",
    ),
    ("dashed", "an AUC of 0.5: the attack only guesses"),
    ("dotted", "no difference in Dice from the reference"),
)
KEPT: Key = (("filled", "images that were kept"), ("hatched", "images that were dropped"))

COLUMNS: Mapping[str, str] = {
    "real pairs": "the number of real pairs on which the segmenter was trained, beside the images of the line",
    "line": "real images alone, or what was added to them: a multiplier of a generator, or the settings of a control",
    "equals real pairs": "the number of real pairs that reach the same Dice without synthetic images; at least and at"
    " most mark the ends of what was measured",
    "exchange rate": "that number divided by the real pairs of the row",
    "by the power law": "the number of real pairs at which the fitted power law reaches the same Dice",
    "worth of labels": "how much Dice rises with the labels that the row names, along the curve of real images",
    "worth of images": "how much Dice rises with the images that the row names: their share of the whole gain",
    "models": "the number of trained segmenters",
    "Dice minus power law": "the residual of the fitted power law",
    "segmenter": "the entry of the section segmenters",
    "generator": "the entry of the section generators",
    "training set": "the entry of the section training_sets: the images on which the segmenter was trained",
    "multiplier": "the number of synthetic images per real training image",
    "method": "the method of the generators, with the options that they share",
    "subgroup": "the test images with one value, or in one band, of this column",
    "seeds": "the seeds of the generators over which this row averages",
    "Dice": "the mean Dice on real test images over seeds and images; 1 is a perfect mask",
    "IoU": "the mean intersection over union on the same images",
    "mean": "the mean of the metric over seeds and test images",
    "verdict": "better, worse, equivalent or inconclusive; then the role of an arm that is a control, rival, ceiling or"
    " baseline",
    "difference": "the mean of the paired differences from the reference",
    "faithfulness": "the mean Dice between the judge’s prediction on the generator’s images and their masks",
    "Fréchet distance": "between the features of the generator’s images and of the training images; less is better",
    "recall": "the share of the training images that lie among the generator’s images, by the distances between these",
    "suspected copies": "images that are closer to a training image than held-out real images are, and all images",
    "p (Holm)": "the p-value for no difference, corrected for the number of comparisons",
    "p (equal)": "the p-value of the equivalence test: small if the difference lies within the margin",
    "t": "the statistic of the paired t-test over cases",
    "p (t-test)": "its p-value, which is not corrected; * marks values below the level of the test",
    "improved": "the share of test images that gain",
    "worst tenth": "the mean difference over the tenth of the test images that lose most",
    "seed SD": "the standard deviation of the mean from seed to seed",
    "smallest": "the smallest difference that this study would find with the power of the section compare",
    "n": "the number of images behind the row",
    "Dice on validation images": "the mean by which the multiplier is chosen",
    "wins": "the share of resamples of seeds and validation images in which this multiplier is best",
    "chosen": "the best multiplier of this generator on validation images",
    "least": "the smallest difference among the generators",
    "most": "the largest difference among the generators",
    "SD between generators": "the standard deviation of the difference from generator to generator",
    "test images needed": "how many test images are needed with the seeds of this study",
    "seeds needed": "how many seeds are needed with the test images of this study",
    "smallest difference": "the smallest difference that this study would find equally often",
    "the paper’s method": "the method as the paper calls it",
    "segmenter here": "the entry of this study that corresponds to it",
    "training set here": "the training set of this study that corresponds to it",
    "metric": "the metric as the paper calls it, with its unit",
    "claimed": "the number that the paper states; ± is the spread that it prints",
    "measured": "what this study has measured for the same cell, in the same unit",
    "known": "read: in the paper’s text; corroborated: another source agrees on the number",
    "where": "the place in the paper",
    "score": "the score, its extractor, and the real images with which the synthetic ones are compared",
    "value": "the score of the generator’s images; in parentheses, what was left out and how it was computed",
    "floor": "the same score with real images in place of the synthetic ones",
    "p": "the probability of a value at least this large if synthetic and real images came from one distribution",
    "better": "whether a lower or a higher value is better",
    "images": "the number of synthetic images",
    "suspects": "images that are closer to a training image than held-out real images are",
    "share": "suspects per image",
    "false alarms expected": "the number of suspects that the threshold would give for new real images",
    "closer than held-out": "the share of pairs in which a synthetic image is closer to the training images than a"
    " held-out real one is; 0.5 means no difference",
    "spaces": "the distances that were used: of pixels, or of the features of an extractor",
    "attack": "the score by which an image is called a training image",
    "attacker has": "what the attacker needs to compute the score, apart from the image with its mask and prompt",
    "members": "the training images of the generator",
    "controls": "held-out real images that resemble no training image and share no patient with one",
    "epsilon": "the privacy budget that was spent on the generator, with delta and the unit that it protects; none:"
    " there is no guarantee",
    "AUC": "the chance that a training image has a larger score than a held-out one, with its 95 % interval; 0.5 is"
    " guessing",
    "found at 5 % false alarms": "the share of the training images above the threshold that at most 5 % of the controls"
    " exceed, with its exact 95 % interval, which counts images as independent; – with fewer than 20 controls",
    "found at 1 % false alarms": "the same for 1 % of the controls; – with fewer than 100 controls",
    "what it means": "the result in words",
    "image": "the id of the synthetic image",
    "nearest training image": "its id",
    "own source": "whether the synthetic image was made for the mask of that training image",
    "space": "the distance in which the two are closest",
    "flip": "how the training image was mirrored to fit",
    "criterion": "the rules of the screened training set",
    "kept": "images that stayed in the training set",
    "dropped by share": "images that the rule screen dropped; – means that the rule was not used",
    "by minimum Dice": "images that the rule screen_min_dice dropped",
    "as copies": "images that the rule drop_copies dropped",
    "Dice threshold": "the Dice below which images were dropped",
    "mean Dice before": "the mean Dice between the judge’s prediction and the mask, over all images",
    "after": "the same over the images that were kept",
    "ignored pixels": "pixels that no loss counts",
    "dropped for too few left": "images with too few pixels of their lesion left",
    "corrected labels": "pixels to which the judge has given a different label",
    "masks by number of images": "how many masks have how many images",
    "dropped by": "the rules that dropped the image",
    "run": "the training: a stage with its generator, or a segmenter with its training set",
    "loss": "the part of the objective",
    "steps": "the number of optimiser steps",
    "first": "the mean over the first fiftieth of the run",
    "last": "the mean over the last fiftieth of the run",
    "what": "the set, weights or parameters",
    "of": "how many, or which file",
    "hash": "the sha256 of the content",
}
