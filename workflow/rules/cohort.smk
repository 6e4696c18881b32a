# The table: one row for every row of the sheet, always. And what proves it: how it was made, and checksums.


# `update`: Snakemake would remove the tables before the job, and one that fails must not cost those of before.
rule cohort:
    input:
        summaries=collect("results/slides/{slide}/summary.json", slide=SAMPLES),
        engine="results/engine/engine.json",
    output:
        **GROUP_TABLE,
        table=report(
            update("results/cohort_er.csv"),
            caption="../report/cohort_er.rst",
            category="Cohort",
        ),
        parquet=update("results/cohort_er.parquet"),
        timings=update("results/timings.csv"),
        record=update("results/run.json"),
        regions=update("results/cohort_er_regions.csv"),
        regions_parquet=update("results/cohort_er_regions.parquet"),
    log:
        "results/logs/cohort.log",
    benchmark:
        "results/benchmarks/cohort.tsv"
    retries: 1
    localrule: True
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=10,
    params:
        sheet=preflight.sheet_columns(SAMPLES),
        config=CONFIG.model_dump(mode="json"),
        false_positive_percent=MODEL.false_positive_percent,
        version=STEP_VERSION["cohort"],
    message:
        "Writing the cohort table"
    script:
        "../scripts/cohort.py"


# After everything else, and none of it read again: each step noted the checksums of what it wrote.
rule checksums:
    input:
        "results/cohort_er.csv",
        "results/timings.csv",
        "results/run.json",
        # The pictures are of the same job.
        collect("results/slides/{slide}/nuclei.geojson.zip", slide=SAMPLES),
    output:
        "results/checksums.sha256",
    log:
        "results/logs/checksums.log",
    benchmark:
        "results/benchmarks/checksums.tsv"
    localrule: True
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=10,
    params:
        slides=list(SAMPLES),
        version=STEP_VERSION["checksums"],
    message:
        "Collecting checksums"
    script:
        "../scripts/checksums.py"


rule strict:
    input:
        "results/cohort_er.csv",
    output:
        touch("results/strict.ok"),
    log:
        "results/logs/strict.log",
    localrule: True
    conda:
        "../../envs/cpu.yaml"
    params:
        version=STEP_VERSION["cohort"],
    message:
        "Checking that every slide has a good status"
    script:
        "../scripts/strict.py"
