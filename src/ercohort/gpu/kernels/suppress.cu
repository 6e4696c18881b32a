#include "types.cuh"

#define CHUNK 64
#define PART 16  // columns of the chunk's table of overlaps that one thread compares

// Whether two boxes share more than `limit` of their union, float32, each operation rounded once, in the
// order of operations of nms.py.
static __device__ bool is_duplicate(const Box& box, const Box& better, float limit)
{
    float width = smaller(box.x1, better.x1) - larger(box.x0, better.x0);
    float height = smaller(box.y1, better.y1) - larger(box.y0, better.y0);
    if (width <= 0.0f || height <= 0.0f) return false;
    float shared = width * height;
    if (!(shared > 0.0f)) return false;
    float area = (box.x1 - box.x0) * (box.y1 - box.y0);
    float all = area + (better.x1 - better.x0) * (better.y1 - better.y0) - shared;
    return shared / all > limit;
}

// Bit c of parts[r][p]: box r, if it is kept, drops box p * PART + c of the chunk, which comes later.
static __device__ void compare_chunk(const Box* chunk, const uint8* gone, int size, float limit,
                                     unsigned short (*parts)[CHUNK / PART])
{
    for (int task = threadIdx.x; task < CHUNK * (CHUNK / PART); task += blockDim.x) {
        int row = task / (CHUNK / PART), part = task % (CHUNK / PART);
        uint32 bits = 0;
        if (row < size && !gone[row])
            for (int c = 0; c < PART; c++) {
                int other = part * PART + c;
                if (other > row && other < size && is_duplicate(chunk[other], chunk[row], limit))
                    bits |= 1u << c;
            }
        parts[row][part] = (unsigned short)bits;
    }
}

// Go through the chunk from best to worst: mark in `gone` what a kept box drops, list the kept ones.
static __device__ int resolve_chunk(const Box* chunk, uint8* gone, int size,
                                    const unsigned short (*parts)[CHUNK / PART], Box* kept)
{
    uint64 dropped = 0;
    int n = 0;
    for (int i = 0; i < size; i++) {
        if (gone[i] || dropped >> i & 1) {
            gone[i] = 1;
            continue;
        }
        kept[n++] = chunk[i];
        for (int p = 0; p < CHUNK / PART; p++) dropped |= (uint64)parts[i][p] << p * PART;
    }
    return n;
}

// Greedy NMS of boxes in order, however many: chunk by chunk, each resolved within itself, then everything
// later compared with what the chunk keeps. Sets dropped[i] to 0 or 1.
// One block a tile.
extern "C" __global__ void __launch_bounds__(SUPPRESS_BLOCK)
suppress(const uint32* __restrict__ counts, const Box* __restrict__ boxes, uint8* dropped, float limit,
         int anchors)
{
    __shared__ Box chunk[CHUNK], kept[CHUNK];
    __shared__ uint8 gone[CHUNK];
    __shared__ unsigned short parts[CHUNK][CHUNK / PART];
    __shared__ int n_kept;
    int count = counts[blockIdx.x];
    boxes += (uint64)blockIdx.x * anchors;
    dropped += (uint64)blockIdx.x * anchors;
    for (int i = threadIdx.x; i < count; i += blockDim.x) dropped[i] = 0;
    for (int start = 0; start < count; start += CHUNK) {
        __syncthreads();  // what the last round wrote to `dropped` is seen, and its `kept` no longer read
        int size = count - start < CHUNK ? count - start : CHUNK;
        for (int i = threadIdx.x; i < size; i += blockDim.x) {
            chunk[i] = boxes[start + i];
            gone[i] = dropped[start + i];
        }
        __syncthreads();
        compare_chunk(chunk, gone, size, limit, parts);
        __syncthreads();
        if (threadIdx.x == 0) n_kept = resolve_chunk(chunk, gone, size, parts, kept);
        __syncthreads();
        for (int i = threadIdx.x; i < size; i += blockDim.x) dropped[start + i] = gone[i];
        for (int i = start + CHUNK + threadIdx.x; i < count; i += blockDim.x) {
            if (dropped[i]) continue;
            Box box = boxes[i];
            for (int k = 0; k < n_kept; k++)
                if (is_duplicate(box, kept[k], limit)) {
                    dropped[i] = 1;
                    break;
                }
        }
    }
}
