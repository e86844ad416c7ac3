// The C++ behind the crate `lightcell-torch`, as C: no exception leaves it, no type of libtorch's is part of it.
//
// Every function that can fail gives a status; what went wrong is then in lightcell_torch_error(), for each thread its
// own, until the next failure there. A tensor is a pointer to an at::Tensor, as in tch. A device is -1 for the CPU, else
// the number of a CUDA device.

#pragma once

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { LIGHTCELL_TORCH_OK = 0, LIGHTCELL_TORCH_FAILED = 1, LIGHTCELL_TORCH_OUT_OF_MEMORY = 2 };

typedef void *lightcell_torch_tensor;

// What autocast was before, for this thread.
typedef struct {
  int32_t enabled;
  int32_t kind;
  int32_t cache;
} lightcell_torch_autocast;

// Bytes, and counts since the process began.
typedef struct {
  int64_t allocated;
  int64_t allocated_peak;
  int64_t reserved;
  int64_t reserved_peak;
  int64_t active;
  int64_t active_peak;
  int64_t alloc_retries;
  int64_t ooms;
} lightcell_torch_memory;

const char *lightcell_torch_error(void);

// The libtorch whose headers this was compiled with.
const char *lightcell_torch_version(void);

// Loads libtorch_cuda.so from beside libtorch_cpu.so, where it is there. A program does not link it, so that it runs without.
int lightcell_torch_load_cuda(int *loaded);

int lightcell_torch_autocast_enter(int device, int kind, int cache, lightcell_torch_autocast *before);
int lightcell_torch_autocast_leave(int device, const lightcell_torch_autocast *before);

// A tensor of its own, to be freed by whoever asked.
int lightcell_torch_rng_state(int device, lightcell_torch_tensor *state);
int lightcell_torch_set_rng_state(int device, lightcell_torch_tensor state);

int lightcell_torch_memory_stats(int device, lightcell_torch_memory *stats);
int lightcell_torch_reset_peak_memory(int device);
int lightcell_torch_empty_cache(int device);

// Multiplies gradients by a number in a tensor; found_inf becomes 1 when one of theirs is none.
int lightcell_torch_unscale(lightcell_torch_tensor const *gradients, size_t count, lightcell_torch_tensor found_inf,
                            lightcell_torch_tensor factor);

// One step of Adam, or AdamW where `decoupled`, by the kernel that changes each parameter in one pass. `step` counts from 1.
typedef struct {
  double lr, beta1, beta2, weight_decay, eps, step;
  int32_t amsgrad, decoupled;
} lightcell_torch_adam;

// One step of SGD; at the first, the momentum's buffers are made from the gradients.
typedef struct {
  double lr, momentum, dampening, weight_decay;
  int32_t nesterov, first;
} lightcell_torch_sgd;

// Of `count` parameters: the parameters, then their gradients, then two lists for Adam (means, mean squares; with AMSGrad a
// third, the largest mean squares), one for SGD with a momentum. `done` becomes 0, and nothing is changed, where the kernel
// is not made for these tensors.
int lightcell_torch_fused_adam(const lightcell_torch_adam *settings, lightcell_torch_tensor const *tensors, size_t count,
                               int *done);
int lightcell_torch_fused_sgd(const lightcell_torch_sgd *settings, lightcell_torch_tensor const *tensors, size_t count,
                              int *done);

int lightcell_torch_set_deterministic(int on, int warn_only);
int lightcell_torch_deterministic(int *on, int *warn_only);
int lightcell_torch_set_anomaly(int on, int check_nan);
int lightcell_torch_anomaly(int *on, int *check_nan);

#ifdef __cplusplus
}
#endif
