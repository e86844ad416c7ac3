//! Columns of tables made fit for a model, under scikit-learn's names. What is fitted can be a hyperparameter: then it is in
//! every checkpoint, and whoever loads the model gets it back.

use crate::error::{Error, Kind, Result};
use crate::readers::Table;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use tch::{Kind as TKind, Tensor};

/// Columns with a mean of 0 and a deviation of 1, from the means and deviations of the training data.
///
/// ```
/// use lightcell::prelude::*;
///
/// // Among the hyperparameters it is saved with the model.
/// hparams! { Hp { scaler: StandardScaler = StandardScaler::default(), lr: f64 = 1e-3 } }
///
/// let x = Tensor::from_slice2(&[[1.0f32, 100.0], [3.0, 300.0]]);
/// let hp = Hp { scaler: StandardScaler::fit(&x)?, ..Hp::default() };
/// let scaled = hp.scaler.transform(&x)?;
/// assert_eq!(Vec::<Vec<f32>>::try_from(&scaled).unwrap(), [[-1.0, -1.0], [1.0, 1.0]]);
/// assert_eq!(hp.scaler.inverse_transform(&scaled)?, x);
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StandardScaler {
    /// Of each column.
    pub mean: Vec<f64>,
    /// What each column is divided by: its deviation, or 1 where all its values are alike.
    pub scale: Vec<f64>,
}

impl StandardScaler {
    /// From the columns of `x`, `[rows, columns]`.
    ///
    /// # Errors
    /// When there is no row, or a value is no number.
    pub fn fit(x: &Tensor) -> Result<StandardScaler> {
        let (rows, columns) = match x.size()[..] {
            [rows, columns] if rows > 0 => (rows, columns),
            ref size => {
                return Err(Error::new(
                    Kind::Shape,
                    format!("a scaler is fitted to [rows, columns], not to {size:?}"),
                ));
            }
        };
        let x = x.f_to_kind(TKind::Double)?;
        let mean = x.f_mean_dim([0i64].as_slice(), false, TKind::Double)?;
        // Of the population, as scikit-learn's.
        let deviation = x
            .f_sub(&mean)?
            .f_square()?
            .f_mean_dim([0i64].as_slice(), false, TKind::Double)?
            .f_sqrt()?;
        let (mean, deviation) = (Vec::<f64>::try_from(&mean)?, Vec::<f64>::try_from(&deviation)?);
        if let Some(column) = mean
            .iter()
            .zip(&deviation)
            .position(|(mean, by)| !(mean + by).is_finite())
        {
            return Err(Error::new(
                Kind::Data,
                format!("column {column} of {columns} has a value that is no number, in {rows} rows"),
            ));
        }
        // A deviation that is rounding alone is none.
        let alike = |mean: f64, by: f64| by <= 10.0 * f64::EPSILON * mean.abs() * (rows as f64).sqrt();
        let scale = mean
            .iter()
            .zip(&deviation)
            .map(|(mean, by)| if alike(*mean, *by) { 1.0 } else { *by });
        Ok(StandardScaler {
            scale: scale.collect(),
            mean,
        })
    }

    fn columns(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        if self.mean.is_empty() {
            return Err(Error::new(Kind::Option, "the scaler is not fitted")
                .hint("`StandardScaler::fit(&x)?` fits it to the training data"));
        }
        let last = x.size().last().copied().unwrap_or(0);
        if last != self.mean.len() as i64 {
            return Err(Error::new(
                Kind::Shape,
                format!("the scaler was fitted to {} columns, not {last}", self.mean.len()),
            ));
        }
        let row = |values: &[f64]| Tensor::from_slice(values).f_to_device(x.device());
        Ok((row(&self.mean)?, row(&self.scale)?))
    }

    /// The columns scaled, in their own kind.
    ///
    /// # Errors
    /// When it is not fitted, or to another number of columns.
    pub fn transform(&self, x: &Tensor) -> Result<Tensor> {
        let (mean, scale) = self.columns(x)?;
        Ok(x.f_to_kind(TKind::Double)?
            .f_sub(&mean)?
            .f_div(&scale)?
            .f_to_kind(x.kind())?)
    }

    /// Scaled columns, predictions for example, in their own units again.
    ///
    /// # Errors
    /// When it is not fitted, or to another number of columns.
    pub fn inverse_transform(&self, x: &Tensor) -> Result<Tensor> {
        let (mean, scale) = self.columns(x)?;
        Ok(x.f_to_kind(TKind::Double)?
            .f_mul(&scale)?
            .f_add(&mean)?
            .f_to_kind(x.kind())?)
    }
}

/// A column of 0 and 1 for each value that a column of texts has.
///
/// ```
/// use lightcell::prelude::*;
/// let color = |values: &[&str]| Column::Text(values.iter().map(|value| value.to_string()).collect());
/// let table = Table::new(vec![("color".to_owned(), color(&["red", "blue", "red"]))])?;
/// let encoder = OneHotEncoder::fit(&table, &["color"])?;
/// assert_eq!(encoder.names(), ["color_blue", "color_red"]);
/// let x = encoder.transform(&table)?;
/// assert_eq!(Vec::<Vec<f32>>::try_from(&x).unwrap(), [[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct OneHotEncoder {
    /// Each column with its values, sorted.
    pub categories: Vec<(String, Vec<String>)>,
    /// Whether a value that was not there becomes zeros only.
    pub ignore_unknown: bool,
}

impl OneHotEncoder {
    /// From the values of some columns.
    ///
    /// # Errors
    /// When there is no such column.
    pub fn fit(table: &Table, columns: &[&str]) -> Result<OneHotEncoder> {
        let values = |column: &&str| {
            let values: BTreeSet<String> = table.texts(column)?.into_iter().collect();
            Ok(((*column).to_owned(), values.into_iter().collect()))
        };
        Ok(OneHotEncoder {
            categories: columns.iter().map(values).collect::<Result<_>>()?,
            ignore_unknown: false,
        })
    }

    /// A value that was not there when it was fitted becomes zeros only, and is no error.
    #[must_use]
    pub fn ignore_unknown(mut self) -> OneHotEncoder {
        self.ignore_unknown = true;
        self
    }

    /// Names of the new columns: `color_red`.
    pub fn names(&self) -> Vec<String> {
        let names = |(column, values): &(String, Vec<String>)| -> Vec<String> {
            values.iter().map(|value| format!("{column}_{value}")).collect()
        };
        self.categories.iter().flat_map(names).collect()
    }

    /// The new columns of a table, `[rows, names]` of `Kind::Float`.
    ///
    /// # Errors
    /// When it lacks a column, or has a value that was not there; the message says in which row.
    pub fn transform(&self, table: &Table) -> Result<Tensor> {
        let mut parts = Vec::with_capacity(self.categories.len());
        for (column, values) in &self.categories {
            let names: Vec<&str> = values.iter().map(String::as_str).collect();
            let places = match self.ignore_unknown {
                false => table.labels_among(column, &names)?,
                true => {
                    let place =
                        |cell: String| names.binary_search(&cell.as_str()).map_or(names.len(), |place| place) as i64;
                    let places: Vec<i64> = table.texts(column)?.into_iter().map(place).collect();
                    Tensor::from_slice(&places)
                }
            };
            // One column more than there are values, for those that are not there.
            let wide = places.f_one_hot(names.len() as i64 + 1)?;
            parts.push(wide.f_narrow(1, 0, names.len() as i64)?.f_to_kind(TKind::Float)?);
        }
        if parts.is_empty() {
            return Err(Error::new(Kind::Option, "the encoder is not fitted")
                .hint("`OneHotEncoder::fit(&table, &[\"column\"])?` fits it to the training data"));
        }
        Ok(Tensor::f_cat(&parts, 1)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prelude::Column;

    #[test]
    fn scalers_scale_and_say_what_does_not_fit() {
        let _turn = crate::tests::in_turn();
        let x = Tensor::from_slice2(&[[1.0f64, 0.1, 5.0], [2.0, 0.1, 6.0], [6.0, 0.1, 10.0]]);
        let scaler = StandardScaler::fit(&x).unwrap();
        assert_eq!((scaler.mean[0], scaler.scale[1]), (3.0, 1.0));
        // As scikit-learn's: sqrt(14 / 3).
        assert!((scaler.scale[0] - (14.0f64 / 3.0).sqrt()).abs() < 1e-12);
        let scaled = scaler.transform(&x).unwrap();
        assert!(scaled.mean(TKind::Double).abs().double_value(&[]) < 1e-12);
        let text = serde_json::to_string(&scaler).unwrap();
        assert_eq!(serde_json::from_str::<StandardScaler>(&text).unwrap(), scaler);
        let message = |result: Result<Tensor>| result.unwrap_err().message().to_owned();
        assert_eq!(
            message(scaler.transform(&x.narrow(1, 0, 2))),
            "the scaler was fitted to 3 columns, not 2"
        );
        assert_eq!(
            message(StandardScaler::default().transform(&x)),
            "the scaler is not fitted"
        );
        let error = StandardScaler::fit(&(&x / 0.0)).unwrap_err();
        assert_eq!(
            error.message(),
            "column 0 of 3 has a value that is no number, in 3 rows"
        );
        assert!(StandardScaler::fit(&x.narrow(0, 0, 0)).is_err());
    }

    #[test]
    fn encoders_know_the_values_that_they_were_fitted_to() {
        let _turn = crate::tests::in_turn();
        let texts = |values: &[&str]| Column::Text(values.iter().map(|value| (*value).to_owned()).collect());
        let table = |a: &[&str], b: &[i64]| {
            Table::new(vec![("a".into(), texts(a)), ("b".into(), Column::Int(b.to_vec()))]).unwrap()
        };
        let encoder = OneHotEncoder::fit(&table(&["x", "y"], &[7, 7]), &["b", "a"]).unwrap();
        assert_eq!(encoder.names(), ["b_7", "a_x", "a_y"]);
        let other = table(&["y", "z"], &[7, 8]);
        let error = encoder.transform(&other).unwrap_err();
        assert_eq!(
            error.message(),
            "the table: row 2, column 2 (b): `8` is none of the classes 7"
        );
        let x = encoder.ignore_unknown().transform(&other).unwrap();
        assert_eq!(Vec::<Vec<f32>>::try_from(&x).unwrap(), [[1.0, 0.0, 1.0], [0.0; 3]]);
        assert!(OneHotEncoder::default().transform(&other).is_err());
    }

    #[derive(Debug, Clone, Default, Serialize, Deserialize)]
    struct Hp {
        scaler: StandardScaler,
    }

    struct Net(crate::Linear, StandardScaler);

    impl crate::LightningModule for Net {
        type HParams = Hp;
        type Batch = (Tensor, Tensor);
        fn new(p: &crate::Path, hp: &Hp) -> Net {
            Net(crate::linear(p / "l", 2, 1), hp.scaler.clone())
        }
        fn forward(&self, x: &Tensor) -> Tensor {
            self.0.forward(x)
        }
        fn training_step(&mut self, (x, y): &Self::Batch, _: &mut crate::Step) -> Result<Tensor> {
            Ok((self.forward(&self.1.transform(x)?) - y).square().mean(TKind::Float))
        }
    }

    #[test]
    fn what_was_fitted_is_in_the_checkpoint() {
        let _turn = crate::tests::in_turn();
        let x = Tensor::arange(20, (TKind::Float, tch::Device::Cpu)).view([10, 2]);
        let scaler = StandardScaler::fit(&x).unwrap();
        let data = crate::Data::new(crate::TensorDataset::new(x.shallow_clone(), x.narrow(1, 0, 1)).unwrap());
        let hp = Hp { scaler: scaler.clone() };
        let fit = crate::Trainer::new()
            .max_epochs(1)
            .accelerator("cpu")
            .fit::<Net, _>(&hp, &data)
            .unwrap();
        let folder = crate::readers::tests::Folder::new("scaler");
        let path = folder.0.join("a.safetensors");
        fit.save(&path).unwrap();
        let texts = crate::checkpoint::file::read_metadata(&path).unwrap();
        let back: Hp = serde_json::from_str(&texts["hyper_parameters"]).unwrap();
        assert_eq!(back.scaler, scaler);
    }
}
