//! What each operation of a forward pass is in the graph.

use super::{Attribute, Graph, Value};
use crate::flow::Flow;
use crate::layers::{
    BatchNorm2d, Conv2d, ConvTranspose2d, Dropout, Embedding, LSTM, LayerNorm, Linear, MaxPool2d, MultiheadAttention,
};
use tch::{Device, Kind as TKind, Tensor};

/// A size after a convolution or pooling.
fn after(size: i64, kernel: i64, stride: i64, padding: i64, dilation: i64) -> i64 {
    (size + 2 * padding - dilation * (kernel - 1) - 1) / stride.max(1) + 1
}

fn both([a, b]: [i64; 2]) -> [i64; 4] {
    [a, b, a, b]
}

impl Flow for Graph {
    type Value = Value;

    fn same(&mut self, x: &Value) -> Value {
        x.clone()
    }

    fn conv2d(&mut self, layer: &Conv2d, x: &Value) -> Value {
        let size = layer.weight.size();
        let place = |at: usize| {
            after(
                x.shape[at + 2],
                size[at + 2],
                layer.stride[at],
                layer.padding[at],
                layer.dilation[at],
            )
        };
        let shape = vec![x.shape[0], size[0], place(0), place(1)];
        let attributes = [
            ("kernel_shape", Attribute::Ints(&size[2..])),
            ("strides", Attribute::Ints(&layer.stride)),
            ("pads", Attribute::Ints(&both(layer.padding))),
            ("dilations", Attribute::Ints(&layer.dilation)),
            ("group", Attribute::Int(layer.groups)),
        ];
        self.convolution("Conv", x, (&layer.weight, layer.bias.as_ref()), &attributes, shape)
    }

    fn conv_transpose2d(&mut self, layer: &ConvTranspose2d, x: &Value) -> Value {
        let size = layer.weight.size();
        let place = |at: usize| {
            (x.shape[at + 2] - 1) * layer.stride[at] - 2 * layer.padding[at]
                + layer.dilation[at] * (size[at + 2] - 1)
                + layer.output_padding[at]
                + 1
        };
        let shape = vec![x.shape[0], size[1] * layer.groups, place(0), place(1)];
        let attributes = [
            ("kernel_shape", Attribute::Ints(&size[2..])),
            ("strides", Attribute::Ints(&layer.stride)),
            ("pads", Attribute::Ints(&both(layer.padding))),
            ("dilations", Attribute::Ints(&layer.dilation)),
            ("output_padding", Attribute::Ints(&layer.output_padding)),
            ("group", Attribute::Int(layer.groups)),
        ];
        self.convolution(
            "ConvTranspose",
            x,
            (&layer.weight, layer.bias.as_ref()),
            &attributes,
            shape,
        )
    }

    fn batch_norm2d(&mut self, layer: &BatchNorm2d, x: &Value) -> Value {
        let (mean, var) = (&layer.running_mean, &layer.running_var);
        let (ones, zeros) = (var.ones_like(), mean.zeros_like());
        let weight = layer.weight.as_ref().unwrap_or(&ones);
        let bias = layer.bias.as_ref().unwrap_or(&zeros);
        let constants = [weight, bias, mean, var].map(|tensor| self.constant(tensor));
        let inputs: Vec<&str> = std::iter::once(x.name.as_str())
            .chain(constants.iter().map(String::as_str))
            .collect();
        let attributes = [("epsilon", Attribute::Float(layer.eps))];
        self.node("BatchNormalization", &inputs, &attributes, x.shape.clone())
    }

    fn linear(&mut self, layer: &Linear, x: &Value) -> Value {
        self.product(x, &layer.weight, layer.bias.as_ref())
    }

    fn layer_norm(&mut self, layer: &LayerNorm, x: &Value) -> Value {
        let shape = layer.shape();
        let ones = Tensor::ones(shape, (TKind::Float, Device::Cpu));
        let mut inputs = vec![x.name.clone(), self.constant(layer.weight.as_ref().unwrap_or(&ones))];
        inputs.extend(layer.bias.as_ref().map(|bias| self.constant(bias)));
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let attributes = [
            ("axis", Attribute::Int(-(shape.len() as i64))),
            ("epsilon", Attribute::Float(layer.eps)),
        ];
        self.node("LayerNormalization", &inputs, &attributes, x.shape.clone())
    }

    fn embedding(&mut self, layer: &Embedding, x: &Value) -> Value {
        let mut shape = x.shape.clone();
        shape.push(layer.weight.size()[1]);
        let table = self.constant(&layer.weight);
        self.node("Gather", &[&table, &x.name], &[], shape)
    }

    fn self_attention(&mut self, layer: &MultiheadAttention, x: &Value) -> Value {
        let qkv = self.product(x, &layer.in_proj_weight, layer.in_proj_bias.as_ref());
        let attended = self.attend(&qkv, layer.config.num_heads, false);
        self.linear(&layer.out_proj, &attended)
    }

    fn lstm(&mut self, layer: &LSTM, x: &Value) -> Value {
        let config = &layer.0.config;
        let layers = config.num_layers.max(1) as usize;
        let each = (layer.0.weights.len() / layers).max(1);
        let mut x = self.transpose(x, &[1, 0, 2]);
        for weights in layer.0.weights.chunks(each) {
            x = self.lstm_layer(&x, weights, config.hidden, config.bias);
        }
        self.transpose(&x, &[1, 0, 2])
    }

    fn dropout(&mut self, _: &Dropout, x: &Value) -> Value {
        x.clone()
    }

    fn max_pool2d(&mut self, layer: &MaxPool2d, x: &Value) -> Value {
        let mut shape = x.shape.clone();
        for size in &mut shape[2..] {
            *size = after(*size, layer.kernel, layer.stride, layer.padding, 1);
        }
        let attributes = [
            ("kernel_shape", Attribute::Ints(&[layer.kernel; 2])),
            ("strides", Attribute::Ints(&[layer.stride; 2])),
            ("pads", Attribute::Ints(&[layer.padding; 4])),
        ];
        self.node("MaxPool", &[&x.name], &attributes, shape)
    }

    fn attention(&mut self, qkv: &Value, heads: i64, causal: bool, _: &Dropout) -> Value {
        self.attend(qkv, heads, causal)
    }

    fn mean_places(&mut self, x: &Value) -> Value {
        let shape = vec![x.shape[0], x.shape[1], 1, 1];
        let mean = self.node("GlobalAveragePool", &[&x.name], &[], shape);
        self.flatten(&mean)
    }

    fn relu(&mut self, x: &Value) -> Value {
        self.alone("Relu", x)
    }

    fn relu6(&mut self, x: &Value) -> Value {
        let (least, most) = (self.number(0.0), self.number(6.0));
        self.node("Clip", &[&x.name, &least, &most], &[], x.shape.clone())
    }

    fn gelu(&mut self, x: &Value, tanh: bool) -> Value {
        let [half, one] = [0.5, 1.0].map(|value| self.number(value));
        let inner = if tanh {
            let [cubed, root] = [0.044715, (2.0 / std::f64::consts::PI).sqrt()].map(|value| self.number(value));
            let square = self.with("Mul", x, &x.name);
            let cube = self.with("Mul", &square, &x.name);
            let cube = self.with("Mul", &cube, &cubed);
            let sum = self.with("Add", x, &cube.name);
            let inner = self.with("Mul", &sum, &root);
            self.alone("Tanh", &inner)
        } else {
            let root = self.number(std::f64::consts::FRAC_1_SQRT_2);
            let inner = self.with("Mul", x, &root);
            self.alone("Erf", &inner)
        };
        let factor = self.with("Add", &inner, &one);
        let part = self.with("Mul", x, &half);
        self.with("Mul", &part, &factor.name)
    }

    fn add(&mut self, a: &Value, b: &Value) -> Value {
        self.with("Add", a, &b.name)
    }

    fn add_parameter(&mut self, x: &Value, parameter: &Tensor) -> Value {
        let parameter = self.constant(parameter);
        self.with("Add", x, &parameter)
    }

    fn cat(&mut self, a: &Value, b: &Value, dim: i64) -> Value {
        let mut shape = a.shape.clone();
        shape[dim as usize] += b.shape[dim as usize];
        self.node("Concat", &[&a.name, &b.name], &[("axis", Attribute::Int(dim))], shape)
    }

    fn flatten(&mut self, x: &Value) -> Value {
        let shape = vec![x.shape[0], x.shape[1..].iter().product()];
        self.node("Flatten", &[&x.name], &[("axis", Attribute::Int(1))], shape)
    }

    fn places_as_tokens(&mut self, x: &Value) -> Value {
        let flat = self.reshape(x, &[0, 0, -1]);
        self.transpose(&flat, &[0, 2, 1])
    }

    fn prepend_token(&mut self, token: &Tensor, x: &Value) -> Value {
        let first = [("start", Attribute::Int(0)), ("end", Attribute::Int(1))];
        let batch = self.node("Shape", &[&x.name], &first, vec![1]);
        let rest = self.numbers(&token.size()[1..]);
        let shape = self.node("Concat", &[&batch.name, &rest], &[("axis", Attribute::Int(0))], vec![3]);
        let token = self.constant(token);
        let tokens = vec![x.shape[0], 1, x.shape[2]];
        let tokens = self.node("Expand", &[&token, &shape.name], &[], tokens);
        self.cat(&tokens, x, 1)
    }

    fn token(&mut self, x: &Value, index: i64) -> Value {
        let index = self.constant(&Tensor::from(index));
        let shape = vec![x.shape[0], x.shape[2]];
        self.node("Gather", &[&x.name, &index], &[("axis", Attribute::Int(1))], shape)
    }

    fn time(&mut self, x: &Value) -> i64 {
        x.shape.get(1).copied().unwrap_or(1)
    }
}
