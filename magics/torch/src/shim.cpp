// See shim.h. Builds with libtorch 2.11 to 2.13, and links neither libtorch_cuda nor CUDA: what is CUDA's is reached
// through libtorch's own tables, so that one binary serves machines with and without it.

#include "shim.h"

#include <ATen/Context.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/_amp_foreach_non_finite_check_and_unscale.h>
#include <ATen/ops/_fused_adam.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/_fused_sgd.h>
#include <ATen/ops/full.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <torch/csrc/autograd/anomaly_mode.h>
#include <torch/version.h>

#include <dlfcn.h>
#include <unistd.h>

#include <mutex>
#include <string>
#include <vector>

namespace {

thread_local std::string error;

template <class Code>
int guarded(const Code &code) noexcept {
  int status = LIGHTCELL_TORCH_FAILED;
  try {
    try {
      code();
      return LIGHTCELL_TORCH_OK;
    } catch (const c10::OutOfMemoryError &thrown) {
      status = LIGHTCELL_TORCH_OUT_OF_MEMORY;
      error = thrown.what_without_backtrace();
    } catch (const c10::Error &thrown) {
      error = thrown.what_without_backtrace();
    } catch (const std::exception &thrown) {
      error = thrown.what();
    } catch (...) {
      error = "something that is no exception was thrown";
    }
  } catch (...) {
    // No memory even for the message: the one before it stays.
  }
  return status;
}

c10::Device device_of(int number) {
  return number < 0 ? c10::Device(c10::kCPU) : c10::Device(c10::kCUDA, static_cast<c10::DeviceIndex>(number));
}

at::Tensor &tensor_of(lightcell_torch_tensor tensor) { return *static_cast<at::Tensor *>(tensor); }

std::vector<at::Tensor> list_of(lightcell_torch_tensor const *tensors, size_t count) {
  std::vector<at::Tensor> list;
  list.reserve(count);
  for (size_t at = 0; at < count; at++) list.push_back(tensor_of(tensors[at]));
  return list;
}

// So many lists of `count` tensors each, which follow each other; the first is that of the parameters.
std::vector<std::vector<at::Tensor>> lists_of(lightcell_torch_tensor const *tensors, size_t count, size_t lists) {
  std::vector<std::vector<at::Tensor>> all;
  for (size_t at = 0; at < lists; at++) all.push_back(list_of(tensors + at * count, count));
  return all;
}

// The fused kernels go through the memory of a parameter and of what belongs to it side by side, unchecked.
bool fits(const std::vector<std::vector<at::Tensor>> &lists) {
  const auto &params = lists[0];
  if (params.empty()) return false;
  for (size_t at = 0; at < params.size(); at++) {
    const auto &param = params[at];
    if (!param.is_floating_point() || !(param.is_cpu() || param.is_cuda()) || !param.is_non_overlapping_and_dense() ||
        param.device() != params[0].device() || param.scalar_type() != params[0].scalar_type())
      return false;
    for (const auto &list : lists) {
      const auto &other = list[at];
      if (other.layout() != at::kStrided || other.device() != param.device() ||
          other.scalar_type() != param.scalar_type() || other.sizes() != param.sizes() ||
          other.strides() != param.strides())
        return false;
    }
  }
  return true;
}

// The generator, ready: CUDA's are made when CUDA is first used.
at::Generator generator_of(int number) {
  auto device = device_of(number);
  if (device.is_cuda()) at::globalContext().lazyInitDevice(c10::kCUDA);
  return at::globalContext().defaultGenerator(device);
}

c10::DeviceAllocator &allocator_of(int number) {
  TORCH_CHECK(number >= 0, "the CPU's allocator keeps no statistics");
  auto count = at::globalContext().getAcceleratorHooksInterface(c10::kCUDA).deviceCount();
  TORCH_CHECK(number < count, "there is no CUDA device ", number, ": libtorch sees ", static_cast<int>(count));
  at::globalContext().lazyInitDevice(c10::kCUDA);
  return *c10::getDeviceAllocator(c10::kCUDA);
}

} // namespace

extern "C" {

const char *lightcell_torch_error(void) { return error.c_str(); }

const char *lightcell_torch_version(void) { return TORCH_VERSION; }

int lightcell_torch_load_cuda(int *loaded) {
  return guarded([&] {
    *loaded = 0;
    Dl_info cpu{};
    auto known = reinterpret_cast<const void *>(&at::globalContext);
    TORCH_CHECK(dladdr(known, &cpu) != 0 && cpu.dli_fname != nullptr, "libtorch_cpu.so cannot be found");
    std::string path(cpu.dli_fname);
    auto folder = path.rfind('/');
    path = (folder == std::string::npos ? "" : path.substr(0, folder + 1)) + "libtorch_cuda.so";
    if (access(path.c_str(), F_OK) != 0) return;
    // libtorch asks once what there is: this must come before.
    if (dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL) == nullptr) {
      const char *said = dlerror();
      TORCH_CHECK(false, "libtorch_cuda.so cannot be loaded: ", said == nullptr ? "no reason is known" : said);
    }
    *loaded = 1;
  });
}

int lightcell_torch_autocast_enter(int device, int kind, int cache, lightcell_torch_autocast *before) {
  return guarded([&] {
    using namespace at::autocast;
    auto type = device_of(device).type();
    before->enabled = is_autocast_enabled(type);
    before->kind = static_cast<int32_t>(get_autocast_dtype(type));
    before->cache = is_autocast_cache_enabled();
    set_autocast_enabled(type, true);
    set_autocast_dtype(type, static_cast<at::ScalarType>(kind));
    increment_nesting();
    set_autocast_cache_enabled(cache != 0);
  });
}

int lightcell_torch_autocast_leave(int device, const lightcell_torch_autocast *before) {
  return guarded([&] {
    using namespace at::autocast;
    auto type = device_of(device).type();
    // Weights that were cast are kept until the outermost region ends.
    if (decrement_nesting() == 0) clear_cache();
    set_autocast_enabled(type, before->enabled != 0);
    set_autocast_dtype(type, static_cast<at::ScalarType>(before->kind));
    set_autocast_cache_enabled(before->cache != 0);
  });
}

int lightcell_torch_rng_state(int device, lightcell_torch_tensor *state) {
  return guarded([&] {
    auto generator = generator_of(device);
    std::lock_guard<std::mutex> lock(generator.mutex());
    *state = new at::Tensor(generator.get_state());
  });
}

int lightcell_torch_set_rng_state(int device, lightcell_torch_tensor state) {
  return guarded([&] {
    auto generator = generator_of(device);
    std::lock_guard<std::mutex> lock(generator.mutex());
    generator.set_state(tensor_of(state));
  });
}

int lightcell_torch_memory_stats(int device, lightcell_torch_memory *stats) {
  return guarded([&] {
    auto all = allocator_of(device).getDeviceStats(static_cast<c10::DeviceIndex>(device));
    // The first of the three pools: small and large blocks together.
    const auto &allocated = all.allocated_bytes[0], &reserved = all.reserved_bytes[0], &active = all.active_bytes[0];
    *stats = {allocated.current, allocated.peak, reserved.current,      reserved.peak,
              active.current,    active.peak,    all.num_alloc_retries, all.num_ooms};
  });
}

int lightcell_torch_reset_peak_memory(int device) {
  return guarded([&] { allocator_of(device).resetPeakStats(static_cast<c10::DeviceIndex>(device)); });
}

int lightcell_torch_empty_cache(int device) {
  return guarded([&] { allocator_of(device).emptyCache(); });
}

int lightcell_torch_unscale(lightcell_torch_tensor const *gradients, size_t count, lightcell_torch_tensor found_inf,
                            lightcell_torch_tensor factor) {
  return guarded([&] {
    auto list = list_of(gradients, count);
    at::_amp_foreach_non_finite_check_and_unscale_(list, tensor_of(found_inf), tensor_of(factor));
  });
}

int lightcell_torch_fused_adam(const lightcell_torch_adam *settings, lightcell_torch_tensor const *tensors, size_t count,
                               int *done) {
  return guarded([&] {
    const auto &s = *settings;
    auto lists = lists_of(tensors, count, s.amsgrad ? 5 : 4);
    *done = fits(lists);
    if (!*done) return;
    const auto &params = lists[0], &grads = lists[1], &means = lists[2], &squares = lists[3];
    const auto largest = s.amsgrad ? lists[4] : std::vector<at::Tensor>();
    // Each parameter has made as many steps; the kernel only reads their number.
    auto step = at::full({}, s.step, params[0].options().dtype(at::kFloat).requires_grad(false));
    std::vector<at::Tensor> steps(count, step);
    if (s.decoupled)
      at::_fused_adamw_(params, grads, means, squares, largest, steps, s.lr, s.beta1, s.beta2, s.weight_decay, s.eps,
                        s.amsgrad != 0, false);
    else
      at::_fused_adam_(params, grads, means, squares, largest, steps, s.lr, s.beta1, s.beta2, s.weight_decay, s.eps,
                       s.amsgrad != 0, false);
  });
}

int lightcell_torch_fused_sgd(const lightcell_torch_sgd *settings, lightcell_torch_tensor const *tensors, size_t count,
                              int *done) {
  return guarded([&] {
    const auto &s = *settings;
    auto lists = lists_of(tensors, count, s.momentum != 0 ? 3 : 2);
    *done = fits(lists);
    if (!*done) return;
    const auto &params = lists[0], &grads = lists[1];
    const auto buffers = s.momentum != 0 ? lists[2] : std::vector<at::Tensor>();
    at::_fused_sgd_(params, grads, buffers, s.weight_decay, s.momentum, s.lr, s.dampening, s.nesterov != 0, false,
                    s.first != 0);
  });
}

int lightcell_torch_set_deterministic(int on, int warn_only) {
  return guarded([&] { at::globalContext().setDeterministicAlgorithms(on != 0, warn_only != 0); });
}

int lightcell_torch_deterministic(int *on, int *warn_only) {
  return guarded([&] {
    *on = at::globalContext().deterministicAlgorithms();
    *warn_only = at::globalContext().deterministicAlgorithmsWarnOnly();
  });
}

int lightcell_torch_set_anomaly(int on, int check_nan) {
  return guarded([&] { torch::autograd::AnomalyMode::set_enabled(on != 0, check_nan != 0); });
}

int lightcell_torch_anomaly(int *on, int *check_nan) {
  return guarded([&] {
    *on = torch::autograd::AnomalyMode::is_enabled();
    *check_nan = torch::autograd::AnomalyMode::should_check_nan();
  });
}
}
