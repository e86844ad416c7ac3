//! Recurrent layers: RNN, LSTM and GRU.

use super::init;
use crate::path::{Mode, Path};
use crate::summarize::ran;
use tch::Tensor;

/// What a recurrent layer is made of, and how it is run.
#[derive(Debug)]
pub(crate) struct Cells {
    /// For each layer and direction: `weight_ih`, `weight_hh`, and with a bias `bias_ih`, `bias_hh`.
    pub(crate) weights: Vec<Tensor>,
    pub(crate) config: RecurrentConfig,
    mode: Mode,
}

/// The settings of a recurrent layer that is yet to be made.
#[derive(Debug, Clone, Copy)]
pub struct RecurrentConfig {
    inputs: i64,
    pub(crate) hidden: i64,
    pub(crate) num_layers: i64,
    pub(crate) bias: bool,
    pub(crate) batch_first: bool,
    dropout: f64,
    pub(crate) bidirectional: bool,
}

impl RecurrentConfig {
    /// From vectors of `inputs` numbers to states of `hidden` numbers: one layer, one direction, with biases, time before
    /// batch, no dropout.
    pub fn new(inputs: i64, hidden: i64) -> RecurrentConfig {
        RecurrentConfig {
            inputs,
            hidden,
            num_layers: 1,
            bias: true,
            batch_first: false,
            dropout: 0.0,
            bidirectional: false,
        }
    }

    /// Sets how many layers stand on each other.
    #[must_use]
    pub fn num_layers(mut self, layers: i64) -> RecurrentConfig {
        self.num_layers = layers;
        self
    }

    /// Whether it adds biases.
    #[must_use]
    pub fn bias(mut self, bias: bool) -> RecurrentConfig {
        self.bias = bias;
        self
    }

    /// Takes and gives `[n, time, …]` instead of `[time, n, …]`. States stay `[layers, n, hidden]`.
    #[must_use]
    pub fn batch_first(mut self) -> RecurrentConfig {
        self.batch_first = true;
        self
    }

    /// Sets with which probability numbers between two layers are dropped while the model is trained.
    #[must_use]
    pub fn dropout(mut self, probability: f64) -> RecurrentConfig {
        self.dropout = probability;
        self
    }

    /// Also reads from the end; outputs are twice as wide.
    #[must_use]
    pub fn bidirectional(mut self) -> RecurrentConfig {
        self.bidirectional = true;
        self
    }

    fn directions(&self) -> i64 {
        if self.bidirectional { 2 } else { 1 }
    }

    /// Makes a [`RNN`] with tanh.
    pub fn rnn(self, path: Path) -> RNN {
        RNN(Cells::new(self, &path, 1))
    }

    /// Makes a [`LSTM`].
    pub fn lstm(self, path: Path) -> LSTM {
        LSTM(Cells::new(self, &path, 4))
    }

    /// Makes a [`GRU`].
    pub fn gru(self, path: Path) -> GRU {
        GRU(Cells::new(self, &path, 3))
    }
}

/// Input, state, weights, and then: has biases, layers, dropout, in training, both directions, batch first.
type Recurrence = fn(&Tensor, &Tensor, &[Tensor], bool, i64, f64, bool, bool, bool) -> (Tensor, Tensor);

impl Cells {
    fn new(mut config: RecurrentConfig, path: &Path, gates: i64) -> Cells {
        config.dropout = init::probability(path, config.dropout);
        path.module(match gates {
            1 => "RNN",
            3 => "GRU",
            _ => "LSTM",
        });
        let (hidden, directions) = (config.hidden, config.directions());
        let bound = if hidden > 0 { 1.0 / (hidden as f64).sqrt() } else { 0.0 };
        let mut weights = Vec::new();
        for layer in 0..config.num_layers {
            let inputs = if layer == 0 { config.inputs } else { hidden * directions };
            for direction in 0..directions {
                let reverse = if direction == 1 { "_reverse" } else { "" };
                let shapes: [(&str, Vec<i64>); 4] = [
                    ("weight_ih", vec![gates * hidden, inputs]),
                    ("weight_hh", vec![gates * hidden, hidden]),
                    ("bias_ih", vec![gates * hidden]),
                    ("bias_hh", vec![gates * hidden]),
                ];
                for (name, shape) in &shapes[..if config.bias { 4 } else { 2 }] {
                    let name = format!("{name}_l{layer}{reverse}");
                    weights.push(path.trained(&name, &init::uniform(shape, bound)));
                }
            }
        }
        Cells {
            weights,
            config,
            mode: path.mode(),
        }
    }

    /// One of tch's recurrent functions with one state.
    fn run(&self, function: Recurrence, x: &Tensor, state: &Tensor) -> (Tensor, Tensor) {
        let config = &self.config;
        let (outputs, last) = function(
            x,
            state,
            &self.weights,
            config.bias,
            config.num_layers,
            config.dropout,
            self.mode.training(),
            config.bidirectional,
            config.batch_first,
        );
        self.ran(x, &outputs);
        (outputs, last)
    }

    /// Notes a call for a summary: each matrix meets each step of each sequence.
    fn ran(&self, x: &Tensor, outputs: &Tensor) {
        if let Some(first) = self.weights.first() {
            let steps: i64 = x.size().iter().rev().skip(1).product();
            let matrices = self.weights.iter().filter(|weight| weight.dim() == 2);
            ran(first, outputs, || {
                steps * matrices.map(|matrix| matrix.numel() as i64).sum::<i64>()
            });
        }
    }

    /// A state of zeros for this input.
    fn zeros(&self, x: &Tensor) -> Tensor {
        let config = &self.config;
        let batch = x.size().get(usize::from(!config.batch_first)).copied().unwrap_or(1);
        let layers = config.num_layers * config.directions();
        Tensor::zeros([layers, batch, config.hidden], (x.kind(), x.device()))
    }
}

/// A plain recurrent layer with tanh.
#[derive(Debug)]
pub struct RNN(Cells);

/// Makes a [`RNN`] of one layer (`torch.nn.RNN`). Shape: `[time, n, inputs]` to `[time, n, hidden]`.
///
/// ```
/// use lightcell::prelude::*;
/// let store = Store::new(Device::Cpu);
/// let layer = rnn(store.root() / "r", 3, 5);
/// let (outputs, last) = layer.forward(&Tensor::zeros([7, 2, 3], (Kind::Float, Device::Cpu)));
/// assert_eq!((outputs.size(), last.size()), (vec![7, 2, 5], vec![1, 2, 5]));
/// ```
pub fn rnn(path: Path, inputs: i64, hidden: i64) -> RNN {
    RecurrentConfig::new(inputs, hidden).rnn(path)
}

impl RNN {
    /// From a state of zeros: outputs `[time, n, hidden]` and the last state `[layers, n, hidden]`.
    pub fn forward(&self, x: &Tensor) -> (Tensor, Tensor) {
        self.forward_from(x, &self.0.zeros(x))
    }

    /// From this state, `[layers, n, hidden]`.
    pub fn forward_from(&self, x: &Tensor, state: &Tensor) -> (Tensor, Tensor) {
        self.0.run(Tensor::rnn_tanh, x, state)
    }
}

/// A recurrent layer with a long short-term memory.
#[derive(Debug)]
pub struct LSTM(pub(crate) Cells);

/// Makes a [`LSTM`] of one layer (`torch.nn.LSTM`). Shape: `[time, n, inputs]` to `[time, n, hidden]`.
///
/// ```
/// use lightcell::prelude::*;
/// let store = Store::new(Device::Cpu);
/// let layer = RecurrentConfig::new(3, 5).num_layers(2).bidirectional().batch_first().lstm(store.root() / "r");
/// let (outputs, (h, c)) = layer.forward(&Tensor::zeros([2, 7, 3], (Kind::Float, Device::Cpu)));
/// assert_eq!((outputs.size(), h.size(), c.size()), (vec![2, 7, 10], vec![4, 2, 5], vec![4, 2, 5]));
/// ```
pub fn lstm(path: Path, inputs: i64, hidden: i64) -> LSTM {
    RecurrentConfig::new(inputs, hidden).lstm(path)
}

impl LSTM {
    /// From a state of zeros: outputs `[time, n, hidden]` and the last state and memory, `[layers, n, hidden]` each.
    pub fn forward(&self, x: &Tensor) -> (Tensor, (Tensor, Tensor)) {
        let zeros = self.0.zeros(x);
        self.forward_from(x, (&zeros, &zeros))
    }

    /// From this state and memory, `[layers, n, hidden]` each.
    pub fn forward_from(&self, x: &Tensor, (h, c): (&Tensor, &Tensor)) -> (Tensor, (Tensor, Tensor)) {
        let (cells, config) = (&self.0, &self.0.config);
        let (outputs, h, c) = x.lstm(
            &[h, c],
            &cells.weights.iter().collect::<Vec<_>>(),
            config.bias,
            config.num_layers,
            config.dropout,
            cells.mode.training(),
            config.bidirectional,
            config.batch_first,
        );
        cells.ran(x, &outputs);
        (outputs, (h, c))
    }
}

/// A recurrent layer with gates.
#[derive(Debug)]
pub struct GRU(Cells);

/// Makes a [`GRU`] of one layer (`torch.nn.GRU`). Shape: `[time, n, inputs]` to `[time, n, hidden]`.
///
/// ```
/// use lightcell::prelude::*;
/// let store = Store::new(Device::Cpu);
/// let layer = gru(store.root() / "r", 3, 5);
/// let (outputs, last) = layer.forward(&Tensor::zeros([7, 2, 3], (Kind::Float, Device::Cpu)));
/// assert_eq!((outputs.size(), last.size()), (vec![7, 2, 5], vec![1, 2, 5]));
/// ```
pub fn gru(path: Path, inputs: i64, hidden: i64) -> GRU {
    RecurrentConfig::new(inputs, hidden).gru(path)
}

impl GRU {
    /// From a state of zeros: outputs `[time, n, hidden]` and the last state `[layers, n, hidden]`.
    pub fn forward(&self, x: &Tensor) -> (Tensor, Tensor) {
        self.forward_from(x, &self.0.zeros(x))
    }

    /// From this state, `[layers, n, hidden]`.
    pub fn forward_from(&self, x: &Tensor, state: &Tensor) -> (Tensor, Tensor) {
        self.0.run(Tensor::gru, x, state)
    }
}
