// A Python module of the CUDA part, for the CPU: the bindings of the native module, and what a test may set.
#include <pybind11/pybind11.h>

#include "cuda_bindings.h"
#include "cuda_runtime.h"
#include "fibers.h"

PYBIND11_MODULE(_fibers, module) {
    fedlps::bind_cuda(module);
    module.def("set_order", &fibers::set_order);
    module.def("skip_barrier", &fibers::skip_barrier);
    module.def("met_barriers", &fibers::met_barriers);
    module.def("fail_next", [](int error) { next_error = error; });
}
