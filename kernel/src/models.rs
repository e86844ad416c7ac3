//! Magics for models (`%fit`, `%test`, `%lr_find` and their like): the Rust that they become, and errors about it in the
//! user's words.

use crate::engine::Diagnostic;
use crate::magic::{report, wrong_in};
use crate::report::{Cell, Report};
use lightcell_magics::{FitCall, FitOptions, MagicError, ModelCall, Subject, Work, nearest};

/// Functions of the training library that magics become.
const NOTEBOOK: &str = "lightcell::notebook";

/// What MODEL is, found among the session's names.
#[derive(Debug, PartialEq, Eq)]
enum Model<'a> {
    /// A type.
    Type,
    /// A variable that holds a run of this type.
    Run(&'a str),
}

/// The Rust that `%fit` becomes.
///
/// # Errors
/// When there is no such model or variable.
pub fn fit_code(
    fit: &FitCall,
    variables: &[(String, String)],
    items: &[String],
    go_on: bool,
) -> Result<String, MagicError> {
    let model = find_model(&fit.subject, variables, items)?;
    check_data(&fit.subject, variables)?;
    let (data, options) = (&fit.subject.data, text(&fit.options));
    Ok(match model {
        Model::Run(name) => format!("let mut fit = {NOTEBOOK}::go_on({name}, &({data}), {options})?;"),
        Model::Type => {
            let model = &fit.subject.model;
            let previous = if go_on && is_run_of(variables, model) {
                "Some(fit)"
            } else {
                "None"
            };
            format!("let mut fit = {NOTEBOOK}::fit::<{model}, _>(&({data}), {options}, {previous})?;")
        }
    })
}

/// Whether a run of `%fit` may take any device: nothing names one, and no run goes on, which stays where it is.
pub fn begins_anew(fit: &FitCall, variables: &[(String, String)]) -> bool {
    let is = |name: &str, value: serde_json::Value| fit.options.get(name) == Some(&value);
    let model = fit.subject.model.as_str();
    let goes_on = is_run_of(variables, model) || variables.iter().any(|(name, _)| name == model);
    is("accelerator", "auto".into()) && (!goes_on || is("restart", true.into()))
}

/// Settings as a text in Rust.
fn text(options: &FitOptions) -> String {
    format!("{:?}", serde_json::to_string(options).unwrap_or_default())
}

/// Whether the variable `fit` holds a run of this model.
fn is_run_of(variables: &[(String, String)], model: &str) -> bool {
    variables.iter().any(|(name, kind)| name == "fit" && holds(kind, model))
}

/// The Rust that another magic for a model becomes. With a type and without `known`, the run in `fit` is left alone.
///
/// # Errors
/// When there is no such model, run or variable.
pub fn model_code(
    call: &ModelCall,
    variables: &[(String, String)],
    items: &[String],
    known: bool,
) -> Result<String, MagicError> {
    let subject = &call.subject;
    let run = match find_model(subject, variables, items)? {
        Model::Run(name) => Some(name),
        Model::Type if known && !call.restart && is_run_of(variables, &subject.model) => Some("fit"),
        Model::Type => None,
    };
    check_data(subject, variables)?;
    let (model, data) = (&subject.model, &subject.data);
    let (trainer, search) = (text(&call.trainer), text(&call.search));
    let (result, function) = match call.work {
        Work::Validate => ("validate_results", "validate"),
        Work::Test => ("test_results", "test"),
        Work::Predict => ("predictions", "predict"),
        Work::LrFind => ("lr_finder", "lr_find"),
        Work::ScaleBatchSize => ("batch_size", "scale_batch_size"),
    };
    let arguments = match call.work {
        Work::Validate | Work::Test | Work::Predict => format!("&({data}), {trainer}"),
        Work::LrFind => format!("&({data}), {trainer}, {search}"),
        Work::ScaleBatchSize => format!("|size| ({data}).clone().batch_size(size), {trainer}, {search}"),
    };
    let made = format!("let mut made = {NOTEBOOK}::build::<{model}>({trainer})?;");
    Ok(match (run, call.work) {
        (Some(run), _) => format!("let {result} = {NOTEBOOK}::{function}(&mut {run}, {arguments})?;"),
        // One statement: when the search fails, there is no `fit` either.
        (None, Work::LrFind | Work::ScaleBatchSize) => format!(
            "let (mut fit, {result}) = {{ {made} let found = {NOTEBOOK}::{function}(&mut made, {arguments})?; (made, found) }};"
        ),
        (None, _) if names_a_file(call) => {
            format!("let {result} = {{ {made} {NOTEBOOK}::{function}(&mut made, {arguments})? }};")
        }
        (None, _) => {
            let hint = format!("`%fit {model} {data}` makes one; or name a checkpoint: `--ckpt-path PATH`");
            return Err(wrong(
                subject,
                model,
                format!("there is no run of `{model}`"),
                Some(hint),
            ));
        }
    })
}

/// Whether the parameters come from a file that the user names.
fn names_a_file(call: &ModelCall) -> bool {
    let path = call.trainer.get("ckpt_path").and_then(serde_json::Value::as_str);
    path.is_some_and(|path| path != "best" && path != "last")
}

/// What is said when a search has found something: how to use it.
pub fn how_to_use(call: &ModelCall, suggestion: Option<(f64, Option<String>)>) -> Option<String> {
    let subject = &call.subject;
    let is_name = |text: &str| text.chars().all(|c| c.is_alphanumeric() || c == '_');
    let run = match subject.model.starts_with(|c: char| c.is_lowercase()) && is_name(&subject.model) {
        true => subject.model.as_str(),
        false => "fit",
    };
    match (call.work, suggestion) {
        (Work::LrFind, Some((lr, Some(attribute)))) => Some(format!(
            "suggested learning rate {lr:.2e}: `{attribute}` of `{run}` is set to it, and `%fit {} {}` trains with it\n",
            subject.model, subject.data
        )),
        (Work::LrFind, Some((lr, None))) => Some(format!(
            "suggested learning rate {lr:.2e}: nothing was changed, `lr_finder.suggestion()` has it\n"
        )),
        (Work::ScaleBatchSize, _) if is_name(&subject.data) => Some(format!(
            "`batch_size` has the size: `let {0} = {0}.batch_size(batch_size);` sets it\n",
            subject.data
        )),
        (Work::ScaleBatchSize, _) => Some("`batch_size` has the size\n".to_owned()),
        _ => None,
    }
}

/// Whether a type as evcxr names it is a run of this model.
fn holds(kind: &str, model: &str) -> bool {
    let plain = |text: &str| text.rsplit("::").next().unwrap_or(text).trim().to_owned();
    kind.split_once("Fit<")
        .and_then(|(_, rest)| rest.strip_suffix('>'))
        .is_some_and(|inner| plain(inner) == plain(model))
}

fn find_model<'a>(fit: &'a Subject, variables: &[(String, String)], items: &[String]) -> Result<Model<'a>, MagicError> {
    let name = fit.model.as_str();
    // A path or a type with parameters: the compiler knows.
    if !name.chars().all(|c| c.is_alphanumeric() || c == '_') || items.iter().any(|item| item == name) {
        return Ok(Model::Type);
    }
    if let Some((_, kind)) = variables.iter().find(|(variable, _)| variable == name) {
        if kind.contains("Fit<") {
            return Ok(Model::Run(name));
        }
        return Err(wrong(
            fit,
            name,
            format!("`{name}` is a {kind}, no model"),
            Some("MODEL is a type that implements LightningModule, or a run that %fit left".into()),
        ));
    }
    let types = items
        .iter()
        .map(String::as_str)
        .filter(|item| item.starts_with(char::is_uppercase));
    let known = types.chain(
        variables
            .iter()
            .filter(|(_, kind)| kind.contains("Fit<"))
            .map(|(name, _)| name.as_str()),
    );
    let hint = match nearest(name, known) {
        Some(close) => format!("did you mean {close}?"),
        None => "define it in a cell: `struct Net { … }` and `impl LightningModule for Net { … }`".to_owned(),
    };
    Err(wrong(fit, name, format!("there is no model `{name}`"), Some(hint)))
}

fn check_data(fit: &Subject, variables: &[(String, String)]) -> Result<(), MagicError> {
    let name = fit.data.as_str();
    let is_name = name.chars().all(|c| c.is_alphanumeric() || c == '_')
        && name.starts_with(|c: char| c.is_lowercase() || c == '_');
    if !is_name || variables.iter().any(|(variable, _)| variable == name) {
        return Ok(());
    }
    let hint =
        nearest(name, variables.iter().map(|(name, _)| name.as_str())).map(|close| format!("did you mean {close}?"));
    Err(wrong(
        fit,
        name,
        format!("there is no variable `{name}`"),
        hint.or_else(|| Some("make it in a cell: `let data = Data::new(…);`".into())),
    ))
}

fn wrong(fit: &Subject, word: &str, message: String, hint: Option<String>) -> MagicError {
    wrong_in(fit.line, &fit.text, word, message, hint)
}

/// Errors of the compiler in the generated lines, in the user's words.
pub fn explain(subject: &Subject, errors: &[Diagnostic], cell: Cell) -> Report {
    let all: Vec<&str> = errors.iter().map(|error| error.message.as_str()).collect();
    let about = |text: &str| all.iter().any(|message| message.contains(text));
    let (word, message, hint) =
        if about(": LightningModule` is not satisfied") || about("LightningModule` is not implemented") {
            let hint = format!("write `impl LightningModule for {} {{ … }}` in a cell", subject.model);
            (
                subject.model.as_str(),
                format!("`{}` is no LightningModule", subject.model),
                hint,
            )
        } else if about(": DataModule` is not satisfied") || about("DataModule` is not implemented") {
            (
                subject.data.as_str(),
                match subject.magic.as_str() {
                    "fit" => format!("`{}` is nothing to train on: it is no DataModule", subject.data),
                    _ => format!("`{}` is no DataModule", subject.data),
                },
                "make it with `Data::new(TensorDataset::new(x, y)?)`".to_owned(),
            )
        } else if about("cannot borrow") && about("as mutable") {
            (
                subject.model.as_str(),
                format!("`{}` cannot be changed", subject.model),
                format!(
                    "declare it with `let mut {0} = …`, or `let mut {0} = {0};`",
                    subject.model
                ),
            )
        } else if about("no method named `batch_size`") || about("no method named `clone`") {
            (
                subject.data.as_str(),
                format!("`{}` has no batch size that can be set", subject.data),
                "`Data::new(TensorDataset::new(x, y)?)` has one".to_owned(),
            )
        } else if about("type mismatch resolving") {
            (
                subject.data.as_str(),
                format!("`{}` gives other batches than `{}` takes", subject.data, subject.model),
                "the model's `type Batch` and the data's must be the same".to_owned(),
            )
        } else {
            let first = errors.first().map(|error| error.message.clone()).unwrap_or_default();
            let hint = errors
                .first()
                .and_then(|error| error.helps.first().cloned())
                .unwrap_or_else(|| format!("%{}? shows its help", subject.magic));
            (subject.data.as_str(), first, hint)
        };
    let error = wrong(subject, word, message, Some(hint));
    report(&error, cell.count, cell.source)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::magic::{Piece, split};

    fn fit(line: &str) -> FitCall {
        match split(line).unwrap().remove(0) {
            Piece::Fit(fit) => fit,
            other => panic!("{other:?}"),
        }
    }

    fn names(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
    }

    #[test]
    fn fit_becomes_a_line_of_rust() {
        let items = ["Mlp".to_owned()];
        let data = names(&[("data", "lightcell::Data")]);
        let code = fit_code(&fit("%fit Mlp data --epochs 3"), &data, &items, true).unwrap();
        assert!(
            code.starts_with("let mut fit = lightcell::notebook::fit::<Mlp, _>(&(data), \"{\\\"accelerator"),
            "{code}"
        );
        assert!(code.contains("\\\"max_epochs\\\":3,"), "{code}");
        assert!(code.ends_with(", None)?;"), "{code}");
        let again = names(&[("data", "lightcell::Data"), ("fit", "lightcell::Fit<Mlp>")]);
        assert!(
            fit_code(&fit("%fit Mlp data"), &again, &items, true)
                .unwrap()
                .ends_with(", Some(fit))?;")
        );
        assert!(
            fit_code(&fit("%fit Mlp data"), &again, &items, false)
                .unwrap()
                .ends_with(", None)?;")
        );
        let other = names(&[("data", "D"), ("fit", "lightcell::Fit<Other>")]);
        assert!(
            fit_code(&fit("%fit Mlp data"), &other, &items, true)
                .unwrap()
                .ends_with(", None)?;")
        );
        assert!(
            fit_code(&fit("%fit fit data"), &again, &items, true)
                .unwrap()
                .contains("go_on(fit, &(data), ")
        );
        assert!(
            fit_code(&fit("%fit a::Net<f32> Data::new(x, 1)"), &[], &[], true)
                .unwrap()
                .contains("fit::<a::Net<f32>, _>(&(Data::new(x, 1))")
        );
    }

    #[test]
    fn what_is_not_there_is_said_with_the_closest_name() {
        let items = ["Mlp".to_owned()];
        let variables = names(&[("data", "D"), ("x", "i32")]);
        let error = |line: &str| fit_code(&fit(line), &variables, &items, true).unwrap_err();
        assert_eq!(
            error("%fit Mpl data").to_string(),
            "there is no model `Mpl`\nhint: did you mean Mlp?"
        );
        assert_eq!(
            error("%fit Mlp dta").to_string(),
            "there is no variable `dta`\nhint: did you mean data?"
        );
        assert_eq!(error("%fit x data").message, "`x` is a i32, no model");
        assert!(error("%fit Zzz data").hint.unwrap().starts_with("define it in a cell"));
        assert_eq!((error("%fit Mlp dta").column, error("%fit Mlp dta").width), (10, 3));
    }

    #[test]
    fn the_compilers_words_become_the_users() {
        let explained = |message: &str| {
            let error = Diagnostic {
                message: message.into(),
                ..Diagnostic::default()
            };
            explain(
                &fit("%fit Mlp data").subject,
                &[error],
                Cell {
                    count: 2,
                    source: "%fit Mlp data",
                },
            )
            .evalue
        };
        assert_eq!(
            explained("the trait bound `Mlp: LightningModule` is not satisfied"),
            "`Mlp` is no LightningModule"
        );
        assert_eq!(
            explained("the trait bound `Vec<i32>: DataModule` is not satisfied"),
            "`data` is nothing to train on: it is no DataModule"
        );
        assert_eq!(
            explained("type mismatch resolving `<X as DataModule>::Batch == Y`"),
            "`data` gives other batches than `Mlp` takes"
        );
        assert_eq!(explained("something else"), "something else");
    }

    fn model(line: &str) -> ModelCall {
        match split(line).unwrap().remove(0) {
            Piece::Model(call) => call,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn other_magics_for_models_become_a_line_too() {
        let items = ["Mlp".to_owned()];
        let data = names(&[("data", "lightcell::Data")]);
        let with = names(&[
            ("data", "lightcell::Data"),
            ("fit", "lightcell::Fit<Mlp>"),
            ("net", "lightcell::Fit<Mlp>"),
        ]);
        let code =
            |line: &str, variables: &[(String, String)]| model_code(&model(line), variables, &items, true).unwrap();
        assert_eq!(
            code("%test fit data", &with),
            "let test_results = lightcell::notebook::test(&mut fit, &(data), \"{}\")?;"
        );
        assert_eq!(
            code("%validate Mlp data --limit-val-batches 3", &with),
            "let validate_results = lightcell::notebook::validate(&mut fit, &(data), \"{\\\"limit_val_batches\\\":3}\")?;"
        );
        assert_eq!(
            code("%predict net Data::new(a, b)", &with),
            "let predictions = lightcell::notebook::predict(&mut net, &(Data::new(a, b)), \"{}\")?;"
        );
        let made = code("%test Mlp data --ckpt-path a.safetensors", &data);
        assert!(
            made.starts_with("let test_results = { let mut made = lightcell::notebook::build::<Mlp>(\"{\\\"ckpt_path"),
            "{made}"
        );
        assert_eq!(
            code("%lr_find Mlp data", &data),
            "let (mut fit, lr_finder) = { let mut made = lightcell::notebook::build::<Mlp>(\"{}\")?; \
             let found = lightcell::notebook::lr_find(&mut made, &(data), \"{}\", \"{}\")?; (made, found) };"
        );
        assert!(code("%lr_find Mlp data", &with).contains("lr_find(&mut fit, "));
        assert!(code("%lr_find Mlp data --restart", &with).starts_with("let (mut fit, lr_finder)"));
        assert!(code("%scale_batch_size net data", &with).starts_with(
            "let batch_size = lightcell::notebook::scale_batch_size(&mut net, |size| (data).clone().batch_size(size), "
        ));
        for line in ["%test Mlp data", "%test Mlp data --ckpt-path best"] {
            let error = model_code(&model(line), &data, &items, true).unwrap_err();
            assert_eq!(
                error.to_string(),
                "there is no run of `Mlp`\nhint: `%fit Mlp data` makes one; or name a checkpoint: `--ckpt-path PATH`"
            );
        }
        let error = model_code(&model("%test fti data"), &with, &items, true).unwrap_err();
        assert_eq!(error.to_string(), "there is no model `fti`\nhint: did you mean fit?");
    }

    #[test]
    fn a_search_says_how_its_result_is_used() {
        let found = |line: &str, attribute: Option<&str>| {
            how_to_use(&model(line), Some((0.0214, attribute.map(str::to_owned)))).unwrap()
        };
        assert_eq!(
            found("%lr_find Mlp data", Some("lr")),
            "suggested learning rate 2.14e-2: `lr` of `fit` is set to it, and `%fit Mlp data` trains with it\n"
        );
        assert_eq!(
            found("%lr_find net data", Some("rate")),
            "suggested learning rate 2.14e-2: `rate` of `net` is set to it, and `%fit net data` trains with it\n"
        );
        assert_eq!(
            found("%lr_find Mlp data --update-attr false", None),
            "suggested learning rate 2.14e-2: nothing was changed, `lr_finder.suggestion()` has it\n"
        );
        assert_eq!(
            how_to_use(&model("%scale_batch_size Mlp data"), None).unwrap(),
            "`batch_size` has the size: `let data = data.batch_size(batch_size);` sets it\n"
        );
        assert_eq!(how_to_use(&model("%test fit data"), None), None);
    }

    #[test]
    fn errors_about_other_magics_are_theirs() {
        let explained = |line: &str, message: &str| {
            let error = Diagnostic {
                message: message.into(),
                ..Diagnostic::default()
            };
            let cell = Cell { count: 2, source: line };
            explain(&model(line).subject, &[error], cell).evalue
        };
        assert_eq!(
            explained(
                "%test net data",
                "cannot borrow `net` as mutable, as it is not declared as mutable"
            ),
            "`net` cannot be changed"
        );
        assert_eq!(
            explained(
                "%test net data",
                "the trait bound `Vec<i32>: DataModule` is not satisfied"
            ),
            "`data` is no DataModule"
        );
        assert_eq!(
            explained(
                "%scale_batch_size net data",
                "no method named `batch_size` found for struct `Mine`"
            ),
            "`data` has no batch size that can be set"
        );
    }
}
