// What the kernels share. They are compiled together, for a GPU by NVRTC and in the tests by g++, so there is
// no header of CUDA or of the standard library, no warp intrinsic, and every result is the same on both:
// each operation on floats is rounded once (--fmad=false, -ffp-contract=off).
#pragma once

typedef unsigned long long uint64;
typedef unsigned int uint32;
typedef unsigned char uint8;

struct alignas(16) Box {
    float x0, y0, x1, y1;
};

// Where a tile lies on the slide and what it owns, level-0 pixels; written by `launches.pack_tile`.
struct Window {
    double scale;                     // level-0 pixels per pixel of the tile
    double x, y;                      // corner of the window
    double left, top, right, bottom;  // part of the window that lies on the slide
    double core_x0, core_y0, core_x1, core_y1;  // the core, with the slack around it
};

// The first unless the second is larger (smaller): a first one that is not a number stays, as in decode.py.
static __device__ float larger(float a, float b) { return b > a ? b : a; }
static __device__ float smaller(float a, float b) { return b < a ? b : a; }
