//! How well classes are told apart.

use super::curves::thinned;
use super::inputs::classes_of;
use super::{Numbers, bounds, finite, made, wrong};
use crate::error::Result;
use lightcell_cell::Figure;
use lightcell_events::figure::{Content, Series};
use tch::{Kind as TKind, Tensor};

/// How often a class (row) was predicted as which (column): predictions are labels `[n]` or scores `[n, classes]`, targets
/// labels `[n]`. `names` of the classes; those that are missing are numbers.
///
/// ```
/// use lightcell::prelude::*;
/// let (predicted, target) = (Tensor::from_slice(&[0i64, 1, 1]), Tensor::from_slice(&[0i64, 1, 0]));
/// let text = confusion_matrix(&predicted, &target, &["no", "yes"]).text();
/// assert!(text.contains("no   1    1"), "{text}");
/// ```
pub fn confusion_matrix<S: AsRef<str>>(predictions: &Tensor, target: &Tensor, names: &[S]) -> Figure {
    let names: Vec<String> = names.iter().map(|name| name.as_ref().to_owned()).collect();
    made(
        "confusion_matrix",
        counts(predictions, target).and_then(|rows| matrix(rows, &names)),
    )
}

fn counts(predictions: &Tensor, target: &Tensor) -> Result<Vec<Vec<f64>>> {
    let (predicted, target) = (classes_of(predictions)?, classes_of(target)?);
    if predicted.len() != target.len() || target.is_empty() {
        return Err(wrong(format!(
            "{} predictions for {} targets",
            predicted.len(),
            target.len()
        )));
    }
    let all = || predicted.iter().chain(&target);
    let (lowest, highest) = (all().min().copied().unwrap_or(0), all().max().copied().unwrap_or(0));
    if lowest < 0 || highest > 200 {
        return Err(wrong(format!("labels are 0 to 200, not {lowest} to {highest}")));
    }
    let classes = highest as usize + 1;
    let mut rows = vec![vec![0.0; classes]; classes];
    for (predicted, target) in predicted.iter().zip(&target) {
        rows[*target as usize][*predicted as usize] += 1.0;
    }
    Ok(rows)
}

fn matrix(mut rows: Vec<Vec<f64>>, names: &[String]) -> Result<Content> {
    // Classes that have a name are there, even when they were neither seen nor predicted.
    let classes = rows.len().max(names.len());
    for row in &mut rows {
        row.resize(classes, 0.0);
    }
    rows.resize(classes, vec![0.0; classes]);
    let name = |at: usize| names.get(at).cloned().unwrap_or_else(|| at.to_string());
    Ok(Content::Matrix {
        classes: (0..classes).map(name).collect(),
        rows: finite_rows(rows)?,
    })
}

fn finite_rows(rows: Vec<Vec<f64>>) -> Result<Vec<Vec<f64>>> {
    finite(rows.concat())?;
    Ok(rows)
}

/// A computed matrix, for [`ConfusionMatrix::plot`](crate::metrics::ConfusionMatrix::plot).
pub(crate) fn of_matrix(matrix: &Tensor, names: &[String]) -> Result<Figure> {
    let rows = Vec::<Vec<f64>>::try_from(matrix)?;
    Ok(made("ConfusionMatrix", self::matrix(rows, names)))
}

/// The ROC curve with the area under it. Scores of yes and no are `[n]` or `[n, 2]`, those of more classes `[n, classes]`, each
/// class then against all others; probabilities or logits. Targets are labels `[n]`.
///
/// ```
/// use lightcell::prelude::*;
/// let (scores, target) = (Tensor::from_slice(&[0.1f32, 0.4, 0.35, 0.8]), Tensor::from_slice(&[0i64, 0, 1, 1]));
/// assert!(roc(&scores, &target).text().starts_with("AUC 0.750: "));
/// ```
pub fn roc(scores: &Tensor, target: &Tensor) -> Figure {
    made("roc", roc_content(scores, target))
        .x_label("false positive rate")
        .y_label("true positive rate")
}

fn roc_content(scores: &Tensor, target: &Tensor) -> Result<Content> {
    let classes = match scores.size()[..] {
        [_] | [_, 1] => 1,
        [_, classes] if classes > 1 => classes,
        _ => {
            return Err(wrong(format!(
                "scores are [n] or [n, classes], not {:?}",
                scores.size()
            )));
        }
    };
    let target = classes_of(&if target.dim() == 2 {
        target.f_reshape([-1])?
    } else {
        target.shallow_clone()
    })?;
    let _guard = tch::no_grad_guard();
    // Of logits, only probabilities compare over samples; those of probabilities are ranked as they were where there are two.
    let columns = match classes {
        1 => scores.f_reshape([-1, 1])?,
        2 => scores.f_select(1, 1)?.f_sub(&scores.f_select(1, 0)?)?.f_unsqueeze(1)?,
        _ if bounds(&finite(scores.numbers()?)?).0 < 0.0 => scores.f_softmax(1, TKind::Double)?,
        _ => scores.shallow_clone(),
    };
    let count = columns.size()[1];
    let mut series = Vec::new();
    for class in 0..count {
        let column = finite(columns.f_select(1, class)?.numbers()?)?;
        if column.len() != target.len() {
            return Err(wrong(format!("{} scores for {} targets", column.len(), target.len())));
        }
        let yes = if count == 1 { 1 } else { class };
        let (points, area) = crate::metrics::roc_points(&column, |at| target[at] == yes);
        if area.is_nan() && count == 1 {
            return Err(wrong("the targets are all of one class: there is no curve"));
        }
        let name = if count == 1 {
            String::new()
        } else {
            format!("class {class}, ")
        };
        if !area.is_nan() {
            series.push(Series {
                name: format!("{name}AUC {area:.3}"),
                points: thinned(points),
            });
        }
    }
    Ok(Content::Lines { series, diagonal: true })
}
