"""The `ercohort` command: the package's functions by hand, on one slide or one file."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ercohort import __version__
from ercohort.errors import ErcohortError

app = typer.Typer(
    help="Whole-slide ER immunohistochemistry, from a sheet of slides to one table. Research use only.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

if TYPE_CHECKING:
    from rich.console import RenderableType

ConfigOption = Annotated[Path, typer.Option("--config", help="Settings; config/README.md lists them.")]


def _print(tables: RenderableType) -> None:
    """Print tables; into a file or a pipe they get the width that they need."""
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console = Console(width=130)
    console.print(tables)


def main() -> None:
    """Run the command line; an error that ercohort raises on purpose is one line and exit code 1."""
    try:
        app()
    except ErcohortError as error:
        print(f"ercohort: {error}", file=sys.stderr)
        raise SystemExit(1) from None


def _version(wanted: bool) -> None:
    if wanted:
        print(f"ercohort {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Hold the options of the command itself."""


@app.command()
def run(
    slide: Annotated[str, typer.Argument(help="The slide file, or a DICOM folder.")],
    out: Annotated[Path, typer.Option(help="Folder for the results.")],
    mpp: Annotated[float | None, typer.Option(help="µm per pixel, if the file's is wrong.")] = None,
    roi: Annotated[
        Path | None, typer.Option(help="QuPath file of the regions that count; all tissue if left out.")
    ] = None,
    gpu: Annotated[int, typer.Option(help="0 for the CPU.")] = 1,
    config: ConfigOption = Path("config/config.yaml"),
) -> None:
    """Take one slide from its file to its score, without Snakemake."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from ercohort.cohort import format_regions, format_table
    from ercohort.config import load_config
    from ercohort.run import run_slide

    settings = load_config(config)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("starting", total=None)
        made = run_slide(
            slide,
            out,
            settings,
            mpp=mpp,
            gpu=gpu,
            roi=None if roi is None else str(roi),
            report=lambda step, done, total: bar.update(task, description=step, completed=done, total=total),
        )
        bar.update(task, description="done", completed=1, total=1)
    _print(format_table([made.row]))
    if roi is not None and made.regions:
        print()
        _print(format_regions(made.regions))
    print(f"Written to {made.folder}")


@app.command()
def simulate(
    out: Annotated[Path, typer.Argument(help="The slide to write (.tiff), or with --cohort a folder.")],
    cohort: Annotated[
        bool, typer.Option("--cohort", help="A small cohort with its sheet and slides bad on purpose.")
    ] = False,
    width: Annotated[int, typer.Option(help="Pixels.")] = 6000,
    height: Annotated[int, typer.Option(help="Pixels.")] = 4000,
    mpp: Annotated[float, typer.Option(help="µm per pixel.")] = 0.5,
    percent_positive: Annotated[float, typer.Option(help="Of one slide, 0 to 100.")] = 40.0,
    tissue: Annotated[bool, typer.Option(help="Tissue on one slide, or glass alone.")] = True,
    tissue_share: Annotated[
        float | None, typer.Option(help="Share of one slide that is tissue, 0 to 1; by the seed if left out.")
    ] = None,
    nuclei_per_mm2: Annotated[
        float | None,
        typer.Option(help="Tumour nuclei per mm² of tissue: sheets of tumour; nests in stroma if left out."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same slides.")] = 1,
) -> None:
    """Simulate slides with known truth: every planted nucleus is in a table beside its slide."""
    from rich.console import Console

    from ercohort.simulate import simulate_cohort, simulate_slide

    with Console(stderr=True).status("drawing simulated slides"):
        if cohort:
            truths = simulate_cohort(out, width=width, height=height, mpp=mpp, seed=seed)
        else:
            truth = simulate_slide(
                out,
                width=width,
                height=height,
                mpp=mpp,
                percent_positive=percent_positive,
                tissue=tissue,
                tissue_share=tissue_share,
                nuclei_per_mm2=nuclei_per_mm2,
                seed=seed,
            )
            truths = [truth]
    for truth in truths:
        planted = truth.n_positive + truth.n_negative
        print(f"{truth.path}: simulated, {planted:,} nuclei, {truth.n_positive:,} of them positive")


@app.command()
def evaluate(
    results: Annotated[Path, typer.Argument(help="A results folder of the workflow, or a nuclei.parquet.")],
    truth: Annotated[Path, typer.Argument(help="Folder with <slide>/points.csv, or simulated truth.")],
    radius_um: Annotated[float, typer.Option(help="Greatest distance of a match, µm.")] = 5.0,
    method: Annotated[
        Literal["hungarian", "greedy"], typer.Option(help="How detections and points are paired.")
    ] = "hungarian",
    mpp: Annotated[float | None, typer.Option(help="µm per pixel, where no file states it.")] = None,
    score: Annotated[
        float | None, typer.Option(help="Only nuclei above this score; all that the table holds if left out.")
    ] = None,
    bootstrap: Annotated[int, typer.Option(help="Resamples of the slides, for intervals.")] = 2000,
    seed: Annotated[int, typer.Option(help="Of the resamples.")] = 1,
    pictures: Annotated[bool, typer.Option(help="Draw curves, agreement and the worst fields too.")] = True,
    out: Annotated[Path | None, typer.Option(help="Folder for tables and pictures.")] = None,
) -> None:
    """Compare detected nuclei with annotated ones."""
    from ercohort.annotated import load_annotated
    from ercohort.evaluate import evaluate_slides
    from ercohort.evaluation_output import write_outputs
    from ercohort.evaluation_report import format_evaluation

    annotated = load_annotated(results, truth, mpp=mpp)
    evaluation = evaluate_slides(
        annotated,
        radius_um=radius_um,
        method=method,
        score=score,
        curve_from=0.05 if pictures and out is not None else None,
        bootstrap=bootstrap,
        seed=seed,
    )
    _print(format_evaluation(evaluation))
    if out is not None:
        write_outputs(out, evaluation, annotated, pictures=pictures)
        print(f"Written to {out}")


@app.command()
def score(
    nuclei: Annotated[Path, typer.Argument(help="A nuclei.parquet.")],
    tissue_mm2: Annotated[float | None, typer.Option(help="Area of tissue, mm².")] = None,
) -> None:
    """Print the score of one slide's nuclei as JSON."""
    from ercohort.scoring import summarise

    print(json.dumps(summarise(nuclei, tissue_mm2=tissue_mm2), indent=2))


@app.command("table")
def show_table(
    cohort: Annotated[Path, typer.Argument(help="A cohort table.")] = Path("results/cohort_er.csv"),
) -> None:
    """Print a cohort table as the last screen of a run shows it."""
    from ercohort.cohort import format_table, read_cohort

    _print(format_table(read_cohort(cohort)))


@app.command()
def verify(
    results: Annotated[Path, typer.Argument(help="A results folder, or what `run` made.")] = Path("results"),
) -> None:
    """Check that results are as they were written: checksums, counts, slide files."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    from ercohort.cohort import one_line
    from ercohort.verify import verify_results

    columns = (TextColumn("reading"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    screen = Console(stderr=True)
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bar:
        task = bar.add_task("reading", total=None)
        found = verify_results(results, lambda done, total: bar.update(task, completed=done, total=total))
    for note in found.notes:
        print(f"note: {one_line(note)}")
    for problem in found.problems:
        print(one_line(problem))
    n = len(found.problems)
    verdict = f"{n:,} problem{'s' * (n != 1)}" if n else "as they were written"
    print(f"{found.n_slides:,} slides, {found.n_files:,} files: {verdict}")
    raise typer.Exit(1 if n else 0)


@app.command()
def view(
    results: Annotated[Path, typer.Argument(help="A results folder of the workflow.")] = Path("results"),
    slide: Annotated[str | None, typer.Argument(help="A slide's id; the report if left out.")] = None,
    port: Annotated[int, typer.Option(help="0 takes a free one.")] = 0,
    browser: Annotated[bool, typer.Option(help="Open the browser.")] = True,
) -> None:
    """Show the report, and slides with their nuclei, in the browser of this machine."""
    from ercohort.report.serve import make_server, start_page

    server = make_server(results, port)
    address = server.address + start_page(server.viewer, slide)
    print(f"{address}\nOnly this machine can open it, with this very address. Ctrl-C ends it.", flush=True)
    if browser:
        import webbrowser

        webbrowser.open(address)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print()


@app.command("validate-geojson")
def validate(files: Annotated[list[Path], typer.Argument(help="GeoJSON files, also .gz and .zip.")]) -> None:
    """Check files by the rules of QuPath's reader: all that is wrong, and what QuPath would make of it."""
    from ercohort.errors import GeoJSONError
    from ercohort.geojson_validate import validate_geojson
    from ercohort.inert import first_few, one_line

    problems: list[str] = []
    for file in files:
        try:
            report = validate_geojson(file)
        except GeoJSONError as error:
            problems += str(error).split("\n")
            continue
        classes = first_few(f"{one_line(name)[:80]} {count:,}" for name, count in report.n_by_class.items())
        listed = ", ".join(classes) or "no classes"
        print(f"{file}: {report.n_features:,} objects in {report.n_files} files; {listed}")
        for warning in report.warnings:
            print(f"{file}: {warning}", file=sys.stderr)
    if problems:
        raise GeoJSONError(*problems)


@app.command()
def doctor(config: ConfigOption = Path("config/config.yaml")) -> None:
    """Tell what this machine can do, and what is wrong with it."""
    from ercohort.doctor import examine

    well = True
    for good, name, seen in examine(config):
        well &= good
        print(f"{'ok ' if good else 'BAD'} {name:<11} {seen}")
    raise typer.Exit(0 if well else 1)


@app.command("config-schema")
def config_schema(
    out: Annotated[Path, typer.Argument()] = Path("workflow/schemas/config.schema.json"),
) -> None:
    """Write the JSON schema of config.yaml, for editors."""
    from ercohort.config import Config
    from ercohort.files import write_json

    write_json(out, Config.model_json_schema())
