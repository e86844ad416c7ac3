//! Attention with several heads.

use super::init;
use super::linear::Linear;
use crate::error::{Error, Kind};
use crate::path::{Mode, Path};
use crate::summarize::ran;
use tch::Tensor;

/// Attention with several heads: softmax(q kᵀ / √(size of a head)) v, for each head.
#[derive(Debug)]
pub struct MultiheadAttention {
    /// `[3 · embed_dim, embed_dim]`: of query, key and value.
    pub in_proj_weight: Tensor,
    /// `[3 · embed_dim]`
    pub in_proj_bias: Option<Tensor>,
    /// From the heads to the output.
    pub out_proj: Linear,
    pub(crate) config: AttentionConfig,
    mode: Mode,
}

/// Makes a [`MultiheadAttention`] (`torch.nn.MultiheadAttention`); `embed_dim` must be a multiple of `num_heads`. Shapes:
/// query `[time, n, embed_dim]`, key and value `[source, n, embed_dim]`, output as the query.
///
/// ```
/// use lightcell::prelude::*;
/// let store = Store::new(Device::Cpu);
/// let attention = multihead_attention(store.root() / "a", 16, 4);
/// let x = Tensor::randn([5, 2, 16], (Kind::Float, Device::Cpu));
/// assert_eq!(attention.forward(&x, &x, &x).size(), [5, 2, 16]);
/// ```
pub fn multihead_attention(path: Path, embed_dim: i64, num_heads: i64) -> MultiheadAttention {
    MultiheadAttention::config(embed_dim, num_heads).build(path)
}

/// A [`MultiheadAttention`] that is yet to be made.
#[derive(Debug, Clone, Copy)]
pub struct AttentionConfig {
    embed_dim: i64,
    pub(crate) num_heads: i64,
    dropout: f64,
    bias: bool,
    batch_first: bool,
}

impl AttentionConfig {
    /// Sets with which probability a weight of the attention is dropped while the model is trained; 0.
    #[must_use]
    pub fn dropout(mut self, probability: f64) -> AttentionConfig {
        self.dropout = probability;
        self
    }

    /// Whether projections add a bias; they do.
    #[must_use]
    pub fn bias(mut self, bias: bool) -> AttentionConfig {
        self.bias = bias;
        self
    }

    /// Takes and gives `[n, time, …]` instead of `[time, n, …]`.
    #[must_use]
    pub fn batch_first(mut self, first: bool) -> AttentionConfig {
        self.batch_first = first;
        self
    }

    /// Makes the layer. Heads that do not fit make the model an error.
    pub fn build(mut self, path: Path) -> MultiheadAttention {
        let size = self.embed_dim;
        if self.num_heads < 1 || size % self.num_heads != 0 {
            let error = format!(
                "an embed_dim of {size} cannot be divided among {} heads",
                self.num_heads
            );
            path.fault(Error::new(Kind::Model, error).hint("embed_dim must be a multiple of num_heads"));
            self.num_heads = 1;
        }
        self.dropout = init::probability(&path, self.dropout);
        named(&path);
        // Named and drawn in different orders, as in PyTorch: the output's projection is drawn first, and its bias, which
        // is zero in the end, is drawn as well.
        let out_weight = init::weight(&[size, size], size);
        if self.bias {
            let _ = init::bias(size, size);
        }
        let in_weight = init::xavier(3 * size, size);
        let out = &path / "out_proj";
        let bias =
            |path: &Path, name: &str, size: i64| self.bias.then(|| path.trained(name, &init::constant(&[size], 0.0)));
        MultiheadAttention {
            in_proj_weight: path.trained("in_proj_weight", &in_weight),
            in_proj_bias: bias(&path, "in_proj_bias", 3 * size),
            out_proj: Linear {
                weight: out.trained("weight", &out_weight),
                bias: bias(&out, "bias", size),
            },
            config: self,
            mode: path.mode(),
        }
    }
}

/// PyTorch's names of its modules.
fn named(path: &Path) {
    path.module("MultiheadAttention");
    (path / "out_proj").module("NonDynamicallyQuantizableLinear");
}

/// What must not be attended to.
#[derive(Debug, Clone, Copy, Default)]
pub struct AttentionMask<'a> {
    /// `[time, source]` or `[n · heads, time, source]`: where it is true there is no attention; numbers are added.
    pub attn_mask: Option<&'a Tensor>,
    /// `[n, source]`: where it is true there is no attention; numbers are added.
    pub key_padding_mask: Option<&'a Tensor>,
    /// No attention to what comes later.
    pub is_causal: bool,
}

impl MultiheadAttention {
    /// Attention over vectors of this size, with so many heads.
    ///
    /// ```
    /// use lightcell::prelude::*;
    /// let store = Store::new(Device::Cpu);
    /// let attention = MultiheadAttention::config(8, 2).dropout(0.1).batch_first(true).build(store.root() / "a");
    /// let x = Tensor::randn([2, 5, 8], (Kind::Float, Device::Cpu));
    /// let causal = AttentionMask { is_causal: true, ..AttentionMask::default() };
    /// assert_eq!(attention.forward_masked(&x, &x, &x, causal).size(), [2, 5, 8]);
    /// ```
    pub fn config(embed_dim: i64, num_heads: i64) -> AttentionConfig {
        AttentionConfig {
            embed_dim,
            num_heads,
            dropout: 0.0,
            bias: true,
            batch_first: false,
        }
    }

    /// The same weights once more, under another path.
    pub(super) fn copied(&self, path: &Path) -> MultiheadAttention {
        named(path);
        MultiheadAttention {
            in_proj_weight: path.copied("in_proj_weight", &self.in_proj_weight),
            in_proj_bias: self.in_proj_bias.as_ref().map(|bias| path.copied("in_proj_bias", bias)),
            out_proj: self.out_proj.copied(&(path / "out_proj")),
            config: self.config,
            mode: path.mode(),
        }
    }

    /// Attends to everything. The weights of the attention are not given, as with `need_weights=False`.
    pub fn forward(&self, query: &Tensor, key: &Tensor, value: &Tensor) -> Tensor {
        self.forward_masked(query, key, value, AttentionMask::default())
    }

    /// Attends to what the masks let it.
    pub fn forward_masked(&self, query: &Tensor, key: &Tensor, value: &Tensor, mask: AttentionMask) -> Tensor {
        let AttentionConfig {
            embed_dim,
            num_heads,
            batch_first,
            ..
        } = self.config;
        let itself = std::ptr::eq(query, key) && std::ptr::eq(key, value);
        let time_first = |x: &Tensor| {
            if batch_first {
                x.transpose(0, 1)
            } else {
                x.shallow_clone()
            }
        };
        let bias = self.in_proj_bias.as_ref();
        let [q, k, v] = if itself {
            // One product for all three.
            let projected = time_first(query).linear(&self.in_proj_weight, bias);
            parts(&projected, -1)
        } else {
            let [wq, wk, wv] = parts(&self.in_proj_weight, 0);
            let [bq, bk, bv] = match bias {
                Some(bias) => parts(bias, 0).map(Some),
                None => [None, None, None],
            };
            [
                time_first(query).linear(&wq, bq.as_ref()),
                time_first(key).linear(&wk, bk.as_ref()),
                time_first(value).linear(&wv, bv.as_ref()),
            ]
        };
        let (time, batch, source) = (q.size()[0], q.size()[1], k.size()[0]);
        let head = embed_dim / num_heads;
        // [length, n, heads · head] to [n, heads, length, head]
        let heads = |x: Tensor, length: i64| {
            x.contiguous()
                .view([length, batch * num_heads, head])
                .transpose(0, 1)
                .view([batch, num_heads, length, head])
        };
        let dropout = if self.mode.training() { self.config.dropout } else { 0.0 };
        let added = self.added(&q, &mask, [time, batch, source]);
        let causal = mask.is_causal && added.is_none();
        let attended = Tensor::scaled_dot_product_attention(
            &heads(q, time),
            &heads(k, source),
            &heads(v, source),
            added.as_ref(),
            dropout,
            causal,
            None,
            false,
        );
        let joined = attended
            .permute([2, 0, 1, 3])
            .contiguous()
            .view([time * batch, embed_dim]);
        let out = self.out_proj.forward(&joined).view([time, batch, embed_dim]);
        let out = if batch_first { out.transpose(0, 1) } else { out };
        ran(&self.in_proj_weight, &out, || {
            // Queries, keys and values; then each query with each key, and each weight with each value.
            let projected = batch * (time + 2 * source) * embed_dim * embed_dim;
            projected + 2 * batch * time * source * embed_dim
        });
        out
    }

    /// All masks as numbers that are added, or none.
    fn added(&self, like: &Tensor, mask: &AttentionMask, [time, batch, source]: [i64; 3]) -> Option<Tensor> {
        let heads = self.config.num_heads;
        let numbers = |mask: &Tensor| match mask.kind() {
            tch::Kind::Bool => {
                Tensor::zeros(mask.size(), (like.kind(), like.device())).masked_fill(mask, f64::NEG_INFINITY)
            }
            _ => mask.to_kind(like.kind()),
        };
        let mut added = mask.attn_mask.map(|mask| {
            let mask = numbers(mask);
            if mask.dim() == 2 {
                mask.view([1, 1, time, source])
            } else {
                mask.view([batch, heads, time, source])
            }
        });
        if let Some(padding) = mask.key_padding_mask {
            let padding = numbers(padding).view([batch, 1, 1, source]);
            added = Some(match added {
                Some(mask) => mask + padding,
                None => padding.expand([batch, heads, time, source], false),
            });
        }
        // Alone, it is left to libtorch, which has faster ways.
        if mask.is_causal
            && let Some(mask) = added.take()
        {
            let later = Tensor::full([time, source], f64::NEG_INFINITY, (like.kind(), like.device())).triu(1);
            added = Some(mask + later);
        }
        added
    }
}

/// Query, key and value.
fn parts(joined: &Tensor, dim: i64) -> [Tensor; 3] {
    let size = joined.size()[if dim < 0 { joined.dim() - 1 } else { 0 }] / 3;
    [0, 1, 2].map(|part| joined.narrow(dim, part * size, size))
}
