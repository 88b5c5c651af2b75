// NVRTC: compile.py, which calls g++.
#include "sim.h"

#include <algorithm>
#include <unistd.h>

using namespace std;

enum { SUCCESS = 0, INVALID_OPTION = 5, COMPILATION = 6, NAME_EXPRESSION_NOT_VALID = 10 };
static const vector<int> &architectures() {
  static const vector<int> supported = [] {
    vector<int> found = {75, 80, 86, 87, 88, 89, 90, 100, 103, 110, 120, 121};
    int version;
    cudaRuntimeGetVersion(&version);
    if (version < 13000) found.insert(found.begin(), {50, 52, 53, 60, 61, 62, 70, 72});
    return found;
  }();
  return supported;
}

struct Program {
  string source, log, binary;
  vector<string> names;
  map<string, string> lowered;
};
static Program *program(void *handle) { return static_cast<Program *>(handle); }

EXPORT const char *nvrtcGetErrorString(int error) {
  switch (error) {
    case SUCCESS: return "NVRTC_SUCCESS";
    case INVALID_OPTION: return "NVRTC_ERROR_INVALID_OPTION";
    case COMPILATION: return "NVRTC_ERROR_COMPILATION";
    case NAME_EXPRESSION_NOT_VALID: return "NVRTC_ERROR_NAME_EXPRESSION_NOT_VALID";
  }
  return "NVRTC_ERROR_INTERNAL_ERROR";
}
EXPORT int nvrtcVersion(int *major, int *minor) {
  int version;
  cudaRuntimeGetVersion(&version);
  *major = version / 1000, *minor = version % 1000 / 10;
  return SUCCESS;
}
EXPORT int nvrtcGetNumSupportedArchs(int *to) {
  *to = architectures().size();
  return SUCCESS;
}
EXPORT int nvrtcGetSupportedArchs(int *to) {
  copy(architectures().begin(), architectures().end(), to);
  return SUCCESS;
}
EXPORT int nvrtcCreateProgram(void **to, const char *source, const char *, int, const char **,
                              const char **) {
  *to = new Program{source};
  return SUCCESS;
}
EXPORT int nvrtcDestroyProgram(void **handle) {
  delete program(*handle);
  *handle = nullptr;
  return SUCCESS;
}

static string read(const string &path) {
  string text;
  FILE *file = fopen(path.c_str(), "rb");
  if (!file) return text;
  char part[65536];
  while (size_t size = fread(part, 1, sizeof part, file)) text.append(part, size);
  fclose(file);
  return text;
}
static void write(const string &path, const string &text) {
  FILE *file = fopen(path.c_str(), "wb");
  if (!file) return;
  fwrite(text.data(), 1, text.size(), file);
  fclose(file);
}
// "-arch=sm_61", "--gpu-architecture=compute_90a" -> whether this NVRTC knows it
static bool known(const string &option) {
  for (string name : {"-arch=", "--gpu-architecture="}) {
    if (option.compare(0, name.size(), name)) continue;
    int architecture = atoi(option.c_str() + option.find('_') + 1);
    auto &all = architectures();
    return count(all.begin(), all.end(), architecture);
  }
  return true;
}

EXPORT int nvrtcCompileProgram(void *handle, int count, const char **options) {
  auto self = program(handle);
  string passed;
  for (int i = 0; i < count; i++) {
    string option = options[i];
    if (!known(option)) {
      self->log = "nvrtc: error: invalid value for --gpu-architecture (-arch)\n";
      return INVALID_OPTION;
    }
    bool include = option.compare(0, 2, "-I") == 0 && option.find("_cccl") == string::npos;
    if (include || option.compare(0, 2, "-D") == 0) passed += " '" + option + "'";
  }
  if (self->source.empty()) {  // CuPy asks so what the compiler adds of its own
    self->binary = "// cusim\n";
    return SUCCESS;
  }
  sim::stats.compile++;
  const char *place = getenv("TMPDIR"), *compiler = getenv("CUSIM_COMPILER");
  string folder = string(place ? place : "/tmp") + "/cusim_nvrtc_XXXXXX", names;
  if (!compiler || !mkdtemp(&folder[0])) return COMPILATION;
  for (auto &name : self->names) names += name + "\n";
  write(folder + "/kernel.cu", self->source);
  write(folder + "/names", names);
  string command = string(compiler) + " '" + folder + "'" + passed + " > '" + folder + "/log' 2>&1";
  bool failed = system(command.c_str());
  self->log = read(folder + "/log");
  string object = read(folder + "/kernel.so");
  failed |= system(("rm -r '" + folder + "'").c_str()) || object.empty();
  uint64_t size = object.size();
  self->binary = "CUSIMBIN" + string(reinterpret_cast<char *>(&size), 8) + object;
  return failed ? COMPILATION : SUCCESS;
}

// What NVRTC gives out, with its size; texts end in a zero.
#define OUTPUT(what, text)                                    \
  EXPORT int nvrtcGet##what##Size(void *handle, size_t *to) { \
    *to = (text).size();                                      \
    return SUCCESS;                                           \
  }                                                           \
  EXPORT int nvrtcGet##what(void *handle, char *to) {         \
    memcpy(to, (text).data(), (text).size());                 \
    return SUCCESS;                                           \
  }
OUTPUT(CUBIN, program(handle)->binary)
OUTPUT(PTX, program(handle)->binary + '\0')
OUTPUT(ProgramLog, program(handle)->log + '\0')

EXPORT int nvrtcAddNameExpression(void *handle, const char *name) {
  program(handle)->names.push_back(name);
  return SUCCESS;
}
EXPORT int nvrtcGetLoweredName(void *handle, const char *name, const char **to) {
  auto self = program(handle);
  auto found = find(self->names.begin(), self->names.end(), name);
  if (found == self->names.end()) return NAME_EXPRESSION_NOT_VALID;
  auto &lowered = self->lowered[name];
  lowered = "expression" + to_string(found - self->names.begin());
  *to = lowered.c_str();
  return SUCCESS;
}
