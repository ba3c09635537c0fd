// How a call's clients are spread over its threads, and the threads' memory.
#pragma once

#include <algorithm>
#include <cstdint>
#include <mutex>
#include <numeric>
#include <vector>

#include "common/parallel.h"
#include "cpu/engine/arena.h"
#include "cpu/engine/flush.h"

namespace fedlps {

// Calls body(item, worker) with flush-to-zero on, the items of most work first.
template <class Body>
void largest_first(const std::vector<double>& works, int threads, const Body& body) {
    std::vector<std::int64_t> order(works.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) { return works[a] > works[b]; });
    const int used = std::max(1, std::min(threads, static_cast<int>(works.size())));
    parallel_for(static_cast<std::int64_t>(order.size()), used, [&](std::int64_t item, int worker) {
        const FlushToZero flush;
        body(order[item], worker);
    });
}

// The workers' memory, kept from call to call: fresh pages cost as much as a small client. Calls at once get new ones.
template <class T>
class Arenas {
  public:
    explicit Arenas(int workers) {
        const std::lock_guard<std::mutex> locked(mutex_);
        arenas_.swap(kept_);
        if (arenas_.size() < static_cast<std::size_t>(workers)) arenas_.resize(static_cast<std::size_t>(workers));
    }
    ~Arenas() {
        const std::lock_guard<std::mutex> locked(mutex_);
        if (kept_.empty()) kept_.swap(arenas_);
    }
    Arena<T>& operator[](int worker) { return arenas_[worker]; }

  private:
    static inline std::mutex mutex_;
    static inline std::vector<Arena<T>> kept_;
    std::vector<Arena<T>> arenas_;
};

}  // namespace fedlps
