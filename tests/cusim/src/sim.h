// What the parts of the simulator share: the state of the machine is in runtime.cpp.
#pragma once
#include <cuda.h>
#include <cuda_runtime_api.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace sim {

// The order is that of NAMES in cpusim.py.
struct Stats {
  long launches, gemm, malloc, free, h2d, d2h, d2d, p2p;
  long h2d_bytes, d2h_bytes, d2d_bytes, p2p_bytes;
  long stream_sync, dev_sync, event_sync, memset, compile, graph_launch;
  long pinned;
  long pinned_bytes, pinned_peak;  // how much is pinned now, and was at most
};

extern Stats stats;
extern bool logging;
extern std::recursive_mutex one_at_a_time;  // held while anything of the machine is read or run

// The error of a call that finds no usable driver, no device, or itself in a forked child.
cudaError_t enter();
// Whether this call of a kind is one that `cpusim.fail` has chosen.
bool fails(const char *what);
int current_device();
// Whether this thread has called the runtime before.
bool in_context();
// The device that holds an address, -1 for the host.
int device_of(const void *address);
// The device whose memory is among the addresses, if it is not `device` and not open to it; else
// -1.
int foreign(int device, const std::vector<const void *> &addresses);
// The device of a stream.
int device_of_stream(cudaStream_t stream);
// Runs the work in the order of its stream: now, when the stream is waited for, or in a graph.
cudaError_t submit(cudaStream_t stream, std::function<void()> work);
bool capturing(cudaStream_t stream);
// Runs everything that is pending, for libraries that do not follow streams.
void finish();
// A sentence that the error message of the next failing call of this thread carries.
void explain(const std::string &sentence);

#define LOG(...)                               \
  do {                                         \
    if (sim::logging) {                        \
      fprintf(stderr, "[cusim] " __VA_ARGS__); \
      fputc('\n', stderr);                     \
    }                                          \
  } while (0)

}  // namespace sim
