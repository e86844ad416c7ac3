//! What a model does with an input: each layer's output shape, parameters and multiply-adds, from one forward pass.
//!
//! Layers note themselves while a summary records on their thread, so it works for any forward pass that uses them.

use crate::error::{Error, Kind, Result};
use crate::fit::Fit;
use crate::module::LightningModule;
use crate::path::Store;
use crate::steps::guarded;
use crate::summary::{Row, grouped, rows};
use std::cell::RefCell;
use std::fmt;
use tch::{Kind as TKind, Tensor};

/// What one call of a layer did.
struct Call {
    /// Where the layer's weight lies: by it the layer is found in the tree.
    weight: usize,
    output: Vec<i64>,
    multiply_adds: u64,
}

thread_local! {
    // Not the state of a run: it is there only while `summary` runs.
    static CALLS: RefCell<Option<Vec<Call>>> = const { RefCell::new(None) };
}

/// Called by each layer behind its forward pass; does nothing unless a summary records.
pub(crate) fn ran(weight: &Tensor, output: &Tensor, multiply_adds: impl FnOnce() -> i64) {
    CALLS.with_borrow_mut(|calls| {
        if let Some(calls) = calls {
            calls.push(Call {
                weight: weight.data_ptr() as usize,
                output: output.size(),
                multiply_adds: multiply_adds().max(0) as u64,
            });
        }
    });
}

/// Multiply-adds of a product with this weight: `[outputs, …]` for each of the output's numbers. Biases are not counted.
pub(crate) fn product(weight: &Tensor, output: &Tensor) -> i64 {
    let outputs = weight.size().first().copied().unwrap_or(1).max(1);
    output.numel() as i64 * (weight.numel() as i64 / outputs)
}

/// A model that [`summary`] can look at: a [`Fit`], or a store with the module whose parameters it holds.
pub trait Summarize {
    /// What holds the parameters.
    fn store(&self) -> &Store;
    /// The forward pass.
    fn run(&self, x: &Tensor) -> Tensor;
}

impl<M: LightningModule> Summarize for Fit<M> {
    fn store(&self) -> &Store {
        &self.store
    }
    fn run(&self, x: &Tensor) -> Tensor {
        self.model.forward(x)
    }
}

impl<N: tch::nn::Module> Summarize for (&Store, &N) {
    fn store(&self) -> &Store {
        self.0
    }
    fn run(&self, x: &Tensor) -> Tensor {
        self.1.forward(x)
    }
}

/// A layer in a [`Summary`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerSummary {
    /// Its name in the tree.
    pub name: String,
    /// PyTorch's class.
    pub class: String,
    /// The shape of what it gave, when last called; empty for what only holds others, or was not called.
    pub output: Vec<i64>,
    /// Numbers in its parameters, those of the layers within included.
    pub parameters: u64,
    /// Multiplications with an addition, over all its calls, those of the layers within included.
    pub multiply_adds: u64,
}

/// What [`summary`] found. `{}` and the value of a cell are the table.
#[derive(Clone, PartialEq, Eq)]
pub struct Summary {
    /// All layers, each before those within it.
    pub layers: Vec<LayerSummary>,
    /// The input's shape.
    pub input: Vec<i64>,
    /// The output's shape.
    pub output: Vec<i64>,
    /// Numbers in all parameters.
    pub parameters: u64,
    /// Those that are trained.
    pub trained: u64,
    /// Bytes of the parameters.
    pub bytes: u64,
    /// Multiplications with an addition of one forward pass: those of linear layers, convolutions, recurrent layers and
    /// attention.
    pub multiply_adds: u64,
}

/// A model's layers with output shapes, parameters and multiply-adds, for an input of this shape: zeros, which are whole
/// numbers when the model's first layer is an embedding. As torchinfo's `summary`; multiply-adds are counted as torchvision
/// counts them, without biases, norms and activations.
///
/// The model behaves as in validation, and is left as it was.
///
/// ```
/// use lightcell::prelude::*;
/// use lightcell::models::resnet18;
/// let store = Store::new(Device::Cpu);
/// let net = resnet18(store.root(), 1000);
/// let summary = summary(&(&store, &net), [1, 3, 224, 224])?;
/// assert_eq!((summary.parameters, summary.multiply_adds / 10_000_000), (11_689_512, 181));
/// println!("{summary}");
/// # Ok::<(), Error>(())
/// ```
///
/// # Errors
/// When the forward pass fails, usually because the shape is not the model's.
pub fn summary<M: Summarize>(model: &M, shape: impl AsRef<[i64]>) -> Result<Summary> {
    let (store, shape) = (model.store(), shape.as_ref());
    if shape.iter().any(|side| *side < 1) {
        let error = Error::new(Kind::Option, format!("an input has no shape {shape:?}"));
        return Err(error.hint("the shape with its batch, as in summary(&fit, [1, 3, 224, 224])"));
    }
    // Of the first layer that has no others within.
    let modules: Vec<(String, String)> = store.modules.borrow().clone();
    let holds = |name: &str| {
        modules
            .iter()
            .any(|(other, _)| other.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')))
    };
    let words = modules
        .iter()
        .find(|(name, _)| !holds(name))
        .is_some_and(|(_, class)| class == "Embedding");
    let kind = if words { TKind::Int64 } else { TKind::Float };
    summary_of(model, &Tensor::f_zeros(shape, (kind, store.root().device()))?)
}

/// [`summary`] for an input of one's own.
///
/// # Errors
/// When the forward pass fails.
pub fn summary_of<M: Summarize>(model: &M, x: &Tensor) -> Result<Summary> {
    recorded(model.store(), x, &|x| model.run(x))
}

/// Stops recording however a forward pass ends.
struct Recording;

impl Drop for Recording {
    fn drop(&mut self) {
        CALLS.set(None);
    }
}

fn recorded(store: &Store, x: &Tensor, run: &dyn Fn(&Tensor) -> Tensor) -> Result<Summary> {
    let training = store.mode.training();
    store.set_training(false);
    CALLS.set(Some(Vec::new()));
    let recording = Recording;
    let output = guarded(|| {
        let _guard = tch::no_grad_guard();
        Ok(run(x))
    });
    let calls = CALLS.take().unwrap_or_default();
    drop(recording);
    store.set_training(training);
    let output = output.map_err(|error| error.at(&format!("summary of an input {:?}", x.size())))?;
    let parameters = store.parameters();
    let count = |within: &str| -> u64 {
        let inner = parameters.iter().filter(|(name, _)| name.starts_with(within));
        inner.map(|(_, tensor)| tensor.numel() as u64).sum()
    };
    // Tied weights lie at one place under two names: the first in the tree is the layer's.
    let named: Vec<(usize, String)> = store
        .state_dict()
        .into_iter()
        .map(|(name, tensor)| {
            (
                tensor.data_ptr() as usize,
                name.rsplit_once('.').map_or("", |(layer, _)| layer).to_owned(),
            )
        })
        .collect();
    let layer_of = |call: &Call| {
        named
            .iter()
            .find(|(place, _)| *place == call.weight)
            .map(|(_, layer)| layer.as_str())
    };
    let all = rows(store, &count);
    let layer = |row: &Row| {
        let within = format!("{}.", row.name);
        let mine = |layer: &str| layer == row.name || layer.starts_with(&within);
        let calls_within = || calls.iter().filter(|call| layer_of(call).is_some_and(mine));
        let mut own = calls.iter().filter(|call| layer_of(call) == Some(row.name.as_str()));
        LayerSummary {
            name: row.name.clone(),
            class: row.class.clone(),
            output: own.next_back().map(|call| call.output.clone()).unwrap_or_default(),
            parameters: row.parameters,
            multiply_adds: calls_within().map(|call| call.multiply_adds).sum(),
        }
    };
    let numbers = |fits: &dyn Fn(&Tensor) -> bool| -> u64 {
        let of = parameters.iter().filter(|(_, tensor)| fits(tensor));
        of.map(|(_, tensor)| tensor.numel() as u64).sum()
    };
    Ok(Summary {
        layers: all.iter().map(layer).collect(),
        input: x.size(),
        output: output.size(),
        parameters: numbers(&|_| true),
        trained: numbers(&|tensor| tensor.requires_grad()),
        bytes: parameters
            .iter()
            .map(|(_, tensor)| (tensor.numel() * tensor.kind().elt_size_in_bytes()) as u64)
            .sum(),
        multiply_adds: calls.iter().map(|call| call.multiply_adds).sum(),
    })
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |value: u64| match value {
            0 => "—".to_owned(),
            value => grouped(value as f64, 0),
        };
        let shape = |shape: &[i64]| {
            if shape.is_empty() {
                "—".to_owned()
            } else {
                format!("{shape:?}")
            }
        };
        let mut table = vec![["Layer", "Type", "Output", "Params", "Mult-adds"].map(str::to_owned)];
        for layer in &self.layers {
            table.push([
                layer.name.clone(),
                layer.class.clone(),
                shape(&layer.output),
                number(layer.parameters),
                number(layer.multiply_adds),
            ]);
        }
        let width = |column: usize| table.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: [usize; 5] = std::array::from_fn(width);
        for (at, row) in table.iter().enumerate() {
            let [w0, w1, w2, w3, w4] = widths;
            writeln!(
                f,
                "{:w0$}  {:w1$}  {:w2$}  {:>w3$}  {:>w4$}",
                row[0], row[1], row[2], row[3], row[4]
            )?;
            if at == 0 {
                writeln!(f, "{}", "─".repeat(widths.iter().sum::<usize>() + 8))?;
            }
        }
        writeln!(f, "{}", "─".repeat(widths.iter().sum::<usize>() + 8))?;
        writeln!(f, "input {:?}, output {:?}", self.input, self.output)?;
        writeln!(
            f,
            "{} parameters, {} of them trained, {} MB",
            grouped(self.parameters as f64, 0),
            grouped(self.trained as f64, 0),
            grouped(self.bytes as f64 * 1e-6, 2)
        )?;
        write!(f, "{} multiply-adds", grouped(self.multiply_adds as f64, 0))
    }
}

impl fmt::Debug for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::{Linear, RecurrentConfig, embedding, linear, multihead_attention};
    use crate::models::{mobilenet_v2, resnet18, resnet50, vit_b_16};
    use crate::path::Path;
    use crate::{HParams, Step};
    use tch::Device;

    fn of<N: tch::nn::Module>(make: impl FnOnce(Path) -> N) -> Summary {
        let store = Store::new(Device::Cpu);
        let net = make(store.root());
        summary(&(&store, &net), [1, 3, 224, 224]).unwrap()
    }

    /// torchvision's documentation: parameters, and GFLOPS, which are multiply-adds, of its weights' pages.
    #[test]
    fn models_have_the_numbers_that_torchvision_gives() {
        // Its layers draw from libtorch\'s generator.
        let _turn = crate::tests::in_turn();
        let numbers = |summary: &Summary| {
            (
                summary.parameters,
                format!("{:.2}", summary.multiply_adds as f64 * 1e-9),
            )
        };
        assert_eq!(numbers(&of(|p| resnet18(p, 1000))), (11_689_512, "1.81".into()));
        assert_eq!(numbers(&of(|p| resnet50(p, 1000))), (25_557_032, "4.09".into()));
        assert_eq!(numbers(&of(|p| mobilenet_v2(p, 1000))), (3_504_872, "0.30".into()));
        assert_eq!(numbers(&of(|p| vit_b_16(p, 1000))), (86_567_656, "17.56".into()));
    }

    #[test]
    fn layers_have_shapes_and_those_that_hold_them_sums() {
        // Its layers draw from libtorch\'s generator.
        let _turn = crate::tests::in_turn();
        let summary = of(|p| resnet18(p, 1000));
        let layer = |name: &str| summary.layers.iter().find(|layer| layer.name == name).unwrap().clone();
        assert_eq!(layer("conv1").output, [1, 64, 112, 112]);
        assert_eq!(layer("conv1").multiply_adds, 64 * 112 * 112 * 3 * 49);
        assert_eq!(layer("bn1").output, [1, 64, 112, 112]);
        assert_eq!(
            (layer("fc").output, layer("fc").multiply_adds),
            (vec![1, 1000], 512_000)
        );
        let inner: u64 = ["layer1.0", "layer1.1"]
            .iter()
            .map(|name| layer(name).multiply_adds)
            .sum();
        assert_eq!(layer("layer1").multiply_adds, inner);
        let text = summary.to_string();
        assert!(
            text.contains("11,689,512 parameters, 11,689,512 of them trained, 46.76 MB"),
            "{text}"
        );
    }

    #[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
    struct Hp {}
    struct Own {
        first: Linear,
        again: Linear,
    }
    impl LightningModule for Own {
        type HParams = Hp;
        type Batch = (Tensor, Tensor);
        fn new(p: &Path, _: &Hp) -> Own {
            Own {
                first: linear(p / "first", 4, 6),
                again: linear(p / "again", 6, 6),
            }
        }
        fn forward(&self, x: &Tensor) -> Tensor {
            self.again.forward(&self.again.forward(&self.first.forward(x)).relu())
        }
        fn training_step(&mut self, (x, _): &Self::Batch, _: &mut Step) -> Result<Tensor> {
            Ok(self.forward(x).mean(TKind::Float))
        }
    }

    #[test]
    fn a_users_model_is_counted_by_its_calls_and_a_wrong_shape_is_an_error() {
        // Its layers draw from libtorch\'s generator.
        let _turn = crate::tests::in_turn();
        fn made<T: HParams>() -> T {
            T::default()
        }
        let fit = Own::build(made()).unwrap();
        let found = summary(&fit, [10, 4]).unwrap();
        assert_eq!((found.layers.len(), found.output.clone()), (2, vec![10, 6]));
        assert_eq!(found.layers[1].multiply_adds, 2 * 10 * 6 * 6);
        assert_eq!(found.multiply_adds, 10 * 4 * 6 + 720);
        let error = summary(&fit, [10, 5]).unwrap_err().to_string();
        assert!(error.starts_with("summary of an input [10, 5]: "), "{error}");
        assert!(CALLS.with_borrow(Option::is_none));
        assert!(summary(&fit, [0, 4]).is_err());
    }

    #[test]
    fn tokens_attention_and_recurrence_count() {
        // Its layers draw from libtorch\'s generator.
        let _turn = crate::tests::in_turn();
        struct Words(crate::Embedding, crate::MultiheadAttention, crate::LSTM);
        impl fmt::Debug for Words {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("Words")
            }
        }
        impl tch::nn::Module for Words {
            fn forward(&self, x: &Tensor) -> Tensor {
                let x = self.0.forward(x);
                self.2.forward(&self.1.forward(&x, &x, &x)).0
            }
        }
        let store = Store::new(Device::Cpu);
        let p = store.root();
        let net = Words(
            embedding(&p / "words", 10, 8),
            multihead_attention(&p / "attention", 8, 2),
            RecurrentConfig::new(8, 5).lstm(&p / "memory"),
        );
        // time 7, batch 3
        let found = summary(&(&store, &net), [7, 3]).unwrap();
        assert_eq!(found.output, [7, 3, 5]);
        let attention = 21 * 8 * 24 + 2 * 3 * 7 * 7 * 8 + 21 * 8 * 8;
        let memory = 21 * (20 * 8 + 20 * 5);
        let sums: Vec<u64> = found.layers.iter().map(|layer| layer.multiply_adds).collect();
        assert_eq!(sums[0], 0);
        assert!(sums.contains(&attention) && sums.contains(&memory), "{found}");
        assert_eq!(found.multiply_adds, attention + memory);
    }
}
