"""The confirmation of the arm that validation chose: what the stage confirm has trained with fresh seeds."""

from pipeline.core import files, paths
from pipeline.core.errors import UserError
from pipeline.stages.compare import machines
from pipeline.stages.compare.results import Record, Results, read_cells
from pipeline.stages.confirm.choice import RECORD


def read_confirmation(study: str) -> tuple[Record, Results] | None:
    """Return choice.json, and the scores of its training sets, the reference among them; None without a confirmation.

    choice.json has `segmenter`, `training_sets` (of the chosen treatment, one per trained generator), `reference`,
    `seeds`, `rival` where the study has one, and `candidates` with the validation Dice of each. Raises UserError where
    the stage confirm has not run, where a score is missing, or where cells of one seed come from different machines.
    """
    folder = paths.confirmation(study)
    if not (folder / RECORD).is_file():
        raise UserError(f"{folder / RECORD} does not exist; run the stage confirm")
    files.check(folder)
    choice: Record = files.read_json(folder / RECORD)
    if not choice["seeds"]:
        return None
    training_sets = [choice["reference"], *choice["training_sets"], *filter(None, [choice.get("rival")])]
    results = read_cells(folder / "scores.csv", study, choice["seeds"], training_sets)
    machines.check_arms(choice["segmenter"], results.machines, choice["reference"], stage="confirm")
    return choice, results
