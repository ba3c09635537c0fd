// unit_norm, for csrc/bindings.cpp.
#pragma once

#include <pybind11/pybind11.h>

namespace fedlps {

void bind_norm(pybind11::module_& module);

}  // namespace fedlps
