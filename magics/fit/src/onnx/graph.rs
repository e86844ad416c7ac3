//! The graph: nodes and constants in the messages of `onnx.proto`, field by field.
//!
//! Source: the definitions in ONNX's `onnx/onnx.proto` and its list of operators, opset 17.

mod operators;

use crate::checkpoint::file::bytes_of;
use crate::error::{Error, Kind, Result};
use crate::tensorboard::proto::Message;
use tch::{Device, Kind as TKind, Tensor};

const OPSET: i64 = 17;
/// Of the format around it; the one that came with this opset.
const IR_VERSION: i64 = 8;

/// A value in a graph: its name, and its shape for the example.
#[derive(Debug, Clone)]
pub struct Value {
    name: String,
    shape: Vec<i64>,
}

impl Value {
    pub(super) fn shape(&self) -> &[i64] {
        &self.shape
    }
}

/// A graph that a forward pass is written to.
#[derive(Debug)]
pub struct Graph {
    input: Value,
    input_kind: TKind,
    nodes: Vec<Message>,
    constants: Vec<Message>,
    count: usize,
    fault: Option<Error>,
}

/// An attribute of a node.
enum Attribute<'a> {
    Int(i64),
    Ints(&'a [i64]),
    Float(f64),
    Text(&'a str),
}

impl Graph {
    pub(super) fn new(example: &Tensor) -> Result<Graph> {
        let kind = example.kind();
        if !matches!(kind, TKind::Float | TKind::Int64) || example.dim() == 0 {
            let error = format!("an example of shape {:?} and Kind::{kind:?}", example.size());
            return Err(Error::new(Kind::Shape, error)
                .hint("it must be a batch of Kind::Float, or of Kind::Int64 for words and tokens"));
        }
        Ok(Graph {
            input: Value {
                name: "x".to_owned(),
                shape: example.size(),
            },
            input_kind: kind,
            nodes: Vec::new(),
            constants: Vec::new(),
            count: 0,
            fault: None,
        })
    }

    pub(super) fn input(&self) -> Value {
        self.input.clone()
    }

    /// Adds a node with one output of this shape.
    fn node(&mut self, op: &str, inputs: &[&str], attributes: &[(&str, Attribute)], shape: Vec<i64>) -> Value {
        let mut values = self.nodes_out(op, inputs, attributes, 1);
        Value {
            name: values.remove(0),
            shape,
        }
    }

    /// Adds a convolution: its inputs are `x`, the weight and, where there is one, the bias.
    fn convolution(
        &mut self,
        op: &str,
        x: &Value,
        (weight, bias): (&Tensor, Option<&Tensor>),
        attributes: &[(&str, Attribute)],
        shape: Vec<i64>,
    ) -> Value {
        let mut inputs = vec![x.name.clone(), self.constant(weight)];
        inputs.extend(bias.map(|bias| self.constant(bias)));
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        self.node(op, &inputs, attributes, shape)
    }

    fn nodes_out(
        &mut self,
        op: &str,
        inputs: &[&str],
        attributes: &[(&str, Attribute)],
        outputs: usize,
    ) -> Vec<String> {
        let number = self.count;
        self.count += 1;
        let name = format!("{op}_{number}");
        let names: Vec<String> = match outputs {
            1 => vec![name.clone()],
            _ => (0..outputs).map(|at| format!("{name}.{at}")).collect(),
        };
        let mut node = Message::default();
        for input in inputs {
            node = node.bytes(1, input.as_bytes());
        }
        for output in &names {
            node = node.text(2, output);
        }
        node = node.text(3, &name).text(4, op);
        for (name, value) in attributes {
            let message = Message::default().text(1, name);
            let message = match value {
                Attribute::Float(value) => message.float(2, *value as f32).int(20, 1),
                Attribute::Int(value) => message.ints(3, &[*value]).int(20, 2),
                Attribute::Text(value) => message.text(4, value).int(20, 3),
                Attribute::Ints(values) => message.ints(8, values).int(20, 7),
            };
            node = node.message(5, &message);
        }
        self.nodes.push(node);
        names
    }

    /// Adds a constant and gives its name.
    fn constant(&mut self, tensor: &Tensor) -> String {
        let name = format!("constant_{}", self.constants.len());
        match encoded(&name, tensor) {
            Ok(message) => self.constants.push(message),
            Err(error) => drop(self.fault.get_or_insert(error)),
        }
        name
    }

    fn number(&mut self, value: f64) -> String {
        self.constant(&Tensor::from(value as f32))
    }

    fn numbers(&mut self, values: &[i64]) -> String {
        self.constant(&Tensor::from_slice(values))
    }

    /// An operation of two inputs that keeps the shape of the first.
    fn with(&mut self, op: &str, x: &Value, other: &str) -> Value {
        self.node(op, &[&x.name, other], &[], x.shape.clone())
    }

    fn alone(&mut self, op: &str, x: &Value) -> Value {
        self.node(op, &[&x.name], &[], x.shape.clone())
    }

    fn transpose(&mut self, x: &Value, order: &[i64]) -> Value {
        let shape = order.iter().map(|at| x.shape[*at as usize]).collect();
        self.node("Transpose", &[&x.name], &[("perm", Attribute::Ints(order))], shape)
    }

    /// To a shape in which 0 is a dimension as it was, and -1 the rest.
    fn reshape(&mut self, x: &Value, to: &[i64]) -> Value {
        let mut shape: Vec<i64> = to
            .iter()
            .enumerate()
            .map(|(at, size)| if *size == 0 { x.shape[at] } else { *size })
            .collect();
        let known: i64 = shape.iter().filter(|size| **size > 0).product();
        let all: i64 = x.shape.iter().product();
        for size in shape.iter_mut().filter(|size| **size < 0) {
            *size = all / known.max(1);
        }
        let to = self.numbers(to);
        self.node("Reshape", &[&x.name, &to], &[], shape)
    }

    /// A product with a weight `[out, in]`, and a bias.
    fn product(&mut self, x: &Value, weight: &Tensor, bias: Option<&Tensor>) -> Value {
        let mut shape = x.shape.clone();
        if let Some(last) = shape.last_mut() {
            *last = weight.size()[0];
        }
        if x.shape.len() == 2 {
            let mut inputs = vec![self.constant(weight)];
            inputs.extend(bias.map(|bias| self.constant(bias)));
            let inputs: Vec<&str> = std::iter::once(x.name.as_str())
                .chain(inputs.iter().map(String::as_str))
                .collect();
            return self.node("Gemm", &inputs, &[("transB", Attribute::Int(1))], shape);
        }
        let weight = self.constant(&weight.tr());
        let product = self.node("MatMul", &[&x.name, &weight], &[], shape);
        match bias {
            Some(bias) => {
                let bias = self.constant(bias);
                self.with("Add", &product, &bias)
            }
            None => product,
        }
    }

    /// Each head's attention to itself, of `[n, time, 3 · size]`.
    fn attend(&mut self, qkv: &Value, heads: i64, causal: bool) -> Value {
        let (batch, time, width) = (qkv.shape[0], qkv.shape[1], qkv.shape[2] / 3);
        let parts = self.nodes_out("Split", &[&qkv.name], &[("axis", Attribute::Int(2))], 3);
        let mut parts = parts.into_iter().map(|name| Value {
            name,
            shape: vec![batch, time, width],
        });
        let mut part = |order: &[i64]| {
            let part = parts.next().unwrap_or_else(|| qkv.clone());
            let part = self.reshape(&part, &[0, 0, heads, width / heads]);
            self.transpose(&part, order)
        };
        let (q, k, v) = (part(&[0, 2, 1, 3]), part(&[0, 2, 3, 1]), part(&[0, 2, 1, 3]));
        let scale = self.number(1.0 / ((width / heads) as f64).sqrt());
        let q = self.with("Mul", &q, &scale);
        let mut scores = self.node("MatMul", &[&q.name, &k.name], &[], vec![batch, heads, time, time]);
        if causal {
            let later = Tensor::full([time, time], f64::NEG_INFINITY, (TKind::Float, Device::Cpu)).triu(1);
            let later = self.constant(&later);
            scores = self.with("Add", &scores, &later);
        }
        let shape = scores.shape.clone();
        let weights = self.node("Softmax", &[&scores.name], &[("axis", Attribute::Int(-1))], shape);
        let attended = self.node("MatMul", &[&weights.name, &v.name], &[], v.shape.clone());
        let attended = self.transpose(&attended, &[0, 2, 1, 3]);
        self.reshape(&attended, &[0, 0, -1])
    }

    /// One layer of an LSTM: `[time, n, in]` to `[time, n, hidden · directions]`.
    fn lstm_layer(&mut self, x: &Value, weights: &[Tensor], hidden: i64, biased: bool) -> Value {
        let each = if biased { 4 } else { 2 };
        let directions: Vec<&[Tensor]> = weights.chunks(each).collect();
        // PyTorch's order is input, forget, cell, output; ONNX's input, output, forget, cell.
        let ordered = |tensor: &Tensor| {
            let gates = tensor.chunk(4, 0);
            match &gates[..] {
                [input, forget, cell, output] => Tensor::cat(&[input, output, forget, cell], 0),
                _ => tensor.shallow_clone(),
            }
        };
        let stacked = |at: usize| {
            let all: Vec<Tensor> = directions.iter().map(|tensors| ordered(&tensors[at])).collect();
            Tensor::stack(&all, 0)
        };
        let mut inputs = vec![x.name.clone(), self.constant(&stacked(0)), self.constant(&stacked(1))];
        if biased {
            inputs.push(self.constant(&Tensor::cat(&[stacked(2), stacked(3)], 1)));
        }
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let count = directions.len() as i64;
        let direction = if count == 2 { "bidirectional" } else { "forward" };
        let attributes = [
            ("direction", Attribute::Text(direction)),
            ("hidden_size", Attribute::Int(hidden)),
        ];
        let (time, batch) = (x.shape[0], x.shape[1]);
        // One value of each direction: [time, directions, n, hidden].
        let out = self.node("LSTM", &inputs, &attributes, vec![time, count, batch, hidden]);
        let out = self.transpose(&out, &[0, 2, 1, 3]);
        self.reshape(&out, &[0, 0, -1])
    }

    /// The file's bytes.
    pub(super) fn finish(mut self, output: &Value) -> Result<Vec<u8>> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let named = Message::default()
            .bytes(1, output.name.as_bytes())
            .text(2, "y")
            .text(3, "output")
            .text(4, "Identity");
        self.nodes.push(named);
        let mut graph = Message::default();
        for node in &self.nodes {
            graph = graph.message(1, node);
        }
        graph = graph.text(2, "lightcell");
        for constant in &self.constants {
            graph = graph.message(5, constant);
        }
        graph = graph.message(11, &about("x", self.input_kind, &self.input.shape));
        graph = graph.message(12, &about("y", TKind::Float, &output.shape));
        let opset = Message::default().int(2, OPSET);
        let model = Message::default()
            .int(1, IR_VERSION)
            .text(2, "lightcell")
            .text(3, env!("CARGO_PKG_VERSION"))
            .message(7, &graph)
            .message(8, &opset);
        Ok(model.0)
    }
}

/// Name, type and shape of an input or output; the batch may have any size.
fn about(name: &str, kind: TKind, shape: &[i64]) -> Message {
    let mut dims = Message::default();
    for (at, size) in shape.iter().enumerate() {
        let dim = match at {
            0 => Message::default().text(2, "batch"),
            _ => Message::default().ints(1, &[*size]),
        };
        dims = dims.message(1, &dim);
    }
    let tensor = Message::default().int(1, data_type(kind)).message(2, &dims);
    Message::default()
        .text(1, name)
        .message(2, &Message::default().message(1, &tensor))
}

fn data_type(kind: TKind) -> i64 {
    if kind == TKind::Int64 { 7 } else { 1 }
}

fn encoded(name: &str, tensor: &Tensor) -> Result<Message> {
    let kind = if tensor.kind() == TKind::Int64 {
        TKind::Int64
    } else {
        TKind::Float
    };
    let bytes = bytes_of(&tensor.f_to_kind(kind)?)?;
    Ok(Message::default()
        .ints(1, &tensor.size())
        .int(2, data_type(kind))
        .text(8, name)
        .bytes(9, &bytes))
}
