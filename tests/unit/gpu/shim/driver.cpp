// Runs the kernels on the CPU by name, with arguments as cuLaunchKernel takes them.
#include <ucontext.h>

#include <algorithm>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "cuda_shim.hpp"

#include "own.cu"
#include "preprocess.cu"
#include "rank.cu"
#include "select.cu"
#include "suppress.cu"

Dim3 threadIdx, blockIdx, blockDim, gridDim;

// Bounds of the section that all __shared__ variables are in; the linker defines them.
extern "C" char __start_shared_memory, __stop_shared_memory;

namespace {

constexpr size_t STACK = 64 * 1024;

struct Coroutine {
    ucontext_t context;
    std::unique_ptr<char[]> stack;
    bool ended;
};

struct Kernel {
    std::vector<int> sizes;  // bytes of each argument
    void (*call)(void**);
};

ucontext_t scheduler;
std::vector<Coroutine> coroutines;
Coroutine* running;
const Kernel* kernel;
void** arguments;

template <auto function, class... Types, size_t... places>
Kernel describe(void (*)(Types...), std::index_sequence<places...>)
{
    return {{(int)sizeof(Types)...},
            [](void** values) { function(*static_cast<Types*>(values[places])...); }};
}

template <auto function, class... Types>
Kernel describe(void (*pointer)(Types...))
{
    return describe<function>(pointer, std::index_sequence_for<Types...>{});
}

#define KERNEL(name, function) {name, describe<function>(function)}
const std::map<std::string, Kernel> kernels = {
    KERNEL("preprocess", preprocess), KERNEL("clear", clear),       KERNEL("select", select_candidates),
    KERNEL("rank", rank),             KERNEL("suppress", suppress), KERNEL("own", own),
};

void run_thread()
{
    kernel->call(arguments);
    running->ended = true;
}

void start(Coroutine& thread)
{
    if (!thread.stack) thread.stack.reset(new char[STACK]);
    getcontext(&thread.context);
    thread.context.uc_stack.ss_sp = thread.stack.get();
    thread.context.uc_stack.ss_size = STACK;
    thread.context.uc_link = &scheduler;
    thread.ended = false;
    makecontext(&thread.context, run_thread, 0);
}

// Run all threads of a block from barrier to barrier; false if some end where others wait.
bool run_block(unsigned n, std::mt19937& random)
{
    std::memset(&__start_shared_memory, 0xcd, &__stop_shared_memory - &__start_shared_memory);
    std::vector<unsigned> order(n);
    for (unsigned i = 0; i < n; i++) {
        order[i] = i;
        start(coroutines[i]);
    }
    for (;;) {
        std::shuffle(order.begin(), order.end(), random);
        for (unsigned i : order) {
            threadIdx = {i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y};
            running = &coroutines[i];
            swapcontext(&scheduler, &running->context);
        }
        unsigned ended = 0;
        for (unsigned i = 0; i < n; i++) ended += coroutines[i].ended;
        if (ended == n) return true;
        if (ended > 0) return false;
    }
}

}  // namespace

void reach_barrier() { swapcontext(&running->context, &scheduler); }

// Number of a kernel's arguments and the bytes of each; -1 if there is no such kernel.
extern "C" int argument_sizes(const char* name, int* sizes)
{
    auto found = kernels.find(name);
    if (found == kernels.end()) return -1;
    std::copy(found->second.sizes.begin(), found->second.sizes.end(), sizes);
    return (int)found->second.sizes.size();
}

// Run a kernel; 0, or 1 if some threads of a block ended where others waited at a barrier.
extern "C" int launch(const char* name, const unsigned* grid, const unsigned* block, void** values,
                      unsigned seed)
{
    kernel = &kernels.at(name);
    arguments = values;
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {block[0], block[1], block[2]};
    unsigned n = block[0] * block[1] * block[2];
    if (coroutines.size() < n) coroutines.resize(n);
    std::mt19937 random(seed);
    std::vector<unsigned> blocks(grid[0] * grid[1] * grid[2]);
    for (unsigned i = 0; i < blocks.size(); i++) blocks[i] = i;
    std::shuffle(blocks.begin(), blocks.end(), random);
    for (unsigned i : blocks) {
        blockIdx = {i % grid[0], i / grid[0] % grid[1], i / grid[0] / grid[1]};
        if (!run_block(n, random)) return 1;
    }
    return 0;
}
