//! What optimizers remember: by number in PyTorch's files, by name here.

use super::torch_file::{Reader, Writer};
use crate::error::{Error, Kind, Result};
use crate::optim::{Algorithm, Optimizer};
use lightcell_pickle::Value;
use std::collections::HashMap;
use tch::Tensor;

/// An optimizer as PyTorch's `state_dict` has it.
///
/// # Errors
/// With L-BFGS, which PyTorch keeps in another form.
pub(super) fn to_python(optimizer: &Optimizer, writer: &mut Writer) -> Result<Value> {
    if matches!(optimizer.algorithm(), Algorithm::Lbfgs(_)) {
        return Err(Error::new(
            Kind::Option,
            "the state of LBFGS cannot be written for PyTorch: it is kept in another form there",
        ));
    }
    let groups: Vec<_> = optimizer.members_by_group();
    let groups = groups.into_iter().filter(|group| !group.names.is_empty());
    let mut number = HashMap::new();
    let mut written = Vec::new();
    for group in groups {
        let first = number.len();
        for name in &group.names {
            number.insert(name.clone(), number.len());
        }
        let numbers = (first..number.len()).map(|n| Value::Int(n as i64)).collect();
        let mut entries = vec![("lr", Value::Float(group.lr))];
        entries.extend(settings(optimizer.algorithm()));
        entries.push(("weight_decay", Value::Float(group.weight_decay)));
        if group.scheduled {
            entries.push(("initial_lr", Value::Float(group.initial_lr)));
        }
        entries.push(("params", Value::List(numbers)));
        written.push(Value::dict(entries));
    }
    let mut states: Vec<Vec<(String, Value)>> = (0..number.len()).map(|_| Vec::new()).collect();
    for (name, tensor) in optimizer.state() {
        let Some((parameter, slot)) = name.rsplit_once('.') else {
            continue;
        };
        if let Some(at) = number.get(parameter) {
            states[*at].push((slot.to_owned(), writer.tensor(&name, &tensor)?));
        }
    }
    let states = states.into_iter().enumerate();
    let states = states.filter(|(_, state)| !state.is_empty());
    let states = states.map(|(at, state)| (Value::Int(at as i64), Value::dict(state)));
    Ok(Value::dict([
        ("state", Value::Dict(states.collect())),
        ("param_groups", Value::List(written)),
    ]))
}

/// What else PyTorch keeps in a group, with its own defaults for what we do not have.
fn settings(algorithm: Algorithm) -> Vec<(&'static str, Value)> {
    let (yes, no, float) = (Value::Bool(true), Value::Bool(false), Value::Float);
    let mut list = match algorithm {
        Algorithm::Sgd {
            momentum,
            dampening,
            nesterov,
        } => vec![
            ("momentum", float(momentum)),
            ("dampening", float(dampening)),
            ("nesterov", Value::Bool(nesterov)),
        ],
        Algorithm::Adam {
            decoupled,
            betas,
            eps,
            amsgrad,
        } => vec![
            ("betas", Value::Tuple(vec![float(betas.0), float(betas.1)])),
            ("eps", float(eps)),
            ("amsgrad", Value::Bool(amsgrad)),
            ("capturable", no.clone()),
            ("decoupled_weight_decay", if decoupled { yes } else { no.clone() }),
        ],
        Algorithm::RmsProp {
            alpha,
            eps,
            momentum,
            centered,
        } => vec![
            ("alpha", float(alpha)),
            ("eps", float(eps)),
            ("momentum", float(momentum)),
            ("centered", Value::Bool(centered)),
            ("capturable", no.clone()),
        ],
        Algorithm::Adagrad {
            lr_decay,
            initial_accumulator_value,
            eps,
        } => vec![
            ("lr_decay", float(lr_decay)),
            ("initial_accumulator_value", float(initial_accumulator_value)),
            ("eps", float(eps)),
        ],
        Algorithm::Lbfgs(_) => Vec::new(),
    };
    list.extend([
        ("maximize", no.clone()),
        ("foreach", Value::None),
        ("differentiable", no),
        ("fused", Value::None),
    ]);
    list
}

/// The state under our names: `l1.weight.exp_avg`. `order` is that of the parameters in the file's model.
///
/// # Errors
/// When its groups are not those of our optimizer, or it is not whole.
pub(super) fn from_python(
    state: &Value,
    optimizer: &Optimizer,
    order: &[String],
    reader: &mut Reader,
) -> Result<Vec<(String, Tensor)>> {
    let fault = |text: String| Error::new(Kind::Data, text).hint("write the optimizer with the same parameter groups");
    let groups = state.get("param_groups").and_then(Value::items).unwrap_or_default();
    let numbers: Vec<Vec<u64>> = groups
        .iter()
        .map(|group| {
            let numbers = group.get("params").and_then(Value::items).unwrap_or_default();
            numbers.iter().filter_map(Value::as_u64).collect()
        })
        .collect();
    let mut ours: Vec<Vec<String>> = optimizer
        .members_by_group()
        .into_iter()
        .map(|group| group.names)
        .collect();
    ours.retain(|names| !names.is_empty());
    // One group in the order of its own model, which may be another than that in which ours was made.
    if let ([all], [names]) = (&numbers[..], &mut ours[..]) {
        let trained = optimizer.trained_names();
        let within =
            |list: &[String]| -> Vec<String> { order.iter().filter(|name| list.contains(name)).cloned().collect() };
        *names = if all.len() == names.len() {
            within(names)
        } else {
            within(&trained)
        };
    }
    let lengths = |list: Vec<usize>| list.iter().map(usize::to_string).collect::<Vec<_>>().join(" and ");
    if numbers.iter().map(Vec::len).ne(ours.iter().map(Vec::len)) {
        let (theirs, here) = (
            lengths(numbers.iter().map(Vec::len).collect()),
            lengths(ours.iter().map(Vec::len).collect()),
        );
        return Err(fault(format!(
            "its optimizer has groups of {theirs} parameters, and ours of {here}"
        )));
    }
    let names: HashMap<u64, &String> = numbers.iter().flatten().copied().zip(ours.iter().flatten()).collect();
    let mut named = Vec::new();
    for (number, slots) in state.get("state").and_then(Value::entries).unwrap_or_default() {
        let Some(name) = number.as_u64().and_then(|number| names.get(&number)) else {
            return Err(fault(
                "its optimizer remembers a parameter that is in none of its groups".to_owned(),
            ));
        };
        for (slot, value) in slots.entries().unwrap_or_default() {
            let slot = slot.as_str().unwrap_or_default();
            let tensor = match value {
                Value::None => continue,
                Value::Tensor(described) => reader.tensor(described)?,
                other => match other.as_f64() {
                    Some(number) => Tensor::from(number as f32),
                    None => return Err(fault(format!("{name}.{slot} is {}, not a tensor", other.kind()))),
                },
            };
            named.push((format!("{name}.{slot}"), tensor));
        }
    }
    Ok(named)
}
