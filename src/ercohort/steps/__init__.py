"""The body of every rule: files in, files out.

A step reads what earlier steps left in the slide's folder, calls the module that does the work, and writes
its outputs under their final names only when they are whole. A slide with a bad status passes through all
steps and leaves valid, empty outputs, so that every row of the sheet becomes a row of the table.
"""

from ercohort.steps.cohort import write_cohort_table
from ercohort.steps.dataset import build_labelled_dataset
from ercohort.steps.detect import detect_nuclei
from ercohort.steps.engine import prepare_engine
from ercohort.steps.evaluate import evaluate_cohort, find_candidates
from ercohort.steps.export import draw_pictures, export_geojson
from ercohort.steps.export_model import export_detector
from ercohort.steps.merge import merge_slide
from ercohort.steps.prelabel import prelabel_slide
from ercohort.steps.tissue import convert_slide, lay_out_tiles, mask_tissue
from ercohort.steps.train import generate_tiles, train_detector

__all__ = [
    "build_labelled_dataset",
    "convert_slide",
    "detect_nuclei",
    "draw_pictures",
    "evaluate_cohort",
    "export_detector",
    "export_geojson",
    "find_candidates",
    "generate_tiles",
    "lay_out_tiles",
    "mask_tissue",
    "merge_slide",
    "prelabel_slide",
    "prepare_engine",
    "train_detector",
    "write_cohort_table",
]
