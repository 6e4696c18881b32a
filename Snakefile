# ercohort: from config/samples.tsv to results/cohort_er.csv. How to use it: config/README.md
from snakemake.utils import min_version

min_version("9.20")


configfile: "config/config.yaml"


report: "workflow/report/workflow.rst"


# Shards per slide; `--set-scatter shard=4` spreads one slide over four GPUs.
scattergather:
    shard=1,


include: "workflow/rules/planning.smk"
include: "workflow/rules/common.smk"
include: "workflow/rules/hooks.smk"
include: "workflow/rules/engine.smk"
include: "workflow/rules/tissue.smk"
include: "workflow/rules/detect.smk"
include: "workflow/rules/export.smk"
include: "workflow/rules/cohort.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/loop.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"


rule all:
    default_target: True
    input:
        "results/cohort_er.csv",
        "results/report/index.html",
        "results/checksums.sha256",
        # One of each step: Snakemake does not miss a file in the middle that a failed step has left undone.
        collect(
            "results/slides/{slide}/{file}",
            slide=SAMPLES,
            file=["slide.json", "nuclei.parquet", "nuclei.geojson.zip"],
        ),
        branch(CONFIG.strict, then="results/strict.ok", otherwise=[]),
    message:
        "The cohort is complete"


if not workflow.is_main_process:
    set_retries()


onstart:
    begin()


onsuccess:
    print(finish())


onerror:
    print(error_screen())
