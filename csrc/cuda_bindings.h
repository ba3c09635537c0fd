#pragma once

#include <pybind11/pybind11.h>

namespace fedlps {

// The CUDA part's functions, each with the prefix cuda_. They take tensors in device memory and a stream.
void bind_cuda(pybind11::module_& module);

}  // namespace fedlps
