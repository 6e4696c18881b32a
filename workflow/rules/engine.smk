# What runs the detector: recorded once per run, and built once per model and device where that takes time.


rule engine:
    input:
        model=ancient(CONFIG.model),
    output:
        "results/engine/engine.json",
    log:
        "results/logs/engine.log",
    benchmark:
        "results/benchmarks/engine.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        model_sha256=MODEL.sha256,
        backend=lookup("backend", within=config, default="auto"),
        precision=lookup("precision", within=config, default="auto"),
        version=STEP_VERSION["engine"],
    message:
        "Preparing the detector"
    script:
        "../scripts/engine.py"
