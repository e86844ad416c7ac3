//! Tensors by name: what a file of weights holds, and what a model takes.

use crate::checkpoint::file;
use crate::error::{Error, Kind, Result};
use crate::interchange::torch_file;
use crate::optim::name_fits;
use crate::path::{Path, Store};
use std::collections::BTreeMap;
use tch::Tensor;

/// Parameters and buffers by their names, from a file or a model: PyTorch's `state_dict`.
///
/// Names are changed and left out before a model takes them, so that weights fit a model with another last layer, or one that
/// is part of a larger one:
///
/// ```
/// use lightcell::prelude::*;
/// use lightcell::models::lenet;
/// # let path = std::env::temp_dir().join(format!("lightcell-doc-dict-{}.pt", std::process::id()));
/// // Somebody's network of 10 classes, saved under PyTorch's names …
/// let theirs = Store::new(Device::Cpu);
/// let _ = lenet(theirs.root(), 10);
/// theirs.save_weights(&path)?;
/// // … gives its weights to ours of 3 classes, all but the last layer's.
/// let store = Store::new(Device::Cpu);
/// let net = lenet(store.root() / "backbone", 3);
/// let weights = StateDict::load(&path)?.with_prefix("backbone.");
/// store.load_state_dict_except(&weights, "backbone.fc3.*")?;
/// assert_eq!(&net.conv1.weight, weights.get("backbone.conv1.weight").unwrap());
/// # std::fs::remove_file(&path)?;
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, Default)]
pub struct StateDict(pub(crate) Vec<(String, Tensor)>);

impl StateDict {
    /// Reads a file's tensors onto the CPU: safetensors, a checkpoint of ours, a `state_dict` of `torch.save`, or a
    /// checkpoint of Lightning's, whose `state_dict` it takes. What a file is, is seen from its bytes. Nothing that a file
    /// says is run.
    ///
    /// # Errors
    /// When the file cannot be read, is damaged, or holds something else.
    pub fn load(path: impl AsRef<std::path::Path>) -> Result<StateDict> {
        let path = path.as_ref();
        if torch_file::is_one(path)? {
            return torch_file::state_dict(path, None).map(StateDict);
        }
        let mut tensors = file::read_tensors(path)?;
        if file::read_metadata(path)?.contains_key("lightcell") {
            tensors.retain_mut(|(name, _)| match name.strip_prefix("model.") {
                Some(rest) => {
                    *name = rest.to_owned();
                    true
                }
                None => false,
            });
        }
        Ok(StateDict(tensors))
    }

    /// Reads the `state_dict` that a file of `torch.save` keeps under a name of its own, `model` or `ema` for example.
    ///
    /// # Errors
    /// As [`load`](StateDict::load), and when there is nothing of this name.
    pub fn load_entry(path: impl AsRef<std::path::Path>, entry: &str) -> Result<StateDict> {
        torch_file::state_dict(path.as_ref(), Some(entry)).map(StateDict)
    }

    /// Writes them: for `torch.load` when the file's name ends in `.pt`, `.pth` or `.bin`, as safetensors otherwise.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: impl AsRef<std::path::Path>) -> Result<()> {
        let path = path.as_ref();
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("pt" | "pth" | "bin") => torch_file::save(path, &self.0),
            _ => file::write(path, &self.0, &Default::default()),
        }
    }

    /// Names and tensors, in the file's order or the model's.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.0.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The tensor of this name.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, tensor)| tensor)
    }

    /// Only those whose names fit a pattern, in which `*` stands for any characters.
    #[must_use]
    pub fn only(mut self, pattern: &str) -> StateDict {
        self.0.retain(|(name, _)| name_fits(pattern, name));
        self
    }

    /// All but those whose names fit a pattern.
    #[must_use]
    pub fn without(mut self, pattern: &str) -> StateDict {
        self.0.retain(|(name, _)| !name_fits(pattern, name));
        self
    }

    /// Puts something before each name: `backbone.`
    #[must_use]
    pub fn with_prefix(mut self, prefix: &str) -> StateDict {
        for (name, _) in &mut self.0 {
            name.insert_str(0, prefix);
        }
        self
    }

    /// Takes away what stands before a name, and leaves out names without it.
    #[must_use]
    pub fn strip_prefix(mut self, prefix: &str) -> StateDict {
        self.0.retain_mut(|(name, _)| match name.strip_prefix(prefix) {
            Some(rest) => {
                *name = rest.to_owned();
                true
            }
            None => false,
        });
        self
    }
}

impl Store {
    /// Takes the values of all parameters and buffers.
    ///
    /// # Errors
    /// When names are missing, not expected or of another shape: all are named, and nothing is changed.
    pub fn load_state_dict(&self, weights: &StateDict) -> Result<()> {
        load(self, "", &weights.0, None)
    }

    /// The same, but parameters and buffers whose names fit a pattern keep their values, whatever is given for them: for a
    /// new last layer.
    ///
    /// # Errors
    /// As [`load_state_dict`](Store::load_state_dict), for all others.
    pub fn load_state_dict_except(&self, weights: &StateDict, pattern: &str) -> Result<()> {
        load(self, "", &weights.0, Some(pattern))
    }

    /// Writes parameters and buffers under PyTorch's names; see [`StateDict::save`].
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save_weights(&self, path: impl AsRef<std::path::Path>) -> Result<()> {
        StateDict(in_order(self)).save(path)
    }
}

impl Path<'_> {
    /// Gives what is made below this path its values, within [`LightningModule::new`](crate::LightningModule::new) for
    /// example: names are those below the path. What fits the pattern, if there is one, keeps its values.
    ///
    /// ```
    /// use lightcell::prelude::*;
    /// use lightcell::models::{ResNet, resnet18};
    /// # hparams! { Hp { weights: String = String::new(), classes: i64 = 3 } }
    /// struct Net(ResNet);
    /// # impl LightningModule for Net {
    /// #     type HParams = Hp;
    /// #     type Batch = (Tensor, Tensor);
    /// fn new(p: &Path, hp: &Hp) -> Net {
    ///     let net = Net(resnet18(p / "net", hp.classes));
    ///     if !hp.weights.is_empty() {
    ///         // A fault ends the run before it begins, and is said then.
    ///         (p / "net").load_weights(&hp.weights, Some("fc.*"));
    ///     }
    ///     p.freeze("net.layer*");
    ///     net
    /// }
    /// #     fn forward(&self, x: &Tensor) -> Tensor { self.0.forward(x) }
    /// #     fn training_step(&mut self, (x, y): &Self::Batch, _: &mut Step) -> Result<Tensor> { Ok(self.forward(x).cross_entropy_for_logits(y)) }
    /// # }
    /// # let missing = Hp { weights: "none.pt".to_owned(), ..Hp::default() };
    /// # assert!(Net::build(missing).unwrap_err().to_string().contains("none.pt"));
    /// # assert!(Net::build(Hp::default()).is_ok());
    /// ```
    pub fn load_weights(&self, path: impl AsRef<std::path::Path>, except: Option<&str>) {
        let path = path.as_ref();
        let loaded = StateDict::load(path).and_then(|weights| {
            self.load_within(&weights.0, except)
                .map_err(|error| not_fitting(path, error))
        });
        if let Err(error) = loaded {
            self.fault(error);
        }
    }
}

/// A model's parameters in the order in which they were made, then its buffers by name.
pub(crate) fn in_order(store: &Store) -> Vec<(String, Tensor)> {
    let mut all = store.parameters();
    let rest = store.state_dict().into_iter();
    let rest: Vec<_> = rest
        .filter(|(name, _)| all.iter().all(|(other, _)| other != name))
        .collect();
    all.extend(rest);
    all
}

pub(crate) fn not_fitting(path: &std::path::Path, error: Error) -> Error {
    error.at(&format!("{} does not fit", path.display()))
}

/// Copies what is given to what is registered below a prefix, but not to what fits the pattern.
pub(crate) fn load(store: &Store, prefix: &str, given: &[(String, Tensor)], except: Option<&str>) -> Result<()> {
    let kept = |name: &str| except.is_some_and(|pattern| name_fits(pattern, name));
    let ours = store.state_dict().into_iter().filter_map(|(name, tensor)| {
        let rest = name.strip_prefix(prefix)?;
        (!kept(rest)).then(|| (rest.to_owned(), tensor))
    });
    let mut ours: BTreeMap<String, Tensor> = ours.collect();
    let theirs = given.iter().filter(|(name, _)| !kept(name));
    let theirs: BTreeMap<&str, &Tensor> = theirs.map(|(name, tensor)| (name.as_str(), tensor)).collect();
    compare(&ours, &theirs)?;
    let _guard = tch::no_grad_guard();
    for (name, tensor) in theirs {
        if let Some(place) = ours.get_mut(name) {
            place.f_copy_(tensor)?;
        }
    }
    Ok(())
}

/// Names all tensors that are missing, not expected, or of another shape.
pub(crate) fn compare(ours: &BTreeMap<String, Tensor>, theirs: &BTreeMap<&str, &Tensor>) -> Result<()> {
    let mut faults = Vec::new();
    let mut say = |what: &str, names: Vec<String>| {
        if !names.is_empty() {
            faults.push(format!("{what}: {}", names.join(", ")));
        }
    };
    let missing = ours.keys().filter(|name| !theirs.contains_key(name.as_str()));
    say("missing", missing.cloned().collect());
    let unexpected = theirs.keys().filter(|name| !ours.contains_key(**name));
    say("unexpected", unexpected.map(|name| (*name).to_owned()).collect());
    let other = ours.iter().filter_map(|(name, tensor)| {
        let given = theirs.get(name.as_str())?;
        let (here, there) = (tensor.size(), given.size());
        (here != there).then(|| format!("{name} ({there:?} in the file, {here:?} in the model)"))
    });
    say("of another shape", other.collect());
    if faults.is_empty() {
        return Ok(());
    }
    Err(Error::new(Kind::Data, faults.join("; "))
        .hint("make the model with the code and hyperparameters that it was trained with"))
}
