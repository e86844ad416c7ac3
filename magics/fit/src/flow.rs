//! One forward pass for two purposes: computing with tensors, and writing it down as a graph for other programs.
//!
//! A model that writes its forward pass once over [`Flow`] can do both: [`Eager`] computes, [`onnx`](crate::onnx) writes. The
//! models in [`models`](crate::models) are written so.

use crate::layers::{
    BatchNorm2d, Conv2d, ConvTranspose2d, Dropout, Embedding, LSTM, LayerNorm, Linear, MaxPool2d, MultiheadAttention,
};
use tch::Tensor;

/// The steps of a forward pass. A value is a tensor, or what stands for one.
pub trait Flow {
    /// What goes from step to step.
    type Value;

    /// A value once more.
    fn same(&mut self, x: &Self::Value) -> Self::Value;

    /// `[n, in, h, w]` to `[n, out, h, w]`.
    fn conv2d(&mut self, layer: &Conv2d, x: &Self::Value) -> Self::Value;
    /// `[n, in, h, w]` to `[n, out, h, w]`.
    fn conv_transpose2d(&mut self, layer: &ConvTranspose2d, x: &Self::Value) -> Self::Value;
    /// To the same shape.
    fn batch_norm2d(&mut self, layer: &BatchNorm2d, x: &Self::Value) -> Self::Value;
    /// `[…, in]` to `[…, out]`.
    fn linear(&mut self, layer: &Linear, x: &Self::Value) -> Self::Value;
    /// To the same shape.
    fn layer_norm(&mut self, layer: &LayerNorm, x: &Self::Value) -> Self::Value;
    /// Whole numbers of any shape to `[…, size]`.
    fn embedding(&mut self, layer: &Embedding, x: &Self::Value) -> Self::Value;
    /// Attention of `[n, time, size]`, batch first, to itself.
    fn self_attention(&mut self, layer: &MultiheadAttention, x: &Self::Value) -> Self::Value;
    /// `[n, time, in]`, batch first, to the outputs `[n, time, hidden · directions]`, from a state of zeros.
    fn lstm(&mut self, layer: &LSTM, x: &Self::Value) -> Self::Value;
    /// To the same shape; in a graph it is left out.
    fn dropout(&mut self, layer: &Dropout, x: &Self::Value) -> Self::Value;
    /// `[n, c, h, w]` to a smaller one.
    fn max_pool2d(&mut self, layer: &MaxPool2d, x: &Self::Value) -> Self::Value;

    /// Attention of each of `heads` heads to itself: `[n, time, 3 · size]`, which is query, key and value, to
    /// `[n, time, size]`; when it is `causal`, only to what is not later. `dropout` is the weights'.
    fn attention(&mut self, qkv: &Self::Value, heads: i64, causal: bool, dropout: &Dropout) -> Self::Value;

    /// The mean of each channel: `[n, c, h, w]` to `[n, c]`.
    fn mean_places(&mut self, x: &Self::Value) -> Self::Value;
    /// `max(x, 0)`
    fn relu(&mut self, x: &Self::Value) -> Self::Value;
    /// `min(max(x, 0), 6)`
    fn relu6(&mut self, x: &Self::Value) -> Self::Value;
    /// x Φ(x); with `tanh`, its approximation by one.
    fn gelu(&mut self, x: &Self::Value, tanh: bool) -> Self::Value;
    /// The sum of two values of one shape.
    fn add(&mut self, a: &Self::Value, b: &Self::Value) -> Self::Value;
    /// Adds a parameter, which is the same for the whole batch.
    fn add_parameter(&mut self, x: &Self::Value, parameter: &Tensor) -> Self::Value;
    /// Two values beside each other along a dimension.
    fn cat(&mut self, a: &Self::Value, b: &Self::Value, dim: i64) -> Self::Value;
    /// `[n, …]` to `[n, all the rest]`.
    fn flatten(&mut self, x: &Self::Value) -> Self::Value;
    /// `[n, c, h, w]` to `[n, h · w, c]`.
    fn places_as_tokens(&mut self, x: &Self::Value) -> Self::Value;
    /// Puts a token, `[1, 1, size]`, before all others: `[n, time, size]` to `[n, time + 1, size]`.
    fn prepend_token(&mut self, token: &Tensor, x: &Self::Value) -> Self::Value;
    /// One token: `[n, time, size]` to `[n, size]`.
    fn token(&mut self, x: &Self::Value, index: i64) -> Self::Value;
    /// The length of dimension 1.
    fn time(&mut self, x: &Self::Value) -> i64;
}

/// A model whose forward pass is written over [`Flow`].
///
/// ```
/// use lightcell::prelude::*;
/// use lightcell::{Eager, Flow, FlowModule};
///
/// struct Net { l1: Linear, l2: Linear }
///
/// impl FlowModule for Net {
///     fn flow<F: Flow>(&self, f: &mut F, x: &F::Value) -> F::Value {
///         let x = f.linear(&self.l1, x);
///         let x = f.relu(&x);
///         f.linear(&self.l2, &x)
///     }
/// }
///
/// let store = Store::new(Device::Cpu);
/// let net = Net { l1: linear(store.root() / "l1", 4, 8), l2: linear(store.root() / "l2", 8, 2) };
/// let x = Tensor::zeros([3, 4], (Kind::Float, Device::Cpu));
/// assert_eq!(net.flow(&mut Eager, &x).size(), [3, 2]);
/// ```
pub trait FlowModule {
    /// The forward pass.
    fn flow<F: Flow>(&self, f: &mut F, x: &F::Value) -> F::Value;
}

/// Computes with tensors.
#[derive(Debug, Clone, Copy, Default)]
pub struct Eager;

impl Flow for Eager {
    type Value = Tensor;

    fn same(&mut self, x: &Tensor) -> Tensor {
        x.shallow_clone()
    }
    fn conv2d(&mut self, layer: &Conv2d, x: &Tensor) -> Tensor {
        layer.forward(x)
    }
    fn conv_transpose2d(&mut self, layer: &ConvTranspose2d, x: &Tensor) -> Tensor {
        layer.forward(x)
    }
    fn batch_norm2d(&mut self, layer: &BatchNorm2d, x: &Tensor) -> Tensor {
        layer.forward(x)
    }
    fn linear(&mut self, layer: &Linear, x: &Tensor) -> Tensor {
        layer.forward(x)
    }
    fn layer_norm(&mut self, layer: &LayerNorm, x: &Tensor) -> Tensor {
        layer.forward(x)
    }
    fn embedding(&mut self, layer: &Embedding, x: &Tensor) -> Tensor {
        layer.forward(x)
    }
    fn self_attention(&mut self, layer: &MultiheadAttention, x: &Tensor) -> Tensor {
        layer.forward(x, x, x)
    }
    fn lstm(&mut self, layer: &LSTM, x: &Tensor) -> Tensor {
        layer.forward(x).0
    }
    fn dropout(&mut self, layer: &Dropout, x: &Tensor) -> Tensor {
        layer.forward(x)
    }
    fn max_pool2d(&mut self, layer: &MaxPool2d, x: &Tensor) -> Tensor {
        layer.forward(x)
    }
    fn attention(&mut self, qkv: &Tensor, heads: i64, causal: bool, dropout: &Dropout) -> Tensor {
        let size = qkv.size();
        let (batch, time, width) = (size[0], size[1], size[2] / 3);
        let split = |part: i64| {
            let part = qkv.narrow(2, part * width, width);
            part.reshape([batch, time, heads, width / heads]).transpose(1, 2)
        };
        let mask = None::<Tensor>;
        let attended = Tensor::scaled_dot_product_attention(
            &split(0),
            &split(1),
            &split(2),
            mask,
            dropout.now(),
            causal,
            None,
            false,
        );
        // Each query with each key, and each weight with each value; it belongs to no layer with a weight of its own.
        crate::summarize::ran(qkv, &attended, || 2 * batch * time * time * width);
        attended.transpose(1, 2).reshape([batch, time, width])
    }
    fn mean_places(&mut self, x: &Tensor) -> Tensor {
        x.adaptive_avg_pool2d([1, 1]).flatten(1, -1)
    }
    fn relu(&mut self, x: &Tensor) -> Tensor {
        x.relu()
    }
    fn relu6(&mut self, x: &Tensor) -> Tensor {
        x.relu6()
    }
    fn gelu(&mut self, x: &Tensor, tanh: bool) -> Tensor {
        x.gelu(if tanh { "tanh" } else { "none" })
    }
    fn add(&mut self, a: &Tensor, b: &Tensor) -> Tensor {
        a + b
    }
    fn add_parameter(&mut self, x: &Tensor, parameter: &Tensor) -> Tensor {
        x + parameter
    }
    fn cat(&mut self, a: &Tensor, b: &Tensor, dim: i64) -> Tensor {
        Tensor::cat(&[a, b], dim)
    }
    fn flatten(&mut self, x: &Tensor) -> Tensor {
        x.flatten(1, -1)
    }
    fn places_as_tokens(&mut self, x: &Tensor) -> Tensor {
        x.flatten(2, -1).transpose(1, 2)
    }
    fn prepend_token(&mut self, token: &Tensor, x: &Tensor) -> Tensor {
        let token = token.expand([x.size()[0], -1, -1], false);
        Tensor::cat(&[&token, x], 1)
    }
    fn token(&mut self, x: &Tensor, index: i64) -> Tensor {
        x.select(1, index)
    }
    fn time(&mut self, x: &Tensor) -> i64 {
        x.size().get(1).copied().unwrap_or(1)
    }
}
