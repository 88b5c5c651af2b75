// The driver: modules, which are shared objects that compile.py has made, and launches.
#include "sim.h"

#include <dlfcn.h>
#include <unistd.h>

using namespace std;

static thread_local string explanation;
void sim::explain(const string &sentence) {
  explanation = sentence;
  fprintf(stderr, "[cusim] %s\n", sentence.c_str());
}

struct Module {
  void *library;
  int device;
};
struct Function {
  void (*launch)(unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void **);
  void (*sizes)(int *count, size_t *bytes);  // of the arguments
  int device;
  string name;
};

#define ENTER                                                                              \
  if (cudaError_t error = sim::enter())                                                    \
    return error == cudaErrorNoDevice ? CUDA_ERROR_NO_DEVICE : CUDA_ERROR_NOT_INITIALIZED; \
  lock_guard<recursive_mutex> lock(sim::one_at_a_time)

EXPORT CUresult cuGetErrorName(CUresult error, const char **to) {
  static const map<int, const char *> names = {
      {CUDA_ERROR_INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE"},
      {CUDA_ERROR_OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY"},
      {CUDA_ERROR_NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED"},
      {CUDA_ERROR_NO_DEVICE, "CUDA_ERROR_NO_DEVICE"},
      {CUDA_ERROR_INVALID_IMAGE, "CUDA_ERROR_INVALID_IMAGE"},
      {CUDA_ERROR_INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE"},
      {CUDA_ERROR_NOT_FOUND, "CUDA_ERROR_NOT_FOUND"},
      {CUDA_ERROR_ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS"},
      {CUDA_ERROR_NOT_SUPPORTED, "CUDA_ERROR_NOT_SUPPORTED"},
      {CUDA_ERROR_STREAM_CAPTURE_IMPLICIT, "CUDA_ERROR_STREAM_CAPTURE_IMPLICIT"},
  };
  auto found = names.find(error);
  *to = found == names.end() ? "CUDA_ERROR_UNKNOWN" : found->second;
  return CUDA_SUCCESS;
}
EXPORT CUresult cuGetErrorString(CUresult error, const char **to) {
  static const map<int, const char *> strings = {
      {CUDA_ERROR_INVALID_VALUE, "invalid argument"},
      {CUDA_ERROR_OUT_OF_MEMORY, "out of memory"},
      {CUDA_ERROR_NOT_INITIALIZED, "initialization error"},
      {CUDA_ERROR_NO_DEVICE, "no CUDA-capable device is detected"},
      {CUDA_ERROR_INVALID_IMAGE, "device kernel image is invalid"},
      {CUDA_ERROR_INVALID_HANDLE, "invalid resource handle"},
      {CUDA_ERROR_NOT_FOUND, "named symbol not found"},
      {CUDA_ERROR_ILLEGAL_ADDRESS, "an illegal memory access was encountered"},
      {CUDA_ERROR_NOT_SUPPORTED, "operation not supported"},
      {CUDA_ERROR_STREAM_CAPTURE_IMPLICIT,
       "operation would make the legacy stream depend on a "
       "capturing blocking stream"},
  };
  static thread_local string text;
  auto found = strings.find(error);
  text = found == strings.end() ? "unknown error" : found->second;
  if (!explanation.empty()) text += " (" + explanation + ")";
  explanation.clear();
  *to = text.c_str();
  return CUDA_SUCCESS;
}

// ---- contexts: one for each device, 1 + its number
static CUcontext context(int device) { return reinterpret_cast<CUcontext>(device + 1L); }
EXPORT CUresult cuCtxGetCurrent(CUcontext *to) {
  *to = sim::in_context() ? context(sim::current_device()) : nullptr;
  return CUDA_SUCCESS;
}
EXPORT CUresult cuCtxSetCurrent(CUcontext to) {
  ENTER;
  return cudaSetDevice(reinterpret_cast<long>(to) - 1) ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}
EXPORT CUresult cuCtxGetDevice(CUdevice *to) {
  ENTER;
  *to = sim::current_device();
  return CUDA_SUCCESS;
}
EXPORT CUresult cuStreamGetCtx(CUstream stream, CUcontext *to) {
  ENTER;
  *to = context(sim::device_of_stream(stream));
  return CUDA_SUCCESS;
}
EXPORT CUresult cuDevicePrimaryCtxRelease_v2(CUdevice) { return CUDA_SUCCESS; }
EXPORT CUresult cuCtxCreate_v2(CUcontext *, unsigned, CUdevice) { return CUDA_ERROR_NOT_SUPPORTED; }
EXPORT CUresult cuCtxDestroy_v2(CUcontext) { return CUDA_ERROR_NOT_SUPPORTED; }

// ---- modules: "CUSIMBIN", the number of bytes, a shared object
EXPORT CUresult cuModuleLoadData(CUmodule *to, const void *image) {
  ENTER;
  if (sim::fails("module")) return CUDA_ERROR_OUT_OF_MEMORY;
  auto bytes = static_cast<const char *>(image);
  if (memcmp(bytes, "CUSIMBIN", 8)) return CUDA_ERROR_INVALID_IMAGE;
  uint64_t size;
  memcpy(&size, bytes + 8, 8);
  const char *folder = getenv("TMPDIR");
  string path = string(folder ? folder : "/tmp") + "/cusim_XXXXXX";
  FILE *file = fdopen(mkstemp(&path[0]), "wb");
  bool written = file && fwrite(bytes + 16, 1, size, file) == size;
  if (file) fclose(file);
  void *library = written ? dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL) : nullptr;
  if (!library) fprintf(stderr, "[cusim] %s\n", written ? dlerror() : "no room in TMPDIR");
  unlink(path.c_str());
  if (!library) return CUDA_ERROR_INVALID_IMAGE;
  *to = reinterpret_cast<CUmodule>(new Module{library, sim::current_device()});
  return CUDA_SUCCESS;
}
EXPORT CUresult cuModuleLoad(CUmodule *, const char *) { return CUDA_ERROR_NOT_SUPPORTED; }
EXPORT CUresult cuModuleUnload(CUmodule) { return CUDA_SUCCESS; }
EXPORT CUresult cuModuleGetFunction(CUfunction *to, CUmodule handle, const char *name) {
  ENTER;
  auto module = reinterpret_cast<Module *>(handle);
  auto symbol = [&](string prefix) { return dlsym(module->library, (prefix + name).c_str()); };
  auto launch = symbol("cusim_launch_"), sizes = symbol("cusim_sizes_");
  if (!launch || !sizes) return CUDA_ERROR_NOT_FOUND;
  *to = reinterpret_cast<CUfunction>(new Function{
      decltype(Function::launch)(launch), decltype(Function::sizes)(sizes), module->device, name});
  return CUDA_SUCCESS;
}
EXPORT CUresult cuModuleGetGlobal_v2(CUdeviceptr *to, size_t *size, CUmodule handle,
                                     const char *name) {
  ENTER;
  auto found = dlsym(reinterpret_cast<Module *>(handle)->library, name);
  if (!found) return CUDA_ERROR_NOT_FOUND;
  *to = reinterpret_cast<CUdeviceptr>(found);
  if (size) *size = 0;
  return CUDA_SUCCESS;
}

// ---- launches
EXPORT CUresult cuLaunchKernel(CUfunction handle, unsigned gx, unsigned gy, unsigned gz,
                               unsigned bx, unsigned by, unsigned bz, unsigned shared,
                               CUstream stream, void **arguments, void **) {
  ENTER;
  auto function = reinterpret_cast<Function *>(handle);
  LOG("launch %s, grid %u, block %u", function->name.c_str(), gx, bx);
  if (sim::fails("launch")) return CUDA_ERROR_OUT_OF_MEMORY;
  int device = sim::current_device(), count;
  size_t sizes[256];
  function->sizes(&count, sizes);
  if (function->device != device || sim::device_of_stream(stream) != device) {
    sim::explain("kernel " + function->name + " of device " + to_string(function->device) +
                 " was launched in a stream of device " + to_string(sim::device_of_stream(stream)) +
                 " while device " + to_string(device) + " is current");
    return CUDA_ERROR_INVALID_HANDLE;
  }
  // Arguments are read at the launch; arrays and addresses are 8 bytes at a multiple of 8 in them.
  auto values = make_shared<vector<vector<char>>>();
  vector<const void *> addresses;
  for (int i = 0; i < count; i++) {
    auto value = static_cast<char *>(arguments[i]);
    values->emplace_back(value, value + sizes[i]);
    for (size_t at = 0; at + 8 <= sizes[i]; at += 8) {
      void *address;
      memcpy(&address, value + at, 8);
      addresses.push_back(address);
    }
  }
  int other = sim::foreign(device, addresses);
  if (other >= 0) {
    sim::explain("kernel " + function->name + " runs on device " + to_string(device) +
                 " and was given memory of device " + to_string(other));
    return CUDA_ERROR_ILLEGAL_ADDRESS;
  }
  if (!sim::capturing(stream)) sim::stats.launches++;
  return CUresult(sim::submit(stream, [=] {
    vector<void *> pointers;
    for (auto &value : *values) pointers.push_back(value.data());
    function->launch(gx, gy, gz, bx, by, bz, shared, pointers.data());
  }));
}
EXPORT CUresult cuLaunchCooperativeKernel(CUfunction function, unsigned gx, unsigned gy,
                                          unsigned gz, unsigned bx, unsigned by, unsigned bz,
                                          unsigned shared, CUstream stream, void **arguments) {
  return cuLaunchKernel(function, gx, gy, gz, bx, by, bz, shared, stream, arguments, nullptr);
}
EXPORT CUresult cuFuncGetAttribute(int *to, CUfunction_attribute attribute, CUfunction) {
  *to = attribute == CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK ? 1024 : 0;
  return CUDA_SUCCESS;
}
EXPORT CUresult cuFuncSetAttribute(CUfunction, CUfunction_attribute, int) { return CUDA_SUCCESS; }
EXPORT CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int *to, CUfunction, int, size_t) {
  *to = 2;
  return CUDA_SUCCESS;
}
EXPORT CUresult cuOccupancyMaxPotentialBlockSize(int *grid, int *block, CUfunction,
                                                 CUoccupancyB2DSize, size_t, int) {
  *grid = 2, *block = 128;
  return CUDA_SUCCESS;
}
