// The functions that CuPy's module cupy_backends.cuda.api.runtime offers to other compiled modules,
// with the signatures that its __pyx_capi__ lists. cpusim.py puts them in the place of its own.
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "sim.h"

typedef int Skip;      // Cython's argument skip_dispatch
typedef intptr_t Ptr;  // an address or a handle

static PyObject *raise(int status) {
  cudaGetLastError();
  PyObject *module = PyImport_ImportModule("cupy_backends.cuda.api.runtime");
  PyObject *type = module ? PyObject_GetAttrString(module, "CUDARuntimeError") : nullptr;
  PyObject *error = type ? PyObject_CallFunction(type, "i", status) : nullptr;
  if (error) PyErr_SetObject(type, error);
  Py_XDECREF(error);
  Py_XDECREF(type);
  Py_XDECREF(module);
  return nullptr;
}
// Another thread may need Python to end what this call waits for.
template <class Call> static int status_of(Call call) {
  int status;
  Py_BEGIN_ALLOW_THREADS status = call();
  Py_END_ALLOW_THREADS return status;
}
#define TRY(call, bad)                                \
  if (int status = status_of([&] { return call; })) { \
    raise(status);                                    \
    return bad;                                       \
  }
#define NONE(name, parameters, call)      \
  EXPORT PyObject *rt_##name parameters { \
    TRY(call, nullptr);                   \
    Py_RETURN_NONE;                       \
  }
#define VALUE(type, name, parameters, result, bad, call) \
  EXPORT type rt_##name parameters {                     \
    result to{};                                         \
    TRY(call, type(bad));                                \
    return type(to);                                     \
  }
#define MEMORY(address) reinterpret_cast<void *>(address)
#define STREAM(handle) reinterpret_cast<cudaStream_t>(handle)
#define EVENT(handle) reinterpret_cast<cudaEvent_t>(handle)

EXPORT PyObject *rt_not_simulated() {
  PyErr_SetString(PyExc_NotImplementedError, "this call of the CUDA runtime is not simulated");
  return nullptr;
}
EXPORT PyObject *rt_check_status(int status, Skip) {
  if (status) return raise(status);
  Py_RETURN_NONE;
}
EXPORT PyObject *rt__ensure_context() {
  size_t free, total;
  TRY(cudaMemGetInfo(&free, &total), nullptr);
  Py_RETURN_NONE;
}

VALUE(int, driverGetVersion, (Skip), int, -1, cudaDriverGetVersion(&to))
VALUE(int, runtimeGetVersion, (Skip), int, -1, cudaRuntimeGetVersion(&to))
EXPORT int rt__getCUDAMajorVersion(Skip skip) { return rt_runtimeGetVersion(skip) / 1000; }

VALUE(int, getDevice, (Skip), int, -1, cudaGetDevice(&to))
VALUE(int, getDeviceCount, (Skip), int, -1, cudaGetDeviceCount(&to))
NONE(setDevice, (int device, Skip), cudaSetDevice(device))
NONE(deviceSynchronize, (Skip), cudaDeviceSynchronize())
VALUE(int, deviceGetAttribute, (int attribute, int device, Skip), int, -1,
      cudaDeviceGetAttribute(&to, cudaDeviceAttr(attribute), device))
VALUE(int, deviceCanAccessPeer, (int device, int other, Skip), int, -1,
      cudaDeviceCanAccessPeer(&to, device, other))
NONE(deviceEnablePeerAccess, (int other, Skip), cudaDeviceEnablePeerAccess(other, 0))
NONE(deviceDisablePeerAccess, (int other, Skip), cudaDeviceDisablePeerAccess(other))
EXPORT PyObject *rt__deviceEnsurePeerAccess(int other, Skip) {
  int status = cudaDeviceEnablePeerAccess(other, 0);
  if (status && status != cudaErrorPeerAccessAlreadyEnabled) return raise(status);
  cudaGetLastError();
  Py_RETURN_NONE;
}
EXPORT PyObject *rt_getDeviceProperties(int device, Skip) {
  cudaDeviceProp of;
  TRY(cudaGetDeviceProperties(&of, device), nullptr);
  return Py_BuildValue(
      "{s:y,s:i,s:i,s:i,s:i,s:(iii),s:(iii),s:i,s:i,s:n,s:n,s:i}", "name", of.name, "major",
      of.major, "minor", of.minor, "warpSize", of.warpSize, "maxThreadsPerBlock",
      of.maxThreadsPerBlock, "maxThreadsDim", 1024, 1024, 64, "maxGridSize", 2147483647, 65535,
      65535, "multiProcessorCount", of.multiProcessorCount, "maxThreadsPerMultiProcessor",
      of.maxThreadsPerMultiProcessor, "totalGlobalMem", Py_ssize_t(of.totalGlobalMem),
      "sharedMemPerBlock", Py_ssize_t(of.sharedMemPerBlock), "pciBusID", of.pciBusID);
}
EXPORT PyObject *rt_deviceGetPCIBusId(int device, Skip) {
  cudaDeviceProp of;
  TRY(cudaGetDeviceProperties(&of, device), nullptr);
  return PyUnicode_FromFormat("0000:%02x:00.0", of.pciBusID);
}
EXPORT int rt_deviceGetByPCIBusId(PyObject *id, Skip) {
  int to;
  const char *text = PyUnicode_AsUTF8(id);
  if (!text) return -1;
  TRY(cudaDeviceGetByPCIBusId(&to, text), -1);
  return to;
}

VALUE(Ptr, malloc, (size_t size, Skip), void *, 0, cudaMalloc(&to, size))
VALUE(Ptr, mallocAsync, (size_t size, Ptr stream, Skip), void *, 0,
      cudaMallocAsync(&to, size, STREAM(stream)))
VALUE(Ptr, mallocManaged, (size_t size, Skip), void *, 0,
      cudaMallocManaged(&to, size, cudaMemAttachGlobal))
VALUE(Ptr, hostAlloc, (size_t size, unsigned flags, Skip), void *, 0,
      cudaHostAlloc(&to, size, flags))
NONE(free, (Ptr memory, Skip), cudaFree(MEMORY(memory)))
NONE(freeHost, (Ptr memory, Skip), cudaFreeHost(MEMORY(memory)))
NONE(freeAsync, (Ptr memory, Ptr stream, Skip), cudaFreeAsync(MEMORY(memory), STREAM(stream)))
EXPORT PyObject *rt_memGetInfo(Skip) {
  size_t free, total;
  TRY(cudaMemGetInfo(&free, &total), nullptr);
  return Py_BuildValue("(nn)", Py_ssize_t(free), Py_ssize_t(total));
}
NONE(memcpy, (Ptr to, Ptr from, size_t size, int kind, Skip),
     cudaMemcpy(MEMORY(to), MEMORY(from), size, cudaMemcpyKind(kind)))
NONE(memcpyAsync, (Ptr to, Ptr from, size_t size, int kind, Ptr stream, Skip),
     cudaMemcpyAsync(MEMORY(to), MEMORY(from), size, cudaMemcpyKind(kind), STREAM(stream)))
NONE(memcpyPeer, (Ptr to, int there, Ptr from, int here, size_t size, Skip),
     cudaMemcpyPeer(MEMORY(to), there, MEMORY(from), here, size))
NONE(memcpyPeerAsync, (Ptr to, int there, Ptr from, int here, size_t size, Ptr stream, Skip),
     cudaMemcpyPeerAsync(MEMORY(to), there, MEMORY(from), here, size, STREAM(stream)))
NONE(memset, (Ptr to, int value, size_t size, Skip), cudaMemset(MEMORY(to), value, size))
NONE(memsetAsync, (Ptr to, int value, size_t size, Ptr stream, Skip),
     cudaMemsetAsync(MEMORY(to), value, size, STREAM(stream)))
EXPORT PyObject *rt_pointerGetAttributes(Ptr address, Skip) {
  cudaPointerAttributes of;
  TRY(cudaPointerGetAttributes(&of, MEMORY(address)), nullptr);
  PyObject *module = PyImport_ImportModule("cupy_backends.cuda.api.runtime");
  if (!module) return nullptr;
  PyObject *result =
      PyObject_CallMethod(module, "PointerAttributes", "inni", of.device,
                          Py_ssize_t(of.devicePointer), Py_ssize_t(of.hostPointer), int(of.type));
  Py_DECREF(module);
  return result;
}
EXPORT int rt_pointerGetMemoryType(Ptr address, Skip) {
  cudaPointerAttributes of;
  TRY(cudaPointerGetAttributes(&of, MEMORY(address)), -1);
  return of.type;
}

VALUE(Ptr, streamCreate, (Skip), cudaStream_t, 0, cudaStreamCreate(&to))
VALUE(Ptr, streamCreateWithFlags, (unsigned flags, Skip), cudaStream_t, 0,
      cudaStreamCreateWithFlags(&to, flags))
VALUE(Ptr, streamCreateWithPriority, (unsigned flags, int priority, Skip), cudaStream_t, 0,
      cudaStreamCreateWithPriority(&to, flags, priority))
VALUE(unsigned, streamGetFlags, (Ptr stream, Skip), unsigned, 0,
      cudaStreamGetFlags(STREAM(stream), &to))
VALUE(int, streamGetPriority, (Ptr stream, Skip), int, 0,
      cudaStreamGetPriority(STREAM(stream), &to))
NONE(streamDestroy, (Ptr stream, Skip), cudaStreamDestroy(STREAM(stream)))
NONE(streamSynchronize, (Ptr stream, Skip), cudaStreamSynchronize(STREAM(stream)))
EXPORT PyObject *rt_streamQuery(Ptr stream, Skip) {
  return PyLong_FromLong(status_of([&] { return cudaStreamQuery(STREAM(stream)); }));
}
NONE(streamWaitEvent, (Ptr stream, Ptr event, Skip, void *),
     cudaStreamWaitEvent(STREAM(stream), EVENT(event), 0))
// The pair (function, argument) of a callback lives until it has run.
static void call(PyObject *pair, PyObject *before) {
  PyGILState_STATE held = PyGILState_Ensure();
  PyObject *last = PyTuple_Pack(1, PyTuple_GET_ITEM(pair, 1));
  PyObject *arguments = before ? PySequence_Concat(before, last) : Py_NewRef(last);
  PyObject *result = PyObject_CallObject(PyTuple_GET_ITEM(pair, 0), arguments);
  if (!result) PyErr_WriteUnraisable(pair);
  Py_XDECREF(result);
  Py_XDECREF(arguments);
  Py_XDECREF(last);
  Py_XDECREF(before);
  Py_DECREF(pair);
  PyGILState_Release(held);
}
EXPORT PyObject *rt_launchHostFunc(Ptr stream, PyObject *function, Ptr argument, Skip) {
  PyObject *pair = Py_BuildValue("(On)", function, argument);
  TRY(cudaLaunchHostFunc(
          STREAM(stream), [](void *pair) { call(static_cast<PyObject *>(pair), nullptr); }, pair),
      nullptr);
  Py_RETURN_NONE;
}
EXPORT PyObject *rt__launchHostFuncUnmanaged(Ptr stream, PyObject *pair, Skip) {
  Py_INCREF(pair);  // a graph may run it again
  TRY(cudaLaunchHostFunc(
          STREAM(stream),
          [](void *pair) {
            PyGILState_STATE held = PyGILState_Ensure();
            Py_INCREF(static_cast<PyObject *>(pair));
            PyGILState_Release(held);
            call(static_cast<PyObject *>(pair), nullptr);
          },
          pair),
      nullptr);
  Py_RETURN_NONE;
}
EXPORT PyObject *rt_streamAddCallback(Ptr stream, PyObject *function, Ptr argument, Skip, void *) {
  PyObject *pair = Py_BuildValue("(On)", function, argument);
  TRY(cudaStreamAddCallback(
          STREAM(stream),
          [](cudaStream_t stream, cudaError_t status, void *pair) {
            PyGILState_STATE held = PyGILState_Ensure();
            PyObject *before = Py_BuildValue("(ni)", Py_ssize_t(stream), int(status));
            PyGILState_Release(held);
            call(static_cast<PyObject *>(pair), before);
          },
          pair, 0),
      nullptr);
  Py_RETURN_NONE;
}

VALUE(Ptr, eventCreate, (Skip), cudaEvent_t, 0, cudaEventCreate(&to))
VALUE(Ptr, eventCreateWithFlags, (unsigned flags, Skip), cudaEvent_t, 0,
      cudaEventCreateWithFlags(&to, flags))
NONE(eventDestroy, (Ptr event, Skip), cudaEventDestroy(EVENT(event)))
NONE(eventRecord, (Ptr event, Ptr stream, Skip), cudaEventRecord(EVENT(event), STREAM(stream)))
NONE(eventSynchronize, (Ptr event, Skip), cudaEventSynchronize(EVENT(event)))
EXPORT PyObject *rt_eventQuery(Ptr event, Skip) {
  return PyLong_FromLong(status_of([&] { return cudaEventQuery(EVENT(event)); }));
}
VALUE(float, eventElapsedTime, (Ptr from, Ptr till, Skip), float, 0,
      cudaEventElapsedTime(&to, EVENT(from), EVENT(till)))

EXPORT int rt_streamIsCapturing(Ptr stream, Skip) {
  cudaStreamCaptureStatus to;
  TRY(cudaStreamIsCapturing(STREAM(stream), &to), -1);
  return to == cudaStreamCaptureStatusActive;
}
EXPORT PyObject *rt_streamBeginCapture(Ptr stream, Skip, void *optional) {
  auto given = static_cast<int *>(optional);  // how many, and the mode
  int mode = given && given[0] > 0 ? given[1] : cudaStreamCaptureModeRelaxed;
  TRY(cudaStreamBeginCapture(STREAM(stream), cudaStreamCaptureMode(mode)), nullptr);
  Py_RETURN_NONE;
}
VALUE(Ptr, streamEndCapture, (Ptr stream, Skip), cudaGraph_t, 0,
      cudaStreamEndCapture(STREAM(stream), &to))
VALUE(Ptr, graphInstantiate, (Ptr graph, Skip), cudaGraphExec_t, 0,
      cudaGraphInstantiate(&to, reinterpret_cast<cudaGraph_t>(graph), 0))
NONE(graphLaunch, (Ptr graph, Ptr stream, Skip),
     cudaGraphLaunch(reinterpret_cast<cudaGraphExec_t>(graph), STREAM(stream)))
NONE(graphUpload, (Ptr graph, Ptr stream, Skip),
     cudaGraphUpload(reinterpret_cast<cudaGraphExec_t>(graph), STREAM(stream)))
NONE(graphDestroy, (Ptr graph, Skip), cudaGraphDestroy(reinterpret_cast<cudaGraph_t>(graph)))
NONE(graphExecDestroy, (Ptr graph, Skip),
     cudaGraphExecDestroy(reinterpret_cast<cudaGraphExec_t>(graph)))
