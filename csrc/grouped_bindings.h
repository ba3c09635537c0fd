// grouped_linear and grouped_conv2d, for csrc/bindings.cpp.
#pragma once

#include <pybind11/pybind11.h>

namespace fedlps {

void bind_grouped(pybind11::module_& module);

}  // namespace fedlps
