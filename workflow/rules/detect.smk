# From tiles to nuclei, each once.


rule detect_shard:
    input:
        slide="results/slides/{slide}/slide.json",
        tiles="results/slides/{slide}/tiles.parquet",
        engine="results/engine/engine.json",
    output:
        detections=temp("results/slides/{slide}/shards/{scatteritem}.parquet"),
        record=temp("results/slides/{slide}/shards/{scatteritem}.json"),
    log:
        "results/logs/{slide}/detect_{scatteritem}.log",
    benchmark:
        "results/benchmarks/{slide}/detect_{scatteritem}.tsv"
    priority: 10
    retries: 1
    conda:
        "../../envs/cpu.yaml"
    threads: 8
    resources:
        gpu=1,
        mem_mb=reader_mb(2000),
        runtime=240,
        guarded=guarded_reading,
    params:
        model=MODEL.path,
        detect=CONFIG.detect.model_dump(exclude={"max_failed_share", "min_dab_od"}),
        tile_px=CONFIG.tiles.tile_px,
        version=STEP_VERSION["detect_shard"],
    message:
        "{wildcards.slide}: detecting nuclei, shard {wildcards.scatteritem}"
    script:
        "../scripts/detect_shard.py"


rule merge:
    input:
        slide="results/slides/{slide}/slide.json",
        detections=gather.shard("results/slides/{{slide}}/shards/{scatteritem}.parquet"),
        records=gather.shard("results/slides/{{slide}}/shards/{scatteritem}.json"),
        mask="results/slides/{slide}/tissue.png",
    output:
        nuclei="results/slides/{slide}/nuclei.parquet",
        summary="results/slides/{slide}/summary.json",
        failed_tiles="results/slides/{slide}/failed_tiles.csv",
    log:
        "results/logs/{slide}/merge.log",
    benchmark:
        "results/benchmarks/{slide}/merge.tsv"
    retries: 1
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=1500,
        runtime=30,
    params:
        detect=CONFIG.detect.model_dump(exclude={"score"}),
        scores=CONFIG.scores.model_dump(),
        quality=CONFIG.quality.model_dump(),
        regions=slide_regions,
        detector_mpp=MODEL.mpp,
        shards=SHARD_SETTINGS,
        false_positive_percent=MODEL.false_positive_percent,
        version=STEP_VERSION["merge"],
    message:
        "{wildcards.slide}: merging shards and counting"
    script:
        "../scripts/merge.py"
