// The engine's entry points, for csrc/bindings.cpp.
#pragma once

#include <pybind11/pybind11.h>

namespace fedlps {

void bind_engine(pybind11::module_& module);

}  // namespace fedlps
