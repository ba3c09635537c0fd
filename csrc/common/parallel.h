// Independent items spread over short-lived threads; which thread takes which item never changes a result.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace fedlps {

// Threads worth starting for so many entries; starting one takes about as long as streaming 64k entries.
inline int useful_threads(std::int64_t entries, std::int64_t items, int allowed) {
    const std::int64_t useful = std::min({std::int64_t{allowed}, items, entries / 65536});
    return static_cast<int>(std::max<std::int64_t>(useful, 1));
}

// Calls body(item, worker) once for each item; body must not throw.
template <class Body>
void parallel_for(std::int64_t items, int threads, const Body& body) {
    std::atomic<std::int64_t> next{0};
    const auto work = [&](int worker) {
        for (std::int64_t item = next++; item < items; item = next++) body(item, worker);
    };
    std::vector<std::jthread> helpers;
    helpers.reserve(static_cast<std::size_t>(threads));
    for (int worker = 1; worker < threads; ++worker) helpers.emplace_back(work, worker);
    work(0);
}

}  // namespace fedlps
