"""The detector on an NVIDIA GPU; importing a module of it needs neither CUDA nor TensorRT."""
