// What the CUDA part was built for and what it finds here. The runtime is linked statically and no call is made when the
// module loads, so a machine without a driver imports it.
#include "cuda/runtime.h"

#include <cuda_runtime_api.h>

namespace fedlps::cuda {

Runtime runtime() {
    Runtime found{FEDLPS_CUDA_ARCHITECTURES, 0, 0, {}};
    cudaRuntimeGetVersion(&found.version);
    cudaDriverGetVersion(&found.driver);  // leaves 0 without a driver
    int devices = 0;
    if (cudaGetDeviceCount(&devices) != cudaSuccess) devices = 0;
    for (int device = 0; device < devices; ++device) {
        int major = 0, minor = 0;
        cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
        cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device);
        found.capabilities.emplace_back(major, minor);
    }
    return found;
}

}  // namespace fedlps::cuda
