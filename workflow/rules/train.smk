# A detector of one's own: labels, training set, training, files. Asked for by name: docs/training.md.


rule prelabel:
    input:
        collect("results/prelabel/{slide}.geojson", slide=SAMPLES),


rule prelabel_slide:
    input:
        slide="results/slides/{slide}/slide.json",
        mask="results/slides/{slide}/tissue.png",
        nuclei=known_nuclei,
        engine=branch(
            CONFIG.prelabel.finder == "model",
            then="results/engine/engine.json",
            otherwise=[],
        ),
    output:
        "results/prelabel/{slide}.geojson",
    log:
        "results/logs/{slide}/prelabel.log",
    benchmark:
        "results/benchmarks/{slide}/prelabel.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 8
    resources:
        gpu=int(CONFIG.prelabel.finder == "model"),
        mem_mb=2000,
        runtime=60,
    params:
        config=settings("prelabel", "geojson", "detect", "tiles", "tissue"),
        model=MODEL.path,
        version=STEP_VERSION["prelabel"],
    message:
        "{wildcards.slide}: marking regions to correct"
    script:
        "../scripts/prelabel.py"


rule dataset:
    input:
        labels=label_files,
        slides=labelled_slides,
    output:
        data="results/dataset/data.yaml",
        counts="results/dataset/counts.csv",
        sheet="results/dataset/contact_sheet.jpg",
    log:
        "results/logs/dataset.log",
    benchmark:
        "results/benchmarks/dataset.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 2
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        config=settings("dataset", "geojson"),
        sheet=CONFIG.samples,
        readable=converted_slides,
        version=STEP_VERSION["dataset"],
    message:
        "Making the training set from the corrected labels"
    script:
        "../scripts/dataset.py"


rule generated_tiles:
    output:
        data="results/generated/data.yaml",
    log:
        "results/logs/generated_tiles.log",
    benchmark:
        "results/benchmarks/generated_tiles.tsv"
    conda:
        "../../envs/train.yaml"
    threads: 2
    resources:
        mem_mb=4000,
        runtime=120,
    params:
        nuinsseg=CONFIG.train.nuinsseg,
        n_virtual=CONFIG.train.n_virtual,
        n_simulated=CONFIG.train.n_simulated,
        tile_px=CONFIG.dataset.tile_px,
        seed=CONFIG.train.seed,
        version=STEP_VERSION["generated_tiles"],
    message:
        "Making simulated and virtual IHC tiles"
    script:
        "../scripts/generated_tiles.py"


rule train:
    input:
        data=training_sets,
        base=start_detector,
    output:
        checkpoint="results/train/detector.pt",
        record="results/train/training.json",
        curves="results/train/curves.png",
        worst="results/train/worst_tiles.jpg",
    log:
        "results/logs/train.log",
    benchmark:
        "results/benchmarks/train.tsv"
    conda:
        "../../envs/train.yaml"
    threads: 8
    resources:
        gpu=1,
        mem_mb=8000,
        runtime=round(60 * CONFIG.train.hours + 60),
    params:
        config=settings("train"),
        version=STEP_VERSION["train"],
    message:
        "Training the detector, at most {CONFIG.train.hours} h"
    script:
        "../scripts/train.py"


rule export:
    input:
        data=training_sets,
        checkpoint="results/train/detector.pt",
        record="results/train/training.json",
    output:
        model=f"results/export/{CONFIG.export.name}.onnx",
        half=f"results/export/{CONFIG.export.name}-fp16.onnx",
        parity="results/export/parity.json",
    log:
        "results/logs/export.log",
    benchmark:
        "results/benchmarks/export.tsv"
    conda:
        "../../envs/train.yaml"
    threads: 2
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        config=settings("detect", "export"),
        version=STEP_VERSION["export"],
    message:
        "Writing the detector's files and comparing them"
    script:
        "../scripts/export.py"
