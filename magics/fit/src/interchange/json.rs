//! Hyperparameters: JSON here, objects of Python's there.

use lightcell_pickle::Value;
use serde_json::{Map, Number, json};

/// As Python has it.
pub(crate) fn to_python(value: &serde_json::Value) -> Value {
    match value {
        serde_json::Value::Null => Value::None,
        serde_json::Value::Bool(truth) => Value::Bool(*truth),
        serde_json::Value::Number(number) => match number.as_i64() {
            Some(whole) => Value::Int(whole),
            None => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        serde_json::Value::String(text) => Value::text(text),
        serde_json::Value::Array(items) => Value::List(items.iter().map(to_python).collect()),
        serde_json::Value::Object(entries) => Value::dict(entries.iter().map(|(name, value)| (name, to_python(value)))),
    }
}

/// As JSON; what it has no word for, such as a tensor, is `null`.
pub(crate) fn from_python(value: &Value) -> serde_json::Value {
    match value {
        Value::Bool(truth) => json!(truth),
        Value::Int(number) => json!(number),
        Value::Float(number) => Number::from_f64(*number).map_or(serde_json::Value::Null, Into::into),
        Value::Str(text) => json!(&**text),
        Value::List(items) | Value::Tuple(items) | Value::Set(items) => items.iter().map(from_python).collect(),
        Value::Dict(entries) => {
            let named = entries.iter().filter_map(|(name, value)| {
                let name = name.as_str()?.to_owned();
                Some((name, from_python(value)))
            });
            named.collect::<Map<_, _>>().into()
        }
        Value::DType(dtype) => json!(dtype.name()),
        _ => serde_json::Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hyperparameters_go_round() {
        let hparams =
            json!({ "hidden": 16, "lr": 0.1, "name": "a", "sizes": [1, 2], "deep": { "on": true, "none": null } });
        assert_eq!(from_python(&to_python(&hparams)), hparams);
        assert_eq!(to_python(&json!(3)), Value::Int(3));
        assert_eq!(to_python(&json!(3.0)), Value::Float(3.0));
    }
}
