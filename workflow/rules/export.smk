# What a person opens: the QuPath file and the pictures.


rule geojson:
    input:
        slide="results/slides/{slide}/slide.json",
        nuclei="results/slides/{slide}/nuclei.parquet",
    output:
        "results/slides/{slide}/nuclei.geojson.zip",
    log:
        "results/logs/{slide}/geojson.log",
    benchmark:
        "results/benchmarks/{slide}/geojson.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        geojson=CONFIG.geojson.model_dump(),
        version=STEP_VERSION["geojson"],
    message:
        "{wildcards.slide}: writing and checking the QuPath file"
    script:
        "../scripts/geojson.py"


rule overlay:
    input:
        slide="results/slides/{slide}/slide.json",
        mask="results/slides/{slide}/tissue.png",
        nuclei="results/slides/{slide}/nuclei.parquet",
        summary="results/slides/{slide}/summary.json",
    output:
        overlay="results/slides/{slide}/overlay.jpg",
        heatmap="results/slides/{slide}/heatmap.png",
    log:
        "results/logs/{slide}/overlay.log",
    benchmark:
        "results/benchmarks/{slide}/overlay.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        version=STEP_VERSION["overlay"],
    message:
        "{wildcards.slide}: drawing the overlay"
    script:
        "../scripts/overlay.py"
