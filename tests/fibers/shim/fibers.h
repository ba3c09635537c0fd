// How the fibers of a block take turns, and what a test may set.
#pragma once

#include <string>

namespace fibers {

// forward, reverse: threads by number; random: another order at every pass; greedy: one warp as far as it can go.
void set_order(const std::string& order, bool blocks_backwards, unsigned seed);
// Threads run through the barrier at this place as if it were not there.
void skip_barrier(const std::string& file, int line);
// Barriers that were met, as file:line.
std::string met_barriers();

}  // namespace fibers
