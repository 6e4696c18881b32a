# The table: one row for every row of the sheet, always.


rule cohort:
    input:
        collect("results/slides/{slide}/summary.json", slide=SAMPLES),
    output:
        "results/cohort_er.csv",
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
        mem_mb=1000,
        runtime=10,
    params:
        sheet=preflight.sheet_columns(SAMPLES),
        version=STEP_VERSION["cohort"],
    message:
        "Writing the cohort table"
    script:
        "../scripts/cohort.py"


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
