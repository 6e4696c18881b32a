# The detector against annotated nuclei. Asked for by name: docs/training.md.


rule candidates:
    input:
        slide="results/slides/{slide}/slide.json",
        truth=slide_truth,
        tiles="results/slides/{slide}/tiles.parquet",
        engine="results/engine/engine.json",
    output:
        slide="results/evaluate/slides/{slide}/slide.json",
        tiles="results/evaluate/slides/{slide}/tiles.parquet",
        nuclei="results/evaluate/slides/{slide}/nuclei.parquet",
        summary="results/evaluate/slides/{slide}/summary.json",
    log:
        "results/logs/{slide}/candidates.log",
    benchmark:
        "results/benchmarks/{slide}/candidates.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 8
    resources:
        gpu=1,
        mem_mb=2000,
        runtime=240,
    params:
        model=MODEL.path,
        config=settings("detect", "tiles", "evaluate", "dataset", "geojson"),
        detector_mpp=MODEL.mpp,
        version=STEP_VERSION["candidates"],
    message:
        "{wildcards.slide}: detecting nuclei down to score {CONFIG.evaluate.lowest_score}"
    script:
        "../scripts/candidates.py"


rule evaluate:
    input:
        truth=truth_files,
        candidates=candidate_files,
    output:
        evaluation="results/evaluate/evaluation.json",
        slides="results/evaluate/slides.csv",
        curve="results/evaluate/curve.png",
        froc="results/evaluate/froc.png",
        agreement="results/evaluate/agreement.png",
        worst="results/evaluate/worst_fields.jpg",
        report="results/evaluate/report.txt",
    log:
        "results/logs/evaluate.log",
    benchmark:
        "results/benchmarks/evaluate.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        config=settings("detect", "evaluate", "dataset", "geojson"),
        slides=annotated_ids,
        version=STEP_VERSION["evaluate"],
    message:
        "Comparing the nuclei with the annotated ones"
    script:
        "../scripts/evaluate.py"
