# What a person opens first: the cohort in the browser. One job for all slides.


rule report:
    input:
        table="results/cohort_er.csv",
        # Made after every file of every slide: naming those here again costs seconds of planning.
        checksums="results/checksums.sha256",
    output:
        page="results/report/index.html",
        plot=report(
            "results/report/percent_positive.svg",
            caption="../report/percent_positive.rst",
            category="Cohort",
            labels={"picture": "Percent positive of all slides"},
        ),
        examples=report(
            "results/report/examples.jpg",
            caption="../report/examples.rst",
            category="Cohort",
            labels={"picture": "A few slides"},
        ),
    log:
        "results/logs/report.log",
    benchmark:
        "results/benchmarks/report.tsv"
    localrule: True
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        sheet=preflight.sheet_columns(SAMPLES),
        version=STEP_VERSION["report"],
    message:
        "Writing the report"
    script:
        "../scripts/report.py"
