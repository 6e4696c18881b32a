#include "types.cuh"

// Onto the slide, clipped to what the window shows of it, rounded as it will be stored.
static __device__ double placed(float value, double scale, double origin, double low, double high)
{
    double at = value * scale + origin;
    at = at > low ? at : low;
    at = at < high ? at : high;
    return (double)(float)at;
}

// Whether the tile emits the box: `seams.emit`, in double with the stored float32 rounding.
static __device__ bool owns(const Window& tile, const Box& box)
{
    double x0 = placed(box.x0, tile.scale, tile.x, tile.left, tile.right);
    double y0 = placed(box.y0, tile.scale, tile.y, tile.top, tile.bottom);
    double x1 = placed(box.x1, tile.scale, tile.x, tile.left, tile.right);
    double y1 = placed(box.y1, tile.scale, tile.y, tile.top, tile.bottom);
    double x = (x0 + x1) / 2, y = (y0 + y1) / 2;
    bool in_core = x >= tile.core_x0 && x < tile.core_x1 && y >= tile.core_y0 && y < tile.core_y1;
    return in_core && x1 > x0 && y1 > y0;
}

// How many of the block's threads up to this one, itself included, have `flag`; the last one's is the sum.
static __device__ void count_up_to(bool flag, int* sums)
{
    sums[threadIdx.x] = flag;
    __syncthreads();
    for (int step = 1; step < (int)blockDim.x; step *= 2) {
        int before = (int)threadIdx.x >= step ? sums[threadIdx.x - step] : 0;
        __syncthreads();
        sums[threadIdx.x] += before;
        __syncthreads();
    }
}

// Write what is kept and owned into the tile's result, without gaps and in order: 16 bytes that begin with
// the count (4) and the number of anchors that are no nucleus (4), then room for `anchors` boxes, scores and
// labels. The result lies in the host's memory: only what is found crosses the bus.
// One block a tile.
extern "C" __global__ void __launch_bounds__(BLOCK)
own(const uint32* __restrict__ counts, const uint32* __restrict__ odd, const Box* __restrict__ boxes,
    const float* __restrict__ scores, const uint8* __restrict__ labels, const uint8* __restrict__ dropped,
    const Window* __restrict__ tiles, uint8* __restrict__ result, uint64 stride, int anchors)
{
    __shared__ int sums[BLOCK];
    uint8* out = result + blockIdx.x * stride;
    Box* out_boxes = (Box*)(out + 16);
    float* out_scores = (float*)(out_boxes + anchors);
    uint8* out_labels = (uint8*)(out_scores + anchors);
    Window tile = tiles[blockIdx.x];
    uint64 first = (uint64)blockIdx.x * anchors;
    int count = counts[blockIdx.x], written = 0;
    for (int start = 0; start < count; start += blockDim.x) {
        uint64 mine = first + start + threadIdx.x;
        bool stays = start + (int)threadIdx.x < count && !dropped[mine] && owns(tile, boxes[mine]);
        count_up_to(stays, sums);
        if (stays) {
            int place = written + sums[threadIdx.x] - 1;
            out_boxes[place] = boxes[mine];
            out_scores[place] = scores[mine];
            out_labels[place] = labels[mine];
        }
        written += sums[blockDim.x - 1];
        __syncthreads();
    }
    if (threadIdx.x == 0) {
        ((uint32*)out)[0] = (uint32)written;
        ((uint32*)out)[1] = odd[blockIdx.x];
    }
}
