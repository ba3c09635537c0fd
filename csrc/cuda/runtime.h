#pragma once

#include <string>
#include <utility>
#include <vector>

namespace fedlps::cuda {

struct Runtime {
    std::string architectures;  // those that code was compiled for
    int version;                // of the static runtime, as 1000 * major + 10 * minor
    int driver;                 // the newest runtime that this machine's driver serves; 0: no driver
    std::vector<std::pair<int, int>> capabilities;  // of each device
};

Runtime runtime();

}  // namespace fedlps::cuda
