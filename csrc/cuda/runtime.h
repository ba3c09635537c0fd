#pragma once

#include <string>

namespace fedlps::cuda {

struct Runtime {
    std::string architectures;  // those that code was compiled for
    int version;                // of the static runtime, as 1000 * major + 10 * minor
    int driver;                 // the newest runtime that this machine's driver serves; 0: no driver
    int devices;
};

Runtime runtime();

}  // namespace fedlps::cuda
