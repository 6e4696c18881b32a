# What a person opens: the QuPath file and the pictures. One job, since starting another costs more than drawing.


rule geojson_overlay:
    input:
        slide="results/slides/{slide}/slide.json",
        mask="results/slides/{slide}/tissue.png",
        tiles="results/slides/{slide}/tiles.parquet",
        nuclei="results/slides/{slide}/nuclei.parquet",
        summary="results/slides/{slide}/summary.json",
    output:
        geojson="results/slides/{slide}/nuclei.geojson.zip",
        overlay="results/slides/{slide}/overlay.jpg",
        heatmap="results/slides/{slide}/heatmap.png",
        fields="results/slides/{slide}/fields.jpg",
        od_histogram="results/slides/{slide}/od_histogram.png",
    log:
        "results/logs/{slide}/geojson_overlay.log",
    benchmark:
        "results/benchmarks/{slide}/geojson_overlay.tsv"
    retries: 1
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=reader_mb(2000),
        runtime=30,
        guarded=guarded_reading,
    params:
        geojson=CONFIG.geojson.model_dump(),
        regions=slide_regions,
        scores=CONFIG.scores.model_dump(),
        min_dab_od=CONFIG.detect.min_dab_od,
        version=STEP_VERSION["geojson_overlay"],
    message:
        "{wildcards.slide}: writing and checking the QuPath file, drawing the pictures"
    script:
        "../scripts/geojson_overlay.py"
