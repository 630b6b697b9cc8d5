"""The report of a study: one HTML page that needs nothing else, figures, the files that `dvc` shows. No torch."""

from markupsafe import Markup

from pipeline.core import files, paths
from pipeline.core.errors import UserError
from pipeline.core.tables import write_metrics
from pipeline.stages.compare.comparison import collect_numbers, read_comparison, read_output
from pipeline.stages.report import legend, losses
from pipeline.stages.report.bench_table import FILE, bench_rows, write_bench
from pipeline.stages.report.charts import Charts, charts, sheets, write_figures
from pipeline.stages.report.content import page_content, page_pictures
from pipeline.stages.report.frame import render
from pipeline.stages.report.frontier import FILE as FRONTIER
from pipeline.stages.report.frontier import frontier_rows, write_frontier
from pipeline.stages.report.index import NUMBERS, write_index
from pipeline.stages.report.stage_outputs import stage_outputs
from pipeline.stages.report.summary import summary
from pipeline.study import Params

DATA_FILES = ("page.html.j2",)  # read by stages/records, so that an edit of it re-runs the report
SIDES = (256, 192, 128, 96)  # pixels of a picture: the largest that lets the page be smaller than SHARED
SHARED = 3 * 1000**2  # bytes of a page that every mail server and chat takes
LARGEST = 15 * 1000**2  # bytes of a page with more pictures than SHARED holds


def write_report(params: Params) -> None:
    """Write metrics.json, numbers.json, three tables (CSV), losses/, figures/ and index.html below reports/<study>/.

    The list of all reports follows.
    """
    study, generators, folder = params.study, list(params.generators), paths.report(params.study)
    for inner in (paths.REPORTS, folder, folder / "losses"):
        files.sweep(inner)
    for _, output in stage_outputs(params):
        files.check(output)
    comparison = read_comparison(study)
    numbers = collect_numbers(study, generators, has_judge=params.judge is not None)
    write_metrics(folder / NUMBERS, numbers | {"title": params.report.title})
    scores = {name: read_output(paths.scores(study, name) / "metrics.json") for name in generators}
    write_metrics(folder / "metrics.json", summary(comparison, scores, params.training_sets))
    curve = paths.comparison(study) / "multiplier_curve.csv"
    files.write_bytes(folder / "multiplier_curve.csv", curve.read_bytes())
    write_bench(folder / FILE, bench_rows(study, params.generators, params.score.extractors, comparison))
    write_frontier(folder / FRONTIER, frontier_rows(study, params.generators, comparison))
    runs = [*losses.read_runs(study, generators), *losses.read_arms(study, params.segmenters)]
    losses.write_totals(folder / "losses", runs)
    drawn = charts(params, comparison)
    write_figures(folder / "figures", drawn, sheets(params))
    files.write_bytes(folder / "index.html", page(params, drawn).encode())
    write_index()


def page(params: Params, drawn: Charts | None = None) -> str:
    """Return the page as text, its pictures as large as a page smaller than SHARED allows.

    Where there are too many for that, they are as small as they get. Raises UserError where the page is larger than
    LARGEST even so.
    """
    content = page_content(params, drawn or charts(params, read_comparison(params.study)))
    symbols = {name: Markup(drawn) for name, drawn in legend.SYMBOLS.items()}
    text = ""
    for side in SIDES:
        pictures = page_pictures(params, side)
        text = render("page.html.j2", content=content, pictures=pictures, meanings=legend.COLUMNS, symbols=symbols)
        if len(text.encode()) < SHARED:
            return text
    size = len(text.encode())
    if size < LARGEST:
        return text
    raise UserError(
        f"the report would have {size / 1e6:.1f} MB, more than {LARGEST / 1e6:.0f}; show fewer pictures:"
        f" report.samples is {params.report.samples}, audit.pictures is {params.audit.pictures}"
    )
