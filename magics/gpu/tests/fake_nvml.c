/* A library with NVML's calls and two devices, for tests on machines without any. The second device answers "not
 * supported" for power, as some do. FAKE_NVML_PID names a process on the first device; FAKE_NVML_INIT an error code that
 * initialisation returns (9: driver not loaded, 18: versions differ). */
#include <stdlib.h>
#include <string.h>

typedef int ret;
typedef struct { unsigned index; } *device;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } memory_v2;
typedef struct { unsigned gpu, memory; } rates;
typedef struct { unsigned pid; unsigned long long used; unsigned gpu_instance, compute_instance; } process;
enum { OK = 0, NOT_SUPPORTED = 3, INSUFFICIENT_SIZE = 7 };

static struct { unsigned index; } devices[2] = {{0}, {1}};

static ret text(char *to, unsigned length, const char *from) {
    strncpy(to, from, length - 1);
    to[length - 1] = 0;
    return OK;
}

ret nvmlInit_v2(void) {
    const char *code = getenv("FAKE_NVML_INIT");
    return code ? atoi(code) : OK;
}
ret nvmlInitWithFlags(unsigned flags) { (void)flags; return nvmlInit_v2(); }
ret nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(ret code) { return code == NOT_SUPPORTED ? "Not Supported" : "Some error"; }
ret nvmlSystemGetDriverVersion(char *to, unsigned length) { return text(to, length, "580.65.06"); }
ret nvmlSystemGetCudaDriverVersion_v2(int *version) { *version = 13000; return OK; }
ret nvmlDeviceGetCount_v2(unsigned *count) { *count = 2; return OK; }
ret nvmlDeviceGetHandleByIndex_v2(unsigned index, device *to) { *to = (device)&devices[index]; return OK; }
ret nvmlDeviceGetName(device d, char *to, unsigned length) { return text(to, length, d->index ? "Fake A2" : "Fake H100 <80GB>"); }
ret nvmlDeviceGetUUID(device d, char *to, unsigned length) { return text(to, length, d->index ? "GPU-1" : "GPU-0"); }
ret nvmlDeviceGetMemoryInfo_v2(device d, memory_v2 *to) {
    to->total = (d->index ? 16ull : 80ull) << 30;
    to->used = (d->index ? 1ull : 20ull) << 30;
    to->free = to->total - to->used;
    return OK;
}
ret nvmlDeviceGetUtilizationRates(device d, rates *to) { to->gpu = d->index ? 0 : 93; to->memory = 0; return OK; }
ret nvmlDeviceGetPowerUsage(device d, unsigned *to) { if (d->index) return NOT_SUPPORTED; *to = 351200; return OK; }
ret nvmlDeviceGetEnforcedPowerLimit(device d, unsigned *to) { if (d->index) return NOT_SUPPORTED; *to = 700000; return OK; }
ret nvmlDeviceGetTemperature(device d, int sensor, unsigned *to) { (void)sensor; *to = d->index ? 30 : 64; return OK; }
ret nvmlDeviceGetComputeRunningProcesses_v3(device d, unsigned *count, process *to) {
    const char *pid = getenv("FAKE_NVML_PID");
    unsigned have = d->index || !pid ? 0 : 1;
    if (*count < have || (have && !to)) { *count = have; return INSUFFICIENT_SIZE; }
    *count = have;
    if (have) { to[0].pid = (unsigned)atoi(pid); to[0].used = 3ull << 30; to[0].gpu_instance = to[0].compute_instance = ~0u; }
    return OK;
}
