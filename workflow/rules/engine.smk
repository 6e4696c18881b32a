# What runs the detector: recorded once per run, and built once per model and device where that takes time.


rule engine:
    input:
        model=ancient(MODEL.path),
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
        backend=CONFIG.backend,
        precision=CONFIG.precision,
        version=STEP_VERSION["engine"],
    message:
        "Preparing the detector"
    script:
        "../scripts/engine.py"
