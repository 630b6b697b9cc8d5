"""Stage confirm: train the arm that validation chose, the reference and the best rival with seeds new to the study.

The highest of several noisy validation scores is partly luck, and the luck of a seed shows on test images too. Fresh
seeds have no such luck: what they measure is not biased by the choice (benchmarks/selection_bias.py). The cells are
those of the stage segment in all but the seeds: shared out to all processes, and never run twice.
"""

import logging
from dataclasses import replace

from pipeline.core import files, paths
from pipeline.core.errors import UserError
from pipeline.core.runtime import Runtime
from pipeline.stages.compare.params import reference_of, rivals
from pipeline.stages.confirm.choice import RECORD, Choice, best_rival, candidates, choose, validation_dice
from pipeline.stages.confirm.params import Confirm
from pipeline.stages.finetune.params import rival_generators
from pipeline.stages.mix.treatments import treatments
from pipeline.stages.segment.cells import SegmenterSetup
from pipeline.stages.segment.grid import plan, run_cells
from pipeline.stages.segment.output import Results, write_tables
from pipeline.study import Params

log = logging.getLogger(__name__)


def confirm(params: Params, settings: Confirm, runtime: Runtime) -> None:
    """Choose an arm, run its cells that are not finished yet over all processes, and publish choice and tables."""
    choice = choose_arm(params, settings)
    setup = confirmation_setup(params, choice)
    cells = plan(setup)
    run_cells(setup, cells, f"confirm {setup.name}", runtime)
    if not runtime.is_main:
        return
    record, results = choice.record(), Results.of(setup, cells)
    work = paths.work("confirm", files.fingerprint(record, results.fingerprint))
    write_tables(work, results)
    files.write_json(work / RECORD, record)
    files.publish(work, paths.confirmation(params.study))
    arm = " and ".join(choice.chosen.training_sets)
    log.info("confirm: %s, %s (validation Dice %.4f)", setup.name, arm, choice.chosen.val_dice)


def choose_arm(params: Params, settings: Confirm) -> Choice:
    """Return the arm with the highest validation Dice of the finished grids, and its best rival.

    Raises UserError without a score.
    """
    reference = params.compare.reference
    there = treatments(params.training_sets, params.generators, reference)
    against = rivals(params.training_sets, rival_generators(params.generators), reference)
    names = [*(name for one in there for name in one.training_sets), *against]
    means: dict[tuple[str, str], float] = {}
    for segmenter in params.segmenters:
        means |= validation_dice(params.study, segmenter, names, params.segment.seeds)
    found = candidates(means, there)
    chosen = choose(found)
    if chosen is None:
        raise UserError("params.yaml: confirm has no arm to choose; set confirm: null")
    own = reference_of(params.training_sets, reference, chosen.training_sets[0])
    alike = [name for name in against if reference_of(params.training_sets, reference, name) == own]
    return Choice(chosen, own, settings.seeds, tuple(found), best_rival(means, chosen.segmenter, alike))


def confirmation_setup(params: Params, choice: Choice) -> SegmenterSetup:
    """Return the chosen segmenter's setup with the fresh seeds, on the reference and the chosen training sets."""
    setup = SegmenterSetup.of(params, choice.chosen.segmenter)
    segment = setup.segment.model_copy(update={"seeds": choice.seeds, "keep": "none"})
    sets = {name: setup.training_sets[name] for name in choice.training_sets}
    return replace(setup, segment=segment, training_sets=sets)
