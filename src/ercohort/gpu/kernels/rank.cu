#include "types.cuh"

// Which of two candidates with equal score and y0 comes first.
static __device__ bool precedes(const Box& a, uint32 anchor_a, const Box& b, uint32 anchor_b)
{
    if (a.x0 != b.x0) return a.x0 < b.x0;
    if (a.y1 != b.y1) return a.y1 < b.y1;
    if (a.x1 != b.x1) return a.x1 < b.x1;
    return anchor_a < anchor_b;
}

// Put each tile's candidates into the order of `nms.canonical_order`: a candidate's place is the number of
// those that come before it. Counting takes no sort and no more shared memory than one key a thread, however
// many candidates there are.
// One thread a candidate; grid (anchors / block, tiles).
extern "C" __global__ void __launch_bounds__(BLOCK)
rank(const uint32* __restrict__ counts, const uint64* __restrict__ keys, const Box* __restrict__ boxes,
     const float* __restrict__ scores, const uint8* __restrict__ labels,
     const uint32* __restrict__ anchor_ids, Box* __restrict__ ranked_boxes,
     float* __restrict__ ranked_scores, uint8* __restrict__ ranked_labels, int anchors)
{
    __shared__ uint64 others[BLOCK];
    uint64 first = (uint64)blockIdx.y * anchors;
    int count = counts[blockIdx.y];
    if ((int)(blockIdx.x * blockDim.x) >= count) return;  // the whole block: nobody is left at a barrier
    int mine = blockIdx.x * blockDim.x + threadIdx.x;
    bool ranks = mine < count;
    uint64 key = ranks ? keys[first + mine] : 0;
    int place = 0;
    for (int start = 0; start < count; start += blockDim.x) {
        if (start + (int)threadIdx.x < count) others[threadIdx.x] = keys[first + start + threadIdx.x];
        __syncthreads();
        int size = count - start < (int)blockDim.x ? count - start : (int)blockDim.x;
        for (int k = 0; ranks && k < size; k++) {
            uint64 at = first + start + k;
            if (others[k] < key) place++;
            else if (others[k] == key)
                place += precedes(boxes[at], anchor_ids[at], boxes[first + mine], anchor_ids[first + mine]);
        }
        __syncthreads();
    }
    if (!ranks) return;
    ranked_boxes[first + place] = boxes[first + mine];
    ranked_scores[first + place] = scores[first + mine];
    ranked_labels[first + place] = labels[first + mine];
}
