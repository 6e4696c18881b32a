# From a slide file to the tiles that hold tissue.


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
        mem_mb=1000,
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


rule tissue_mask:
    input:
        slide=readable_slide,
        conversion=conversion_record,
    output:
        slide="results/slides/{slide}/slide.json",
        mask="results/slides/{slide}/tissue.png",
        thumbnail="results/slides/{slide}/thumbnail.jpg",
    log:
        "results/logs/{slide}/tissue_mask.log",
    benchmark:
        "results/benchmarks/{slide}/tissue_mask.tsv"
    retries: 1
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=20,
    params:
        path=slide_path,
        mpp=slide_mpp,
        fingerprint=slide_fingerprint,
        tissue=CONFIG.tissue.model_dump(),
        version=STEP_VERSION["tissue_mask"],
    message:
        "{wildcards.slide}: finding the tissue"
    script:
        "../scripts/tissue_mask.py"


rule tile_manifest:
    input:
        slide="results/slides/{slide}/slide.json",
        mask="results/slides/{slide}/tissue.png",
    output:
        "results/slides/{slide}/tiles.parquet",
    log:
        "results/logs/{slide}/tile_manifest.log",
    benchmark:
        "results/benchmarks/{slide}/tile_manifest.tsv"
    retries: 1
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=10,
    params:
        tiles=CONFIG.tiles.model_dump(),
        detector_mpp=MODEL.mpp,
        regions=slide_regions,
        version=STEP_VERSION["tile_manifest"],
    message:
        "{wildcards.slide}: laying out the tiles"
    script:
        "../scripts/tile_manifest.py"
