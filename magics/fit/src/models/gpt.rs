//! A small transformer that writes text on, as GPT-2 is built (Radford et al. 2019), with minGPT's names.

use crate::error::{Error, Kind, Result};
use crate::flow::{Flow, FlowModule};
use crate::layers::init;
use crate::layers::{Dropout, Embedding, LayerNorm, Linear, dropout, embedding, layer_norm, linear};
use crate::path::Path;
use tch::{Device, Kind as TKind, Tensor};

/// What comes next, from what came before.
#[derive(Debug)]
pub struct Gpt {
    wte: Embedding,
    wpe: Embedding,
    dropout: Dropout,
    blocks: Vec<Block>,
    ln_f: LayerNorm,
    /// To the tokens.
    pub lm_head: Linear,
    config: GptConfig,
}

#[derive(Debug)]
struct Block {
    ln_1: LayerNorm,
    c_attn: Linear,
    attn_c_proj: Linear,
    ln_2: LayerNorm,
    c_fc: Linear,
    mlp_c_proj: Linear,
    dropout: Dropout,
    heads: i64,
}

/// A [`Gpt`] that is yet to be made.
#[derive(Debug, Clone, Copy)]
pub struct GptConfig {
    vocab_size: i64,
    block_size: i64,
    n_layer: usize,
    n_head: i64,
    n_embd: i64,
    dropout: f64,
}

/// Makes a [`Gpt`] for `vocab_size` tokens that sees the last `block_size` of them: 4 layers of 4 heads, 128 numbers in a
/// token, dropout 0.1; [`GptConfig`] makes others. Shape: `[n, time]` of `Kind::Int64` to `[n, time, vocab_size]`.
///
/// ```
/// use lightcell::prelude::*;
/// use lightcell::models::gpt;
/// let store = Store::new(Device::Cpu);
/// let net = gpt(store.root(), 65, 64);
/// let text = Tensor::from_slice(&[1i64, 2, 3]).view([1, 3]);
/// assert_eq!(net.forward(&text).size(), [1, 3, 65]);
/// ```
pub fn gpt(path: Path, vocab_size: i64, block_size: i64) -> Gpt {
    GptConfig::new(vocab_size, block_size).build(path)
}

impl GptConfig {
    /// With the sizes of [`gpt`].
    ///
    /// ```
    /// use lightcell::prelude::*;
    /// use lightcell::models::GptConfig;
    /// let store = Store::new(Device::Cpu);
    /// let net = GptConfig::new(65, 32).layers(2).heads(2).embed(32).dropout(0.0).build(store.root());
    /// assert_eq!(net.lm_head.weight.size(), [65, 32]);
    /// ```
    pub fn new(vocab_size: i64, block_size: i64) -> GptConfig {
        GptConfig {
            vocab_size,
            block_size,
            n_layer: 4,
            n_head: 4,
            n_embd: 128,
            dropout: 0.1,
        }
    }

    /// Sets how many layers there are.
    #[must_use]
    pub fn layers(mut self, layers: usize) -> GptConfig {
        self.n_layer = layers;
        self
    }

    /// Sets how many heads the attention has.
    #[must_use]
    pub fn heads(mut self, heads: i64) -> GptConfig {
        self.n_head = heads;
        self
    }

    /// Sets how many numbers a token has, a multiple of the heads.
    #[must_use]
    pub fn embed(mut self, size: i64) -> GptConfig {
        self.n_embd = size;
        self
    }

    /// Sets with which probability numbers are dropped while the model is trained.
    #[must_use]
    pub fn dropout(mut self, probability: f64) -> GptConfig {
        self.dropout = probability;
        self
    }

    /// Makes the model. Heads that do not fit make it an error.
    pub fn build(mut self, path: Path) -> Gpt {
        path.module("GPT");
        if self.n_head < 1 || self.n_embd % self.n_head != 0 {
            let error = format!(
                "{} numbers in a token cannot be divided among {} heads",
                self.n_embd, self.n_head
            );
            path.fault(Error::new(Kind::Model, error).hint("`embed` must be a multiple of `heads`"));
            self.n_head = 1;
        }
        let within = &path / "transformer";
        within.module("ModuleDict");
        let size = self.n_embd;
        let wte = embedding(&within / "wte", self.vocab_size, size);
        let wpe = embedding(&within / "wpe", self.block_size, size);
        let places = &within / "h";
        places.module("ModuleList");
        let blocks: Vec<Block> = (0..self.n_layer).map(|at| self.block(&(&places / at))).collect();
        let net = Gpt {
            wte,
            wpe,
            dropout: dropout(&(&within / "drop"), self.dropout),
            blocks,
            ln_f: layer_norm(&within / "ln_f", &[size]),
            lm_head: Linear::config(size, self.vocab_size)
                .bias(false)
                .build(path / "lm_head"),
            config: self,
        };
        net.redraw();
        net
    }

    fn block(&self, path: &Path) -> Block {
        path.module("Block");
        let size = self.n_embd;
        let (attn, mlp) = (path / "attn", path / "mlp");
        let ln_1 = layer_norm(path / "ln_1", &[size]);
        attn.module("CausalSelfAttention");
        let c_attn = linear(&attn / "c_attn", size, 3 * size);
        let attn_c_proj = linear(&attn / "c_proj", size, size);
        let ln_2 = layer_norm(path / "ln_2", &[size]);
        mlp.module("ModuleDict");
        Block {
            ln_1,
            c_attn,
            attn_c_proj,
            ln_2,
            c_fc: linear(&mlp / "c_fc", size, 4 * size),
            mlp_c_proj: linear(&mlp / "c_proj", 4 * size, size),
            dropout: dropout(&(&mlp / "dropout"), self.dropout),
            heads: self.n_head,
        }
    }
}

impl FlowModule for Block {
    fn flow<F: Flow>(&self, f: &mut F, x: &F::Value) -> F::Value {
        let normed = f.layer_norm(&self.ln_1, x);
        let qkv = f.linear(&self.c_attn, &normed);
        let attended = f.attention(&qkv, self.heads, true, &self.dropout);
        let attended = f.linear(&self.attn_c_proj, &attended);
        let attended = f.dropout(&self.dropout, &attended);
        let x = f.add(x, &attended);
        let normed = f.layer_norm(&self.ln_2, &x);
        let inner = f.linear(&self.c_fc, &normed);
        let inner = f.gelu(&inner, true);
        let out = f.linear(&self.mlp_c_proj, &inner);
        let out = f.dropout(&self.dropout, &out);
        f.add(&x, &out)
    }
}

impl FlowModule for Gpt {
    fn flow<F: Flow>(&self, f: &mut F, x: &F::Value) -> F::Value {
        let time = f.time(x);
        let tokens = f.embedding(&self.wte, x);
        let places = self.wpe.weight.narrow(0, 0, time).unsqueeze(0);
        let x = f.add_parameter(&tokens, &places);
        let mut x = f.dropout(&self.dropout, &x);
        for block in &self.blocks {
            x = block.flow(f, &x);
        }
        let x = f.layer_norm(&self.ln_f, &x);
        f.linear(&self.lm_head, &x)
    }
}

/// How [`Gpt::generate`] chooses among what may come next.
///
/// ```
/// use lightcell::models::Sampling;
/// let greedy = Sampling { top_k: Some(1), ..Sampling::default() };
/// assert_eq!(greedy.temperature, 1.0);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Above 1 for more surprise, below for less; 1. More than 0.
    pub temperature: f64,
    /// Only among so many of the likeliest; among all.
    pub top_k: Option<i64>,
}

impl Default for Sampling {
    fn default() -> Sampling {
        Sampling {
            temperature: 1.0,
            top_k: None,
        }
    }
}

impl Gpt {
    /// Small weights, and those before a sum smaller the more sums there are.
    fn redraw(&self) {
        let small = |layer: &Linear, deviation: f64| {
            init::redraw(&layer.weight, &init::normal_as(&layer.weight, deviation));
            if let Some(bias) = &layer.bias {
                init::redraw(bias, &Tensor::zeros_like(bias));
            }
        };
        for table in [&self.wte, &self.wpe] {
            init::redraw(&table.weight, &init::normal_as(&table.weight, 0.02));
        }
        let summed = 0.02 / (2.0 * self.blocks.len() as f64).sqrt();
        for block in &self.blocks {
            small(&block.c_attn, 0.02);
            small(&block.attn_c_proj, summed);
            small(&block.c_fc, 0.02);
            small(&block.mlp_c_proj, summed);
        }
        small(&self.lm_head, 0.02);
    }

    /// Writes on: `[n, time]` to `[n, time + new_tokens]`. It looks back over the last `block_size` tokens. The random numbers
    /// are libtorch's: `tch::manual_seed` makes them the same each time.
    ///
    /// ```
    /// use lightcell::prelude::*;
    /// use lightcell::models::{Sampling, gpt};
    /// let store = Store::new(Device::Cpu);
    /// let net = gpt(store.root(), 65, 8);
    /// let begin = Tensor::from_slice(&[1i64, 2]).view([1, 2]);
    /// let text = net.generate(&begin, 20, Sampling::default())?;
    /// assert_eq!(text.size(), [1, 22]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// When the text so far is empty or holds other tokens than the model knows, or the settings mean nothing.
    pub fn generate(&self, tokens: &Tensor, new_tokens: usize, sampling: Sampling) -> Result<Tensor> {
        let GptConfig {
            vocab_size, block_size, ..
        } = self.config;
        if tokens.dim() != 2 || tokens.size()[1] < 1 || tokens.kind() != TKind::Int64 {
            let error = format!(
                "the text so far must be [n, time] of Kind::Int64 with at least one token, not {:?} of Kind::{:?}",
                tokens.size(),
                tokens.kind()
            );
            return Err(Error::new(Kind::Shape, error).hint("`Tensor::from_slice(&[0i64]).view([1, 1])` begins anew"));
        }
        // A temperature that is no number is refused as well.
        if sampling.temperature.is_nan() || sampling.temperature <= 0.0 || sampling.top_k.is_some_and(|k| k < 1) {
            let error = "a temperature must be more than 0, and top_k at least 1";
            return Err(Error::new(Kind::Option, error).hint("`top_k: Some(1)` always takes the likeliest"));
        }
        let (least, most) = (tokens.min().int64_value(&[]), tokens.max().int64_value(&[]));
        if least < 0 || most >= vocab_size {
            let other = if least < 0 { least } else { most };
            return Err(Error::new(
                Kind::Label,
                format!("token {other} is outside of the model's {vocab_size} tokens"),
            ));
        }
        let _guard = tch::no_grad_guard();
        let mut text = tokens.to_device(self.lm_head.weight.device());
        for _ in 0..new_tokens {
            let time = text.size()[1];
            let seen = text.narrow(1, (time - block_size).max(0), time.min(block_size));
            let logits = self.forward(&seen).select(1, -1).to_kind(TKind::Float) / sampling.temperature;
            let logits = match sampling.top_k {
                Some(k) => {
                    let (best, _) = logits.topk(k.min(vocab_size), -1, true, true);
                    let least = best.narrow(-1, -1, 1);
                    logits.masked_fill(&logits.lt_tensor(&least), f64::NEG_INFINITY)
                }
                None => logits,
            };
            let next = logits.softmax(-1, TKind::Float).f_multinomial(1, true)?;
            text = Tensor::f_cat(&[&text, &next], 1)?;
        }
        Ok(text.to_device(Device::Cpu))
    }
}
