#include "types.cuh"

#if FP16_INPUT
typedef unsigned short Pixel;

// Nearest FP16, ties to even, of 0 or of a number from 1/255 to 1: no subnormal, infinity or NaN.
static __device__ Pixel to_pixel(float value)
{
    if (value == 0.0f) return 0;
    uint32 bits = __float_as_uint(value);
    uint32 rounded = bits + 0xfffu + ((bits >> 13) & 1u);
    return (Pixel)((rounded >> 13) - (112u << 10));  // 112: the exponent's bias is 127 in float32, 15 in FP16
}
#else
typedef float Pixel;

static __device__ Pixel to_pixel(float value) { return value; }
#endif

// From rows of RGB bytes to one plane a channel of numbers from 0 to 1, padded on the right and below.
// One thread a pixel of the output; grid (pixels / block, tiles).
extern "C" __global__ void __launch_bounds__(BLOCK)
preprocess(const uint8* __restrict__ images, Pixel* __restrict__ input, int height, int width, int out_height,
           int out_width, int padding)
{
    int plane = out_height * out_width;
    int pixel = blockIdx.x * blockDim.x + threadIdx.x;
    if (pixel >= plane) return;
    int row = pixel / out_width, column = pixel % out_width;
    bool inside = row < height && column < width;
    const uint8* rgb = images + ((uint64)blockIdx.y * height + row) * width * 3 + column * 3;
    Pixel* out = input + (uint64)blockIdx.y * 3 * plane + pixel;
    for (int channel = 0; channel < 3; channel++) {
        float value = inside ? rgb[channel] : padding;
        out[channel * plane] = to_pixel(value / 255.0f);
    }
}
