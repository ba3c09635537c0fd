// What the CUDA part was built for and what it finds here. The runtime is linked statically and no call is made when the
// module loads, so a machine without a driver imports it.
#include "cuda/runtime.h"

#include <cuda_runtime_api.h>

namespace fedlps::cuda {

Runtime runtime() {
    Runtime found{FEDLPS_CUDA_ARCHITECTURES, 0, 0, 0};
    cudaRuntimeGetVersion(&found.version);
    cudaDriverGetVersion(&found.driver);  // leaves 0 without a driver
    if (cudaGetDeviceCount(&found.devices) != cudaSuccess) found.devices = 0;
    return found;
}

}  // namespace fedlps::cuda
