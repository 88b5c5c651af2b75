// The machine: devices, memory, streams, events and graphs, as the CUDA runtime shows them.
// Memory of a device is memory of the host that the simulator has given out.
#include "sim.h"

#include <deque>
#include <pthread.h>
#include <set>

using namespace std;

namespace sim {

static long setting(const char *name, long otherwise) {
  const char *value = getenv(name);
  return value && *value ? strtol(value, nullptr, 10) : otherwise;
}

// "12.4" -> 12040, as CUDA writes its versions
static int version(const char *name, int otherwise) {
  const char *value = getenv(name);
  int major = 0, minor = 0;
  if (!value || sscanf(value, "%d.%d", &major, &minor) < 1) return otherwise;
  return major * 1000 + minor * 10;
}

static const int RUNTIME = version("CUSIM_RUNTIME", 13020);
static const int DRIVER = version("CUSIM_DRIVER", 13020);
static const int CAPABILITY =
    version("CUSIM_CC", 9000) / 1000 * 10 + version("CUSIM_CC", 9000) % 1000 / 10;
static const int DEVICES = setting("CUSIM_DEVICES", 1);
static const bool PEER = setting("CUSIM_PEER", 0);
static const bool EAGER = setting("CUSIM_EAGER", 0);
static const bool POISON = setting("CUSIM_POISON", 0);
static const size_t MEMORY = size_t(setting("CUSIM_MEM_MB", 8192)) << 20;

Stats stats;
bool logging = setting("CUSIM_LOG", 0);
recursive_mutex one_at_a_time;

// ---- the state of the process and of its threads
static bool initialised = false, forked = false;
static thread_local bool has_context = false;
static thread_local int current = 0;
static thread_local cudaError_t last = cudaSuccess;
static map<string, int> failures;

static cudaError_t set_last(cudaError_t error) { return last = error; }

// Outside of enter(), a handler would be there too late.
__attribute__((constructor)) static void watch_forks() {
  pthread_atfork(nullptr, nullptr, [] { forked = forked || initialised; });
}

cudaError_t enter() {
  if (forked) return cudaErrorInitializationError;
  if (DRIVER / 1000 < RUNTIME / 1000) return cudaErrorInsufficientDriver;
  if (DEVICES < 1) return cudaErrorNoDevice;
  initialised = has_context = true;
  return cudaSuccess;
}

bool fails(const char *what) {
  lock_guard<recursive_mutex> lock(one_at_a_time);
  auto found = failures.find(what);
  if (found == failures.end() || found->second < 1) return false;
  found->second--;
  LOG("%s fails, as it was told to", what);
  return true;
}

int current_device() { return current; }
bool in_context() { return has_context; }

// The first lines of every call.
#define ENTER                                              \
  if (cudaError_t error = enter()) return set_last(error); \
  lock_guard<recursive_mutex> lock(one_at_a_time)
#define NEEDS(condition, error) \
  if (!(condition)) return set_last(error)

// ---- memory
struct Block {
  size_t size;
  int device;  // -1: pinned memory of the host
  bool managed = false;
};
static map<uintptr_t, Block> blocks;
static map<int, size_t> used;
static set<pair<int, int>> peers;  // (device, whose memory it may read)

static const Block *block_of(const void *address) {
  lock_guard<recursive_mutex> lock(one_at_a_time);
  auto next = blocks.upper_bound(uintptr_t(address));
  if (next == blocks.begin()) return nullptr;
  auto found = prev(next);
  return uintptr_t(address) < found->first + found->second.size ? &found->second : nullptr;
}

int device_of(const void *address) {
  auto block = block_of(address);
  return block ? block->device : -1;
}

int foreign(int device, const vector<const void *> &addresses) {
  if (DEVICES < 2) return -1;
  for (auto address : addresses) {
    int owner = device_of(address);
    if (owner >= 0 && owner != device && !peers.count({device, owner})) return owner;
  }
  return -1;
}

// ---- streams: work waits in the queue of its stream until something waits for it
struct Graph {
  vector<function<void()>> nodes;
};
struct Capture;
struct Stream {
  int device;
  unsigned flags;
  int priority;
  deque<function<void()>> queue;
  shared_ptr<Capture> capture;
};
// A capture begins in one stream; others join it when they wait for an event that was recorded in
// it, and must be waited for in turn before it ends.
struct Capture {
  Stream *origin;
  cudaStreamCaptureMode mode;
  Graph *graph;
  bool broken;  // it has met an operation that is not allowed in it
  set<Stream *> open;
};
// A place in a stream that an event has marked.
struct Mark {
  Stream *stream;
  bool done;
  chrono::steady_clock::time_point time;
};
struct Event {
  int device;
  unsigned flags;
  shared_ptr<Mark> mark;
  shared_ptr<Capture> capture;
};
static set<Stream *> streams;

static Stream *created(cudaStream_t stream) {  // null for the default streams, 0, 1 and 2
  return uintptr_t(stream) < 3 ? nullptr : reinterpret_cast<Stream *>(stream);
}

int device_of_stream(cudaStream_t stream) {
  return created(stream) ? created(stream)->device : current;
}

bool capturing(cudaStream_t stream) { return created(stream) && created(stream)->capture; }

// Whether the default stream of the current device would wait for a stream that is captured.
static bool legacy_meets_capture() {
  for (auto stream : streams)
    if (stream->capture && stream->device == current && !(stream->flags & cudaStreamNonBlocking))
      return true;
  return false;
}

static void run_next(Stream *stream) {
  auto work = move(stream->queue.front());
  stream->queue.pop_front();
  work();
}
static void drain(Stream *stream) {
  while (!stream->queue.empty()) run_next(stream);
}
static void reach(const Mark &mark) {
  while (!mark.done) run_next(mark.stream);
}
static void drain_device(int device, bool blocking_only = false) {
  for (auto stream : streams)
    if (stream->device == device && !(blocking_only && stream->flags & cudaStreamNonBlocking))
      drain(stream);
}
void finish() {
  lock_guard<recursive_mutex> lock(one_at_a_time);
  for (auto stream : streams) drain(stream);
}

cudaError_t submit(cudaStream_t handle, function<void()> work) {
  lock_guard<recursive_mutex> lock(one_at_a_time);
  auto stream = created(handle);
  if (capturing(handle)) {
    stream->capture->graph->nodes.push_back(move(work));
    if (stream != stream->capture->origin) stream->capture->open.insert(stream);
  } else if (stream && !EAGER) {
    stream->queue.push_back(move(work));
  } else {
    if (!stream && legacy_meets_capture()) return cudaErrorStreamCaptureImplicit;
    if (!stream) drain_device(current, true);  // it waits for those that are not non-blocking
    work();
  }
  return cudaSuccess;
}

// What must not happen while a capture of this mode is under way.
static bool unsafe(const char *call) {
  bool found = false;
  for (auto stream : streams)
    if (stream->capture && stream->capture->mode == cudaStreamCaptureModeGlobal)
      found = stream->capture->broken = true;
  if (found) LOG("%s is not allowed during a capture", call);
  return found;
}
#define UNSAFE NEEDS(!unsafe(__func__), cudaErrorStreamCaptureUnsupported)
// What must not be asked of a stream that is captured.
#define NOT_CAPTURED(handle)                            \
  if (capturing(handle)) {                              \
    created(handle)->capture->broken = true;            \
    return set_last(cudaErrorStreamCaptureUnsupported); \
  }

}  // namespace sim

using namespace sim;

// ---- for cpusim.py
EXPORT void cusim_stats(Stats *to) { *to = stats; }
EXPORT void cusim_reset() {
  long pinned = stats.pinned_bytes;
  stats = {};
  stats.pinned_bytes = stats.pinned_peak = pinned;
}
EXPORT void cusim_log(int on) { logging = on; }
EXPORT void cusim_fail(const char *what, int calls) {
  lock_guard<recursive_mutex> lock(one_at_a_time);
  failures[what] = calls;
}
EXPORT void cusim_finish() { finish(); }
EXPORT void cusim_poison(void *address, size_t size, cudaStream_t stream) {
  lock_guard<recursive_mutex> lock(one_at_a_time);
  if (!streams.count(created(stream))) stream = nullptr;  // its work ended with it
  submit(stream, [=] { memset(address, 0xff, size); });
}
EXPORT long cusim_pending(cudaStream_t stream) {
  lock_guard<recursive_mutex> lock(sim::one_at_a_time);
  return created(stream) ? created(stream)->queue.size() : 0;
}

// ---- versions, devices
EXPORT cudaError_t cudaGetLastError() {
  auto error = last;
  last = cudaSuccess;
  return error;
}
EXPORT cudaError_t cudaDriverGetVersion(int *to) { return *to = DRIVER, cudaSuccess; }
EXPORT cudaError_t cudaRuntimeGetVersion(int *to) { return *to = RUNTIME, cudaSuccess; }
EXPORT cudaError_t cudaGetDeviceCount(int *to) {
  ENTER;
  *to = DEVICES;
  return cudaSuccess;
}
EXPORT cudaError_t cudaGetDevice(int *to) {
  ENTER;
  *to = current;
  return cudaSuccess;
}
EXPORT cudaError_t cudaSetDevice(int device) {
  ENTER;
  NEEDS(0 <= device && device < DEVICES, cudaErrorInvalidDevice);
  current = device;
  return cudaSuccess;
}
EXPORT cudaError_t cudaDeviceGetAttribute(int *to, cudaDeviceAttr attribute, int device) {
  ENTER;
  NEEDS(0 <= device && device < DEVICES, cudaErrorInvalidDevice);
  static const map<int, int> attributes = {
      {cudaDevAttrComputeCapabilityMajor, CAPABILITY / 10},
      {cudaDevAttrComputeCapabilityMinor, CAPABILITY % 10},
      {cudaDevAttrMaxThreadsPerBlock, 1024},
      {cudaDevAttrWarpSize, 32},
      {cudaDevAttrMultiProcessorCount, 2},
      {cudaDevAttrMaxSharedMemoryPerBlock, 49152},
      {cudaDevAttrMaxGridDimX, 2147483647},
      {cudaDevAttrMaxThreadsPerMultiProcessor, 2048},
      {cudaDevAttrMemoryPoolsSupported, 0},
  };
  auto found = attributes.find(attribute);
  *to = found == attributes.end() ? 0 : found->second;
  return cudaSuccess;
}
EXPORT cudaError_t cudaGetDeviceProperties(cudaDeviceProp *to, int device) {
  ENTER;
  NEEDS(0 <= device && device < DEVICES, cudaErrorInvalidDevice);
  *to = {};
  snprintf(to->name, sizeof to->name, "Simulated GPU");
  to->totalGlobalMem = MEMORY;
  to->major = CAPABILITY / 10, to->minor = CAPABILITY % 10;
  to->warpSize = 32, to->maxThreadsPerBlock = 1024, to->multiProcessorCount = 2;
  to->sharedMemPerBlock = 49152, to->maxThreadsPerMultiProcessor = 2048;
  to->pciBusID = device + 1;
  return cudaSuccess;
}
EXPORT cudaError_t cudaDeviceSynchronize() {
  ENTER;
  UNSAFE;
  drain_device(current);
  stats.dev_sync++;
  return cudaSuccess;
}
EXPORT cudaError_t cudaDeviceGetByPCIBusId(int *to, const char *id) {
  ENTER;
  unsigned domain, bus, place;
  NEEDS(sscanf(id, "%x:%x:%x", &domain, &bus, &place) == 3, cudaErrorInvalidValue);
  NEEDS(domain == 0 && 1 <= bus && int(bus) <= DEVICES, cudaErrorInvalidDevice);
  *to = bus - 1;
  return cudaSuccess;
}
EXPORT cudaError_t cudaDeviceCanAccessPeer(int *to, int device, int other) {
  ENTER;
  *to = PEER && device != other;
  return cudaSuccess;
}
EXPORT cudaError_t cudaDeviceEnablePeerAccess(int other, unsigned) {
  ENTER;
  NEEDS(PEER && other != current, cudaErrorPeerAccessUnsupported);
  NEEDS(peers.insert({current, other}).second, cudaErrorPeerAccessAlreadyEnabled);
  return cudaSuccess;
}
EXPORT cudaError_t cudaDeviceDisablePeerAccess(int other) {
  ENTER;
  NEEDS(peers.erase({current, other}), cudaErrorPeerAccessNotEnabled);
  return cudaSuccess;
}

// ---- memory
static cudaError_t allocate(void **to, size_t size, bool managed = false) {
  NEEDS(!fails("malloc") && size <= MEMORY - used[current], cudaErrorMemoryAllocation);
  void *memory = aligned_alloc(512, (size + 511) / 512 * 512 + 512);
  NEEDS(memory, cudaErrorMemoryAllocation);
  memset(memory, 0xff, size);  // NaN in every float: nothing is zero by chance
  blocks[uintptr_t(memory)] = {max(size, size_t(1)), current, managed};
  used[current] += max(size, size_t(1));
  stats.malloc++;
  LOG("malloc %zu on device %d", size, current);
  *to = memory;
  return cudaSuccess;
}
EXPORT cudaError_t cudaMalloc(void **to, size_t size) {
  ENTER;
  UNSAFE;
  return allocate(to, size);
}
EXPORT cudaError_t cudaMallocAsync(void **to, size_t size, cudaStream_t) {
  ENTER;
  return allocate(to, size);
}
EXPORT cudaError_t cudaMallocManaged(void **to, size_t size, unsigned) {
  ENTER;
  UNSAFE;
  return allocate(to, size, true);
}
static void release(void *memory) {
  auto found = blocks.find(uintptr_t(memory));
  if (POISON) memset(memory, 0xff, found->second.size);
  used[found->second.device] -= found->second.size;
  blocks.erase(found);
  free(memory);
  stats.free++;
}
EXPORT cudaError_t cudaFree(void *memory) {
  ENTER;
  UNSAFE;
  if (!memory) return cudaSuccess;
  NEEDS(blocks.count(uintptr_t(memory)), cudaErrorInvalidValue);
  drain_device(device_of(memory));  // it waits for the device
  release(memory);
  return cudaSuccess;
}
EXPORT cudaError_t cudaFreeAsync(void *memory, cudaStream_t stream) {
  ENTER;
  if (!memory || capturing(stream)) return cudaSuccess;
  NEEDS(blocks.count(uintptr_t(memory)), cudaErrorInvalidValue);
  return set_last(submit(stream, [=] { release(memory); }));
}
EXPORT cudaError_t cudaHostAlloc(void **to, size_t size, unsigned) {
  ENTER;
  UNSAFE;
  NEEDS(!fails("pinned"), cudaErrorMemoryAllocation);
  void *memory = aligned_alloc(4096, (size + 4095) / 4096 * 4096 + 4096);
  NEEDS(memory, cudaErrorMemoryAllocation);
  blocks[uintptr_t(memory)] = {size, -1};
  stats.pinned++;
  stats.pinned_bytes += size;
  stats.pinned_peak = max(stats.pinned_peak, stats.pinned_bytes);
  LOG("pinned %zu", size);
  *to = memory;
  return cudaSuccess;
}
EXPORT cudaError_t cudaFreeHost(void *memory) {
  ENTER;
  if (!memory) return cudaSuccess;
  auto found = blocks.find(uintptr_t(memory));
  NEEDS(found != blocks.end() && found->second.device < 0, cudaErrorInvalidValue);
  finish();
  stats.pinned_bytes -= found->second.size;
  blocks.erase(found);
  free(memory);
  return cudaSuccess;
}
EXPORT cudaError_t cudaMemGetInfo(size_t *free, size_t *total) {
  ENTER;
  *free = MEMORY - used[current];
  *total = MEMORY;
  return cudaSuccess;
}
EXPORT cudaError_t cudaPointerGetAttributes(cudaPointerAttributes *to, const void *address) {
  ENTER;
  *to = {};
  auto block = block_of(address);
  to->type = !block              ? cudaMemoryTypeUnregistered
             : block->device < 0 ? cudaMemoryTypeHost
             : block->managed    ? cudaMemoryTypeManaged
                                 : cudaMemoryTypeDevice;
  to->device = !block ? -2 : max(block->device, 0);  // -2 as the driver says it of unknown memory
  to->devicePointer = block ? const_cast<void *>(address) : nullptr;
  to->hostPointer =
      block && block->device >= 0 && !block->managed ? nullptr : const_cast<void *>(address);
  return cudaSuccess;
}

static void count_copy(const void *to, const void *from, size_t size) {
  int target = device_of(to), source = device_of(from);
  const char *kind = "h2h";
  if (target >= 0 && source >= 0 && target != source)
    kind = "p2p", stats.p2p++, stats.p2p_bytes += size;
  else if (target >= 0 && source >= 0)
    kind = "d2d", stats.d2d++, stats.d2d_bytes += size;
  else if (target >= 0)
    kind = "h2d", stats.h2d++, stats.h2d_bytes += size;
  else if (source >= 0)
    kind = "d2h", stats.d2h++, stats.d2h_bytes += size;
  LOG("%s %zu", kind, size);
}
EXPORT cudaError_t cudaMemcpy(void *to, const void *from, size_t size, cudaMemcpyKind) {
  ENTER;
  UNSAFE;
  count_copy(to, from, size);
  // A copy between two devices waits for both.
  for (auto address : {static_cast<const void *>(to), from})
    if (device_of(address) >= 0) drain_device(device_of(address), true);
  return set_last(submit(nullptr, [=] { memmove(to, from, size); }));
}
EXPORT cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t size, cudaMemcpyKind,
                                   cudaStream_t stream) {
  ENTER;
  if (capturing(stream)) return submit(stream, [=] { memmove(to, from, size); });
  count_copy(to, from, size);
  if (!block_of(from)) {  // pageable memory is read before the call returns
    auto bytes = make_shared<vector<char>>((const char *)from, (const char *)from + size);
    return set_last(submit(stream, [=] { memmove(to, bytes->data(), size); }));
  }
  auto error = submit(stream, [=] { memmove(to, from, size); });
  if (!block_of(to) && created(stream)) drain(created(stream));  // and it is written before
  return set_last(error);
}
EXPORT cudaError_t cudaMemcpyPeer(void *to, int, const void *from, int, size_t size) {
  return cudaMemcpy(to, from, size, cudaMemcpyDefault);
}
EXPORT cudaError_t cudaMemcpyPeerAsync(void *to, int, const void *from, int, size_t size,
                                       cudaStream_t stream) {
  return cudaMemcpyAsync(to, from, size, cudaMemcpyDefault, stream);
}
EXPORT cudaError_t cudaMemsetAsync(void *to, int value, size_t size, cudaStream_t stream) {
  ENTER;
  if (!capturing(stream)) stats.memset++;
  LOG("memset %zu", size);
  return set_last(submit(stream, [=] { memset(to, value, size); }));
}
EXPORT cudaError_t cudaMemset(void *to, int value, size_t size) {
  return cudaMemsetAsync(to, value, size, nullptr);
}

// ---- streams
EXPORT cudaError_t cudaStreamCreateWithPriority(cudaStream_t *to, unsigned flags, int priority) {
  ENTER;
  NEEDS(!fails("stream"), cudaErrorMemoryAllocation);
  auto stream = new Stream{current, flags, priority};
  streams.insert(stream);
  *to = reinterpret_cast<cudaStream_t>(stream);
  return cudaSuccess;
}
EXPORT cudaError_t cudaStreamCreateWithFlags(cudaStream_t *to, unsigned flags) {
  return cudaStreamCreateWithPriority(to, flags, 0);
}
EXPORT cudaError_t cudaStreamCreate(cudaStream_t *to) { return cudaStreamCreateWithFlags(to, 0); }
EXPORT cudaError_t cudaStreamGetFlags(cudaStream_t stream, unsigned *to) {
  ENTER;
  *to = created(stream) ? created(stream)->flags : 0;
  return cudaSuccess;
}
EXPORT cudaError_t cudaStreamGetPriority(cudaStream_t stream, int *to) {
  ENTER;
  *to = created(stream) ? created(stream)->priority : 0;
  return cudaSuccess;
}
EXPORT cudaError_t cudaStreamDestroy(cudaStream_t handle) {
  ENTER;
  auto stream = created(handle);
  NEEDS(stream && streams.count(stream), cudaErrorInvalidResourceHandle);
  drain(stream);  // its work goes on; here it ends first
  streams.erase(stream);
  delete stream;
  return cudaSuccess;
}
EXPORT cudaError_t cudaStreamSynchronize(cudaStream_t handle) {
  ENTER;
  NOT_CAPTURED(handle);
  if (created(handle))
    drain(created(handle));
  else
    drain_device(current, true);
  stats.stream_sync++;
  LOG("stream synchronize");
  return cudaSuccess;
}
// Work goes on while it is asked for, one piece with each question.
static cudaError_t query(Stream *stream) {
  if (!stream || stream->queue.empty()) return cudaSuccess;
  run_next(stream);
  return cudaErrorNotReady;
}
EXPORT cudaError_t cudaStreamQuery(cudaStream_t handle) {
  ENTER;
  NOT_CAPTURED(handle);
  return query(created(handle));
}
EXPORT cudaError_t cudaStreamAddCallback(cudaStream_t stream, cudaStreamCallback_t function,
                                         void *data, unsigned) {
  ENTER;
  return set_last(submit(stream, [=] { function(stream, cudaSuccess, data); }));
}
EXPORT cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void *data) {
  ENTER;
  return set_last(submit(stream, [=] { function(data); }));
}

// ---- events
EXPORT cudaError_t cudaEventCreateWithFlags(cudaEvent_t *to, unsigned flags) {
  ENTER;
  NEEDS(!fails("event"), cudaErrorMemoryAllocation);
  *to = reinterpret_cast<cudaEvent_t>(new Event{current, flags});
  return cudaSuccess;
}
EXPORT cudaError_t cudaEventCreate(cudaEvent_t *to) { return cudaEventCreateWithFlags(to, 0); }
EXPORT cudaError_t cudaEventDestroy(cudaEvent_t event) {
  ENTER;
  delete reinterpret_cast<Event *>(event);
  return cudaSuccess;
}
EXPORT cudaError_t cudaEventRecord(cudaEvent_t handle, cudaStream_t stream) {
  ENTER;
  auto event = reinterpret_cast<Event *>(handle);
  NEEDS(event->device == device_of_stream(stream), cudaErrorInvalidResourceHandle);
  event->capture = capturing(stream) ? created(stream)->capture : nullptr;
  auto mark = make_shared<Mark>(Mark{created(stream), false});
  event->mark = mark;
  if (event->capture) return cudaSuccess;
  return set_last(submit(stream, [=] {
    mark->done = true;
    mark->time = chrono::steady_clock::now();
  }));
}
EXPORT cudaError_t cudaEventQuery(cudaEvent_t handle) {
  ENTER;
  auto event = reinterpret_cast<Event *>(handle);
  NEEDS(!event->capture, cudaErrorCapturedEvent);
  return !event->mark || event->mark->done ? cudaSuccess : query(event->mark->stream);
}
EXPORT cudaError_t cudaEventSynchronize(cudaEvent_t handle) {
  ENTER;
  auto event = reinterpret_cast<Event *>(handle);
  NEEDS(!event->capture, cudaErrorCapturedEvent);
  if (event->mark) reach(*event->mark);
  stats.event_sync++;
  return cudaSuccess;
}
EXPORT cudaError_t cudaEventElapsedTime(float *to, cudaEvent_t from, cudaEvent_t till) {
  ENTER;
  auto start = reinterpret_cast<Event *>(from), end = reinterpret_cast<Event *>(till);
  for (auto event : {start, end}) {
    NEEDS(event->mark && !(event->flags & cudaEventDisableTiming), cudaErrorInvalidResourceHandle);
    NEEDS(event->mark->done, cudaErrorNotReady);
  }
  NEEDS(start->device == end->device, cudaErrorInvalidResourceHandle);
  *to = chrono::duration<float, milli>(end->mark->time - start->mark->time).count();
  return cudaSuccess;
}
EXPORT cudaError_t cudaStreamWaitEvent(cudaStream_t handle, cudaEvent_t event_handle, unsigned) {
  ENTER;
  auto event = reinterpret_cast<Event *>(event_handle);
  auto mark = event->mark;
  if (event->capture) {
    auto stream = created(handle);
    NEEDS(stream, cudaErrorStreamCaptureImplicit);
    NEEDS(!stream->capture || stream->capture == event->capture, cudaErrorStreamCaptureMerge);
    stream->capture = event->capture;
    stream->capture->open.erase(mark->stream);
    if (stream != stream->capture->origin) stream->capture->open.insert(stream);
    return cudaSuccess;
  }
  NEEDS(!capturing(handle), cudaErrorStreamCaptureIsolation);
  if (!mark || mark->done) return cudaSuccess;
  return set_last(submit(handle, [=] { reach(*mark); }));
}

// ---- graphs
EXPORT cudaError_t cudaStreamBeginCapture(cudaStream_t handle, cudaStreamCaptureMode mode) {
  ENTER;
  auto stream = created(handle);
  NEEDS(stream, cudaErrorStreamCaptureUnsupported);
  NEEDS(!stream->capture, cudaErrorIllegalState);
  stream->capture = make_shared<Capture>(Capture{stream, mode, new Graph, false});
  return cudaSuccess;
}
EXPORT cudaError_t cudaStreamEndCapture(cudaStream_t handle, cudaGraph_t *to) {
  ENTER;
  *to = nullptr;
  NEEDS(capturing(handle), cudaErrorIllegalState);
  auto capture = created(handle)->capture;
  if (created(handle) != capture->origin) {
    capture->broken = true;
    return set_last(cudaErrorStreamCaptureUnmatched);
  }
  for (auto stream : streams)
    if (stream->capture == capture) stream->capture = nullptr;
  NEEDS(!capture->broken, cudaErrorStreamCaptureInvalidated);
  NEEDS(capture->open.empty(), cudaErrorStreamCaptureUnjoined);
  LOG("captured %zu nodes", capture->graph->nodes.size());
  *to = reinterpret_cast<cudaGraph_t>(capture->graph);
  return cudaSuccess;
}
EXPORT cudaError_t cudaStreamIsCapturing(cudaStream_t handle, cudaStreamCaptureStatus *to) {
  ENTER;
  NEEDS(created(handle) || !legacy_meets_capture(), cudaErrorStreamCaptureImplicit);
  *to = !capturing(handle)                 ? cudaStreamCaptureStatusNone
        : created(handle)->capture->broken ? cudaStreamCaptureStatusInvalidated
                                           : cudaStreamCaptureStatusActive;
  return cudaSuccess;
}
EXPORT cudaError_t cudaGraphInstantiate(cudaGraphExec_t *to, cudaGraph_t from, unsigned long long) {
  ENTER;
  *to = reinterpret_cast<cudaGraphExec_t>(new Graph(*reinterpret_cast<Graph *>(from)));
  return cudaSuccess;
}
EXPORT cudaError_t cudaGraphLaunch(cudaGraphExec_t handle, cudaStream_t stream) {
  ENTER;
  stats.graph_launch++;
  auto nodes = reinterpret_cast<Graph *>(handle)->nodes;
  return set_last(submit(stream, [=] {
    for (auto &node : nodes) node();
  }));
}
EXPORT cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t) {
  ENTER;
  return cudaSuccess;
}
EXPORT cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  ENTER;
  delete reinterpret_cast<Graph *>(graph);
  return cudaSuccess;
}
EXPORT cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) {
  ENTER;
  delete reinterpret_cast<Graph *>(graph);
  return cudaSuccess;
}
