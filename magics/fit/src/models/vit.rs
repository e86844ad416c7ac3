//! The vision transformer (Dosovitskiy et al. 2020), with torchvision's names and initialisation.

use crate::error::{Error, Kind};
use crate::flow::{Flow, FlowModule};
use crate::layers::init;
use crate::layers::{Conv2d, Dropout, LayerNorm, Linear, MultiheadAttention, conv2d, dropout, layer_norm, linear};
use crate::path::Path;
use tch::nn::Init;
use tch::{Device, Kind as TKind, Tensor};

/// A transformer over the patches of a picture.
#[derive(Debug)]
pub struct VisionTransformer {
    /// From patches to tokens.
    pub conv_proj: Conv2d,
    /// The token that the classes are read from.
    pub class_token: Tensor,
    pos_embedding: Tensor,
    dropout: Dropout,
    layers: Vec<Block>,
    ln: LayerNorm,
    /// To the classes.
    pub head: Linear,
}

#[derive(Debug)]
struct Block {
    ln_1: LayerNorm,
    self_attention: MultiheadAttention,
    ln_2: LayerNorm,
    mlp: [Linear; 2],
    dropout: Dropout,
}

/// A [`VisionTransformer`] that is yet to be made.
#[derive(Debug, Clone, Copy)]
pub struct VitConfig {
    image_size: i64,
    patch_size: i64,
    num_layers: usize,
    num_heads: i64,
    hidden_dim: i64,
    mlp_dim: i64,
    dropout: f64,
    num_classes: i64,
}

/// Makes a [`VisionTransformer`] of the base size, with patches of 16 × 16 (`torchvision.models.vit_b_16`). Shape:
/// `[n, 3, 224, 224]` to `[n, num_classes]`. It has 86 million parameters; [`VitConfig`] makes smaller ones.
///
/// ```no_run
/// use lightcell::prelude::*;
/// use lightcell::models::vit_b_16;
/// let store = Store::new(Device::Cpu);
/// let net = vit_b_16(store.root(), 1000);
/// ```
pub fn vit_b_16(path: Path, num_classes: i64) -> VisionTransformer {
    VitConfig::new(224, 16).num_classes(num_classes).build(path)
}

impl VitConfig {
    /// Pictures of `image_size` × `image_size`, a multiple of `patch_size`; otherwise the base size: 12 layers of 12 heads,
    /// 768 numbers in a token, 3072 between the linear layers, no dropout, 1000 classes.
    ///
    /// ```
    /// use lightcell::prelude::*;
    /// use lightcell::models::VitConfig;
    /// let store = Store::new(Device::Cpu);
    /// let config = VitConfig::new(32, 8).layers(2).heads(4).hidden_dim(64).mlp_dim(128).num_classes(10);
    /// let net = config.build(store.root());
    /// assert_eq!(net.forward(&Tensor::zeros([2, 3, 32, 32], (Kind::Float, Device::Cpu))).size(), [2, 10]);
    /// ```
    pub fn new(image_size: i64, patch_size: i64) -> VitConfig {
        VitConfig {
            image_size,
            patch_size,
            num_layers: 12,
            num_heads: 12,
            hidden_dim: 768,
            mlp_dim: 3072,
            dropout: 0.0,
            num_classes: 1000,
        }
    }

    /// Sets how many layers there are.
    #[must_use]
    pub fn layers(mut self, layers: usize) -> VitConfig {
        self.num_layers = layers;
        self
    }

    /// Sets how many heads the attention has.
    #[must_use]
    pub fn heads(mut self, heads: i64) -> VitConfig {
        self.num_heads = heads;
        self
    }

    /// Sets how many numbers a token has, a multiple of the heads.
    #[must_use]
    pub fn hidden_dim(mut self, size: i64) -> VitConfig {
        self.hidden_dim = size;
        self
    }

    /// Sets how many numbers are between the two linear layers.
    #[must_use]
    pub fn mlp_dim(mut self, size: i64) -> VitConfig {
        self.mlp_dim = size;
        self
    }

    /// Sets with which probability numbers are dropped while the model is trained.
    #[must_use]
    pub fn dropout(mut self, probability: f64) -> VitConfig {
        self.dropout = probability;
        self
    }

    /// Sets how many classes there are.
    #[must_use]
    pub fn num_classes(mut self, classes: i64) -> VitConfig {
        self.num_classes = classes;
        self
    }

    /// Makes the model. A size that is no multiple of the patch's makes it an error.
    pub fn build(mut self, path: Path) -> VisionTransformer {
        path.module("VisionTransformer");
        if self.patch_size < 1 || self.image_size < self.patch_size || self.image_size % self.patch_size != 0 {
            let error = format!(
                "a picture of {} cannot be divided into patches of {}",
                self.image_size, self.patch_size
            );
            path.fault(Error::new(Kind::Model, error).hint("the image size must be a multiple of the patch size"));
            (self.image_size, self.patch_size) = (16, 16);
        }
        let size = self.hidden_dim;
        let conv_proj = conv2d(&path / "conv_proj", 3, size, self.patch_size).stride(self.patch_size);
        let class_token = path.parameter("class_token", &[1, 1, size], Init::Const(0.0));
        let encoder = &path / "encoder";
        encoder.module("Encoder");
        let side = self.image_size / self.patch_size;
        let places = Tensor::empty([1, side * side + 1, size], (TKind::Float, Device::Cpu)).normal_(0.0, 0.02);
        let pos_embedding = encoder.trained("pos_embedding", &places);
        let dropped = dropout(&(&encoder / "dropout"), self.dropout);
        let layers = &encoder / "layers";
        layers.module("Sequential");
        let blocks = (0..self.num_layers).map(|at| self.block(&(&layers / format!("encoder_layer_{at}"))));
        let blocks: Vec<Block> = blocks.collect();
        let ln = layer_norm(&encoder / "ln", &[size]).eps(1e-6);
        let heads = &path / "heads";
        heads.module("Sequential");
        let head = linear(heads / "head", size, self.num_classes);
        let patch = 3 * self.patch_size * self.patch_size;
        // Torchvision cuts it off at ±2, which is more than fifty deviations.
        init::redraw(
            &conv_proj.weight,
            &init::normal_as(&conv_proj.weight, (1.0 / patch as f64).sqrt()),
        );
        let zeros = [conv_proj.bias.as_ref(), Some(&head.weight), head.bias.as_ref()];
        for parameter in zeros.into_iter().flatten() {
            init::redraw(parameter, &Tensor::zeros_like(parameter));
        }
        VisionTransformer {
            conv_proj,
            class_token,
            pos_embedding,
            dropout: dropped,
            layers: blocks,
            ln,
            head,
        }
    }

    fn block(&self, path: &Path) -> Block {
        path.module("EncoderBlock");
        let size = self.hidden_dim;
        let ln_1 = layer_norm(path / "ln_1", &[size]).eps(1e-6);
        let attention = MultiheadAttention::config(size, self.num_heads).batch_first(true);
        let self_attention = attention.build(path / "self_attention");
        let dropout = dropout(&(path / "dropout"), self.dropout);
        let ln_2 = layer_norm(path / "ln_2", &[size]).eps(1e-6);
        let mlp = path / "mlp";
        mlp.module("MLPBlock");
        let mlp = [
            linear(&mlp / 0, size, self.mlp_dim),
            linear(&mlp / 3, self.mlp_dim, size),
        ];
        for layer in &mlp {
            init::redraw(&layer.weight, &init::xavier_as(&layer.weight));
            if let Some(bias) = &layer.bias {
                init::redraw(bias, &init::normal_as(bias, 1e-6));
            }
        }
        Block {
            ln_1,
            self_attention,
            ln_2,
            mlp,
            dropout,
        }
    }
}

impl FlowModule for Block {
    fn flow<F: Flow>(&self, f: &mut F, x: &F::Value) -> F::Value {
        let normed = f.layer_norm(&self.ln_1, x);
        let attended = f.self_attention(&self.self_attention, &normed);
        let attended = f.dropout(&self.dropout, &attended);
        let x = f.add(&attended, x);
        let normed = f.layer_norm(&self.ln_2, &x);
        let inner = f.linear(&self.mlp[0], &normed);
        let inner = f.gelu(&inner, false);
        let inner = f.dropout(&self.dropout, &inner);
        let out = f.linear(&self.mlp[1], &inner);
        let out = f.dropout(&self.dropout, &out);
        f.add(&x, &out)
    }
}

impl FlowModule for VisionTransformer {
    fn flow<F: Flow>(&self, f: &mut F, x: &F::Value) -> F::Value {
        let x = f.conv2d(&self.conv_proj, x);
        let x = f.places_as_tokens(&x);
        let x = f.prepend_token(&self.class_token, &x);
        let x = f.add_parameter(&x, &self.pos_embedding);
        let mut x = f.dropout(&self.dropout, &x);
        for layer in &self.layers {
            x = layer.flow(f, &x);
        }
        let x = f.layer_norm(&self.ln, &x);
        let x = f.token(&x, 0);
        f.linear(&self.head, &x)
    }
}
