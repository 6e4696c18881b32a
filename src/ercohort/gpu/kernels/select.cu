#include "types.cuh"

static __device__ bool is_finite(float value)
{
    return (__float_as_uint(value) & 0x7f800000u) != 0x7f800000u;
}

// An integer in the order of the numbers, the two zeros equal: `nms.sortable`.
static __device__ uint32 sortable(float value)
{
    uint32 bits = value == 0.0f ? 0u : __float_as_uint(value);
    return bits >> 31 ? ~bits : bits | 0x80000000u;
}

// Best class of an anchor, the first of equals; minus infinity if no class is a number.
static __device__ void best_class(const float* anchor, int anchors, int classes, float& best, int& label)
{
    label = 0;
    best = __uint_as_float(0xff800000u);  // minus infinity
    for (int k = 0; k < classes; k++) {
        float score = anchor[(uint64)(4 + k) * anchors];
        if (score > best) {
            best = score;
            label = k;
        }
    }
}

// The anchor's box, clipped to the tile; false if it has no area or is not finite.
static __device__ bool clipped_box(const float* anchor, int anchors, float side, Box& box)
{
    float x = anchor[0], y = anchor[anchors];
    float width = anchor[2 * (uint64)anchors], height = anchor[3 * (uint64)anchors];
    if (!is_finite(width + height)) return false;  // clipping would make a box as large as the tile of it
    float half_width = width * 0.5f, half_height = height * 0.5f;
    box.x0 = larger(x - half_width, 0.0f);
    box.y0 = larger(y - half_height, 0.0f);
    box.x1 = smaller(x + half_width, side);
    box.y1 = smaller(y + half_height, side);
    return box.x1 > box.x0 && box.y1 > box.y0;
}

// No candidates yet. One thread a tile.
extern "C" __global__ void __launch_bounds__(BLOCK) clear(uint32* counts, uint32* odd, int tiles)
{
    int tile = blockIdx.x * blockDim.x + threadIdx.x;
    if (tile < tiles) counts[tile] = odd[tile] = 0;
}

// Gather each tile's candidates as `decode._above` does, in no particular order: the anchor is kept for the
// ranking. Anchors whose numbers are no nucleus are counted in `odd`. The head is (tiles, 4 + classes,
// anchors): centre x and y, width, height, probabilities.
// One thread an anchor; grid (anchors / block, tiles).
extern "C" __global__ void __launch_bounds__(BLOCK)
select(const float* __restrict__ head, int classes, float side, float threshold, uint32* counts, uint32* odd,
       uint64* keys, Box* boxes, float* scores, uint8* labels, uint32* anchor_ids, int anchors)
{
    int anchor = blockIdx.x * blockDim.x + threadIdx.x;
    if (anchor >= anchors) return;
    const float* column = head + (uint64)blockIdx.y * (4 + classes) * anchors + anchor;
    float score;
    int label;
    Box box;
    best_class(column, anchors, classes, score, label);
    if (is_finite(score) && score <= threshold) return;
    if (!is_finite(score) || !clipped_box(column, anchors, side, box)) {
        atomicAdd(&odd[blockIdx.y], 1u);
        return;
    }
    uint64 place = (uint64)blockIdx.y * anchors + atomicAdd(&counts[blockIdx.y], 1u);
    keys[place] = (uint64)~sortable(score) << 32 | sortable(box.y0);
    boxes[place] = box;
    scores[place] = score;
    labels[place] = (uint8)label;
    anchor_ids[place] = (uint32)anchor;
}
