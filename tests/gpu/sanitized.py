"""Every kernel once on small tiles, for compute-sanitizer: python tests/gpu/sanitized.py DEVICE."""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ercohort.gpu import launches
from ercohort.gpu.cuda_device import CudaDevice
from ercohort.gpu.probe import find_devices
from tests.gpu.test_kernels_on_device import random_heads, run_head, test_preprocess
from tests.unit.gpu.test_pipeline import lay

if __name__ == "__main__":
    gpu = find_devices()[int(sys.argv[1])]
    side = 128
    heads = random_heads(np.random.default_rng(0), 3, side, launches.anchors(side))
    heads[1, 4:] = 0
    heads[2, 4] += 0.3
    device = CudaDevice(gpu)
    run_head(device, gpu, heads, [lay(index) for index in range(3)], side)
    device.close()
    device = CudaDevice(gpu)
    test_preprocess(device, gpu, fp16_input=True)
    device.close()
