// As much of CUDA as the kernels use, on one CPU thread: their source compiles as C++.
//
// The threads of a block are coroutines that change over at __syncthreads only, in an order that is shuffled
// anew each time, as are the blocks: a result that depends on who comes first does not stay the same. Shared
// memory starts as garbage in each block. A barrier that some threads of a block do not reach is an error.
#pragma once

#include <cstdlib>
#include <cstring>

struct Dim3 {
    unsigned x, y, z;
};
extern Dim3 threadIdx, blockIdx, blockDim, gridDim;

void reach_barrier();

#define __global__
#define __device__
#define __launch_bounds__(threads)
#define __shared__ static __attribute__((section("shared_memory")))
#define __syncthreads reach_barrier
#define select select_candidates  // the C library has a function of this name

inline unsigned __float_as_uint(float value)
{
    unsigned bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

inline float __uint_as_float(unsigned bits)
{
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

inline unsigned atomicAdd(unsigned* address, unsigned value)
{
    unsigned before = *address;
    *address += value;
    return before;
}
