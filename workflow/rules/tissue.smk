# From a slide file to the tiles that hold tissue. One job, since starting another costs more than the tiles.


rule convert:
    output:
        slide="results/slides/{slide}/converted.tif",
        record="results/slides/{slide}/converted.json",
    log:
        "results/logs/{slide}/convert.log",
    benchmark:
        "results/benchmarks/{slide}/convert.tsv"
    retries: 1
    conda:
        "../../envs/cpu.yaml"
    threads: 2
    resources:
        mem_mb=reader_mb(1000),
        runtime=60,
    params:
        path=slide_path,
        mpp=slide_mpp,
        fingerprint=slide_fingerprint,
        version=STEP_VERSION["convert"],
    message:
        "{wildcards.slide}: turning a flat picture into a tiled slide"
    script:
        "../scripts/convert.py"


rule tissue_tiles:
    input:
        slide=readable_slide,
        conversion=conversion_record,
    output:
        slide="results/slides/{slide}/slide.json",
        mask="results/slides/{slide}/tissue.png",
        thumbnail="results/slides/{slide}/thumbnail.jpg",
        tiles="results/slides/{slide}/tiles.parquet",
    log:
        "results/logs/{slide}/tissue_tiles.log",
    benchmark:
        "results/benchmarks/{slide}/tissue_tiles.tsv"
    retries: 1
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=reader_mb(1000),
        runtime=20,
    params:
        path=slide_path,
        mpp=slide_mpp,
        fingerprint=slide_fingerprint,
        tissue=CONFIG.tissue.model_dump(),
        stain=CONFIG.stain.model_dump(),
        tiles=CONFIG.tiles.model_dump(),
        detector_mpp=MODEL.mpp,
        regions=slide_regions,
        version=STEP_VERSION["tissue_tiles"],
    message:
        "{wildcards.slide}: finding the tissue, laying out the tiles"
    script:
        "../scripts/tissue_tiles.py"
