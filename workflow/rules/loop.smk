# What the rules of the labelling and training loop ask for: docs/training.md.
from functools import cache
from types import SimpleNamespace

from ercohort.points import find_truth
from ercohort.steps.dataset import find_label_files


def settings(*sections):
    """Sections of the config, as a rule's parameter: a step runs again when one that it uses changes."""
    return {section: CONFIG.model_dump(mode="json")[section] for section in sections}


def start_detector(wildcards):
    """The detector that training starts from, in the working directory or in the workflow's own folder."""
    base = CONFIG.train.base
    return ancient(preflight.find_model(base, Path(workflow.basedir))) if base else []


def known_nuclei(wildcards):
    """Where the regions of least certainty are asked for, the nuclei that the run found."""
    uncertain = CONFIG.prelabel.choose == "uncertain"
    return f"results/slides/{wildcards.slide}/nuclei.parquet" if uncertain else []


@cache
def labels_by_slide():
    """Corrected files by slide id; looked up once, not for every job."""
    try:
        return find_label_files(Path(CONFIG.dataset.labels), SAMPLES)
    except ErcohortError as error:
        raise SystemExit(f"ercohort: {error}") from None


def label_files(wildcards):
    return list(labels_by_slide().values())


def labelled_slides(wildcards):
    return list(converted_slides(wildcards).values())


def converted_slides(wildcards):
    """Pyramids made from flat pictures, by slide id."""
    files = {
        name: readable_slide(SimpleNamespace(slide=name)) for name in labels_by_slide()
    }
    return {name: file for name, file in files.items() if file}


def training_sets(wildcards):
    """The labelled set, the generated one, or both."""
    generated = CONFIG.train.n_virtual + CONFIG.train.n_simulated > 0
    return ["results/dataset/data.yaml"] * CONFIG.train.use_labels + [
        "results/generated/data.yaml"
    ] * generated


@cache
def annotated_slides():
    """Truth of the sheet's slides, by slide id."""
    try:
        truths = find_truth(CONFIG.evaluate.truth)
    except ErcohortError as error:
        raise SystemExit(f"ercohort: {error}") from None
    found = {name: truth for name, truth in truths.items() if name in SAMPLES}
    if not found:
        raise SystemExit(
            f"ercohort: {CONFIG.evaluate.truth}: holds no truth of a slide in {CONFIG.samples}; "
            "name its files as the sheet names the slides, or set evaluate.truth"
        )
    return found


def truth_files(wildcards):
    return [truth.points for truth in annotated_slides().values()]


def annotated_ids(wildcards):
    return list(annotated_slides())


def slide_truth(wildcards):
    return annotated_slides()[wildcards.slide].points


def candidate_files(wildcards):
    return collect(
        "results/evaluate/slides/{slide}/nuclei.parquet", slide=annotated_slides()
    )
