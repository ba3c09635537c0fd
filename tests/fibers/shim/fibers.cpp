// Runs a block's threads as fibers of one thread. Compiled without instrumentation: under ThreadSanitizer each fiber is a
// thread of its own, and only what synchronizes on a GPU orders them.
#include "fibers.h"

#include <ucontext.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <random>
#include <set>
#include <stdexcept>
#include <vector>

#include "cuda_runtime.h"

extern "C" {
[[gnu::weak]] void* __tsan_get_current_fiber();
[[gnu::weak]] void* __tsan_create_fiber(unsigned flags);
[[gnu::weak]] void __tsan_switch_to_fiber(void* fiber, unsigned flags);
[[gnu::weak]] void __tsan_acquire(void* address);
[[gnu::weak]] void __tsan_release(void* address);
}

dim3 threadIdx, blockIdx, blockDim, gridDim;
cudaError_t next_error = cudaSuccess;

namespace fibers {
namespace {

constexpr unsigned WARP = 32;
constexpr std::size_t STACK = 64 * 1024;
constexpr unsigned NO_SYNCHRONIZATION = 1;

// Threads that meet: who comes last opens it for all. Two clocks in turn, or a thread that is already at the next meeting
// would seem to be ordered before one that leaves this.
struct Meeting {
    unsigned arrived = 0;
    std::uint64_t number = 0;
    char clocks[2] = {};
    std::uint64_t values[2][WARP] = {};
};

struct Fiber {
    ucontext_t context{};
    std::unique_ptr<char[]> stack{new char[STACK]};
    void* sanitizer = nullptr;
    const Meeting* waits = nullptr;  // until its number is another
    std::uint64_t number = 0;
    bool ended = true;
};

std::vector<Fiber> fibers;  // never fewer than before: to make one takes a sanitizer long
std::vector<Meeting> warps;
Meeting block;
unsigned threads, current, live;
const std::function<void()>* body;
ucontext_t scheduler;
void* scheduler_sanitizer;
char begun, done;
std::string failure;

std::string order = "forward";
bool backwards = false;
std::mt19937 generator;
std::pair<std::string, int> skipped;
std::set<std::string> met;

void acquire(char& clock) {
    if (__tsan_acquire) __tsan_acquire(&clock);
}

void release(char& clock) {
    if (__tsan_release) __tsan_release(&clock);
}

void to_scheduler() {
    if (__tsan_switch_to_fiber) __tsan_switch_to_fiber(scheduler_sanitizer, NO_SYNCHRONIZATION);
    swapcontext(&fibers[current].context, &scheduler);
}

void meet(Meeting& meeting, unsigned expected) {
    const std::uint64_t number = meeting.number;
    release(meeting.clocks[number % 2]);
    if (++meeting.arrived == expected) {
        meeting.arrived = 0;
        ++meeting.number;
    } else {
        Fiber& own = fibers[current];
        own.waits = &meeting;
        own.number = number;
        to_scheduler();
        own.waits = nullptr;
    }
    acquire(meeting.clocks[number % 2]);
}

void run_fiber() {
    acquire(begun);
    (*body)();
    release(done);
    fibers[current].ended = true;
    --live;
    to_scheduler();
}

// Whether the fiber could go on.
bool turn(unsigned number) {
    Fiber& fiber = fibers[number];
    if (fiber.ended || (fiber.waits && fiber.waits->number == fiber.number)) return false;
    current = number;
    threadIdx = dim3(number, 0, 0);
    if (__tsan_switch_to_fiber) __tsan_switch_to_fiber(fiber.sanitizer, NO_SYNCHRONIZATION);
    swapcontext(&scheduler, &fiber.context);
    return true;
}

bool pass(std::vector<unsigned>& numbers) {
    if (order == "random") std::shuffle(numbers.begin(), numbers.end(), generator);
    bool moved = false;
    if (order != "greedy") {
        for (const unsigned number : numbers) moved |= turn(number);
        return moved;
    }
    for (unsigned first = 0; first < threads; first += WARP)
        for (bool on = true; on; moved |= on) {
            on = false;
            for (unsigned lane = 0; lane < WARP && first + lane < threads; ++lane) on |= turn(first + lane);
        }
    return moved;
}

void run_block(std::vector<unsigned>& numbers) {
    live = threads;
    block = {};
    warps.assign((threads + WARP - 1) / WARP, {});
    release(begun);
    for (unsigned number = 0; number < threads; ++number) {
        Fiber& fiber = fibers[number];
        getcontext(&fiber.context);
        fiber.context.uc_stack = {fiber.stack.get(), 0, STACK};
        fiber.context.uc_link = nullptr;
        fiber.waits = nullptr;
        fiber.ended = false;
        if (__tsan_create_fiber && !fiber.sanitizer) fiber.sanitizer = __tsan_create_fiber(0);
        makecontext(&fiber.context, run_fiber, 0);
    }
    while (live > 0 && pass(numbers)) {
    }
    acquire(done);
    if (live > 0 && failure.empty()) {
        const auto waits_at = [](const Meeting& meeting) {
            return std::count_if(fibers.begin(), fibers.end(), [&](const Fiber& each) { return each.waits == &meeting; });
        };
        const auto at_barrier = waits_at(block);
        failure = "deadlock: " + std::to_string(at_barrier) + " threads wait at a barrier, " +
                  std::to_string(live - at_barrier) + " for their warps";
    }
}

void meet_named(const char* file, int line, Meeting& meeting, unsigned expected) {
    met.insert(std::string(file) + ":" + std::to_string(line));
    if (skipped.second == line && std::string(file) == skipped.first) return;
    meet(meeting, expected);
}

unsigned lanes() { return std::min(WARP, threads - current / WARP * WARP); }

}  // namespace

void set_order(const std::string& wanted, bool blocks_backwards, unsigned seed) {
    order = wanted;
    backwards = blocks_backwards;
    generator.seed(seed);
}

void skip_barrier(const std::string& file, int line) { skipped = {file, line}; }

std::string met_barriers() {
    std::string all;
    for (const std::string& each : met) all += each + "\n";
    return all;
}

void barrier(const char* file, int line) { meet_named(file, line, block, threads); }

void warp_barrier(const char* file, int line) { meet_named(file, line, warps[current / WARP], lanes()); }

const std::uint64_t* exchange(unsigned mask, std::uint64_t value) {
    if (mask != 0xffffffffU) failure = "a warp's lanes meet with a mask that is not all of them";
    Meeting& meeting = warps[current / WARP];
    std::uint64_t* values = meeting.values[meeting.number % 2];
    values[current % WARP] = value;
    meet(meeting, lanes());
    return values;
}

void launch(unsigned blocks, unsigned wanted, const std::function<void()>& thread) {
    threads = wanted;
    body = &thread;
    blockDim = dim3(threads);
    gridDim = dim3(blocks);
    if (fibers.size() < threads) fibers.resize(threads);
    scheduler_sanitizer = __tsan_get_current_fiber ? __tsan_get_current_fiber() : nullptr;
    std::vector<unsigned> numbers(threads);
    for (unsigned number = 0; number < threads; ++number) numbers[number] = order == "reverse" ? threads - 1 - number : number;
    failure.clear();
    for (unsigned number = 0; number < blocks && failure.empty(); ++number) {
        blockIdx = dim3(backwards ? blocks - 1 - number : number, 0, 0);
        run_block(numbers);
    }
    if (!failure.empty()) throw std::runtime_error(failure);
}

}  // namespace fibers

unsigned __ballot_sync(unsigned mask, bool flag) {
    const std::uint64_t* values = fibers::exchange(mask, flag);
    unsigned bits = 0;
    for (unsigned lane = 0; lane < fibers::lanes(); ++lane) bits |= static_cast<unsigned>(values[lane]) << lane;
    return bits;
}

unsigned __reduce_add_sync(unsigned mask, unsigned value) {
    const std::uint64_t* values = fibers::exchange(mask, value);
    std::uint64_t sum = 0;
    for (unsigned lane = 0; lane < fibers::lanes(); ++lane) sum += values[lane];
    return static_cast<unsigned>(sum);
}
