"""Makes kernels.pt: what the optimizers do with lists of tensors, as one call each.

tch has none of libtorch's operations on lists (`_foreach_…`), nor those with a factor (`addcdiv_(…, value)`), and composing
them from others rounds otherwise than PyTorch does. As TorchScript they can be called through tch, with its errors.
Run it with PyTorch 2.13.0, in this folder: `python kernels.py`.
"""

import io
import zipfile
from typing import List

import torch

Tensors = List[torch.Tensor]


class Kernels(torch.nn.Module):
    @torch.jit.export
    def sgd(
        self,
        params: Tensors,
        grads: Tensors,
        momentum_buffers: Tensors,
        first: bool,
        lr: float,
        weight_decay: float,
        momentum: float,
        dampening: float,
        nesterov: bool,
    ):
        if weight_decay != 0.0:
            grads = torch._foreach_add(grads, params, alpha=weight_decay)
        if momentum != 0.0:
            if first:
                # In PyTorch the first buffer is the gradient itself, without the dampening.
                torch._foreach_copy_(momentum_buffers, grads)
            else:
                torch._foreach_mul_(momentum_buffers, momentum)
                torch._foreach_add_(momentum_buffers, grads, alpha=1 - dampening)
            if nesterov:
                grads = torch._foreach_add(grads, momentum_buffers, alpha=momentum)
            else:
                grads = momentum_buffers
        torch._foreach_add_(params, grads, alpha=-lr)

    @torch.jit.export
    def adam(
        self,
        params: Tensors,
        grads: Tensors,
        exp_avgs: Tensors,
        exp_avg_sqs: Tensors,
        max_exp_avg_sqs: Tensors,
        step: float,
        lr: float,
        weight_decay: float,
        decoupled: bool,
        beta1: float,
        beta2: float,
        eps: float,
        amsgrad: bool,
    ):
        if weight_decay != 0.0:
            if decoupled:
                torch._foreach_mul_(params, 1.0 - lr * weight_decay)
            else:
                grads = torch._foreach_add(grads, params, alpha=weight_decay)
        torch._foreach_lerp_(exp_avgs, grads, 1.0 - beta1)
        torch._foreach_mul_(exp_avg_sqs, beta2)
        torch._foreach_addcmul_(exp_avg_sqs, grads, grads, 1.0 - beta2)
        correction1 = 1.0 - beta1**step
        correction2 = (1.0 - beta2**step) ** 0.5
        if amsgrad:
            torch._foreach_maximum_(max_exp_avg_sqs, exp_avg_sqs)
            denominators = torch._foreach_sqrt(max_exp_avg_sqs)
        else:
            denominators = torch._foreach_sqrt(exp_avg_sqs)
        torch._foreach_div_(denominators, correction2)
        torch._foreach_add_(denominators, eps)
        torch._foreach_addcdiv_(params, exp_avgs, denominators, -(lr / correction1))

    @torch.jit.export
    def rmsprop(
        self,
        params: Tensors,
        grads: Tensors,
        square_avgs: Tensors,
        momentum_buffers: Tensors,
        grad_avgs: Tensors,
        lr: float,
        weight_decay: float,
        alpha: float,
        eps: float,
        momentum: float,
        centered: bool,
    ):
        if weight_decay != 0.0:
            grads = torch._foreach_add(grads, params, alpha=weight_decay)
        torch._foreach_mul_(square_avgs, alpha)
        torch._foreach_addcmul_(square_avgs, grads, grads, 1.0 - alpha)
        if centered:
            torch._foreach_lerp_(grad_avgs, grads, 1.0 - alpha)
            denominators = torch._foreach_addcmul(square_avgs, grad_avgs, grad_avgs, -1.0)
            torch._foreach_sqrt_(denominators)
        else:
            denominators = torch._foreach_sqrt(square_avgs)
        torch._foreach_add_(denominators, eps)
        if momentum > 0.0:
            torch._foreach_mul_(momentum_buffers, momentum)
            torch._foreach_addcdiv_(momentum_buffers, grads, denominators, 1.0)
            torch._foreach_add_(params, momentum_buffers, alpha=-lr)
        else:
            torch._foreach_addcdiv_(params, grads, denominators, -lr)

    @torch.jit.export
    def adagrad(
        self,
        params: Tensors,
        grads: Tensors,
        sums: Tensors,
        step: float,
        lr: float,
        weight_decay: float,
        lr_decay: float,
        eps: float,
    ):
        if weight_decay != 0.0:
            grads = torch._foreach_add(grads, params, alpha=weight_decay)
        torch._foreach_addcmul_(sums, grads, grads, 1.0)
        denominators = torch._foreach_sqrt(sums)
        torch._foreach_add_(denominators, eps)
        torch._foreach_addcdiv_(params, grads, denominators, -(lr / (1.0 + (step - 1.0) * lr_decay)))

    @torch.jit.export
    def lbfgs_direction(
        self,
        gradient: torch.Tensor,
        old_dirs: Tensors,
        old_stps: Tensors,
        ro: Tensors,
        diagonal: torch.Tensor,
    ) -> torch.Tensor:
        q = gradient.neg()
        backwards = torch.jit.annotate(Tensors, [])
        for back in range(len(old_dirs)):
            i = len(old_dirs) - 1 - back
            a = old_stps[i].dot(q) * ro[i]
            backwards.append(a)
            q.add_(old_dirs[i], alpha=-float(a))
        r = torch.mul(q, diagonal)
        for i in range(len(old_dirs)):
            b = old_dirs[i].dot(r) * ro[i]
            r.add_(old_stps[i], alpha=float(backwards[len(old_dirs) - 1 - i] - b))
        return r

    @torch.jit.export
    def lbfgs_advance(self, params: Tensors, direction: torch.Tensor, t: float):
        at = 0
        for param in params:
            size = param.numel()
            param.add_(direction[at : at + size].view_as(param), alpha=t)
            at += size

    @torch.jit.export
    def clip_norm(self, grads: Tensors, max_norm: float) -> torch.Tensor:
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads, 2.0)), 2.0)
        # Multiplied in any case: to ask whether the norm is too large would be to wait for the device.
        torch._foreach_mul_(grads, torch.clamp(max_norm / (norm + 1e-6), max=1.0))
        return norm

    @torch.jit.export
    def clip_value(self, grads: Tensors, limit: float):
        torch._foreach_clamp_min_(grads, -limit)
        torch._foreach_clamp_max_(grads, limit)

    @torch.jit.export
    def permutation(self, n: int, seed: int) -> torch.Tensor:
        """The order in which `torch.utils.data.RandomSampler` goes through n samples."""
        generator = torch.Generator()
        generator.manual_seed(seed)
        return torch.randperm(n, generator=generator)


# The parts that name files of the machine are left out, so that the archive is the same everywhere.
whole = io.BytesIO()
torch.jit.save(torch.jit.script(Kernels()), whole)
with zipfile.ZipFile(whole) as source, zipfile.ZipFile("kernels.pt", "w") as target:
    for entry in source.infolist():
        if not entry.filename.endswith((".debug_pkl", "serialization_id")):
            target.writestr(zipfile.ZipInfo(entry.filename), source.read(entry))
