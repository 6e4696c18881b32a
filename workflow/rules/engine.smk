# What runs the detector: recorded once per run, and built once per model and device where that takes time.
# For a CPU the script leaves `engine.openvino` beside its output: no output itself, since a GPU has none, and
# a job that does not find it compiles the network for itself.


rule engine:
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
        gpu=1,
        mem_mb=engine_mb,
        runtime=60,
    params:
        model=MODEL.path,
        model_sha256=MODEL.sha256,
        int8_sha256=INT8_SHA256,
        backend=CONFIG.backend,
        precision=CONFIG.precision,
        tensorrt=CONFIG.tensorrt.model_dump(),
        tile_px=CONFIG.tiles.tile_px,
        version=STEP_VERSION["engine"],
    message:
        "Preparing the detector"
    script:
        "../scripts/engine.py"
