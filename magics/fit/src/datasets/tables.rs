//! Small tables that many examples are made with, in the files in which scikit-learn ships them.

use super::About;
use super::files::{Remote, find_all};
use crate::data::TensorDataset;
use crate::error::{Error, Kind, Result};
use crate::readers::{self, open};
use std::io::Read;
use std::path::Path;
use tch::{Kind as TKind, Tensor};

const MIRROR: &str = "https://raw.githubusercontent.com/scikit-learn/scikit-learn/1.9.1/sklearn/datasets/data";

/// A table to learn from.
#[derive(Debug)]
pub struct TableSet {
    /// Inputs `[rows, features]` of `Kind::Float`; targets are labels `[rows]`, or numbers `[rows, 1]` without classes.
    pub data: TensorDataset,
    /// What the inputs are.
    pub features: Vec<String>,
    /// The classes' names, in the order of their labels.
    pub classes: Vec<String>,
    /// Source and licence.
    pub about: About,
}

fn words(text: &str) -> Vec<String> {
    text.split(',').map(|word| word.trim().to_owned()).collect()
}

const fn remote(name: &'static str, sha256: &'static str) -> Remote {
    Remote {
        name,
        packed: "",
        sha256,
    }
}

/// Numbers of a text, those of each line between commas or spaces.
fn numbers(path: &Path, lines_before: usize) -> Result<Tensor> {
    let mut text = String::new();
    let wrong = |what: String| Error::new(Kind::Data, format!("{}: {what}", path.display()));
    open(path)?
        .read_to_string(&mut text)
        .map_err(|error| wrong(error.to_string()))?;
    let (mut values, mut columns) = (Vec::<f32>::new(), 0);
    for (line, row) in text
        .lines()
        .enumerate()
        .skip(lines_before)
        .filter(|(_, row)| !row.is_empty())
    {
        let before = values.len();
        for cell in row.split([',', ' ']).filter(|cell| !cell.is_empty()) {
            let value = cell
                .parse()
                .map_err(|_| wrong(format!("row {}: `{cell}` is no number", line + 1)))?;
            values.push(value);
        }
        columns = if before == 0 { values.len() } else { columns };
        if values.len() - before != columns {
            let found = values.len() - before;
            return Err(wrong(format!(
                "row {} has {found} columns, the rows before it {columns}",
                line + 1
            )));
        }
    }
    if values.is_empty() {
        return Err(wrong("has no row of numbers".to_owned()));
    }
    Ok(Tensor::from_slice(&values).f_view([-1, columns as i64])?)
}

/// A file whose first line is `rows,features,class,…` and whose last column is the label.
fn classes(folder: &Path, about: About, file: Remote, features: Vec<String>, mirrors: &[&str]) -> Result<TableSet> {
    let path = find_all(folder, &about, &[file], mirrors)?.remove(0);
    let mut head = String::new();
    open(&path)?.read_to_string(&mut head)?;
    let names: Vec<String> = head
        .lines()
        .next()
        .unwrap_or_default()
        .split(',')
        .skip(2)
        .map(str::to_owned)
        .collect();
    labelled(&numbers(&path, 1)?, about, features, names).map_err(|error| error.at(&path.display().to_string()))
}

/// With the label in the last column.
fn labelled(table: &Tensor, about: About, features: Vec<String>, classes: Vec<String>) -> Result<TableSet> {
    let width = features.len() as i64;
    if table.size()[1] != width + 1 {
        return Err(Error::new(
            Kind::Data,
            format!("{} columns are not the {width} features and the class", table.size()[1]),
        ));
    }
    let labels = table.f_select(1, width)?.f_to_kind(TKind::Int64)?;
    let data = TensorDataset::new(table.f_narrow(1, 0, width)?.f_contiguous()?, labels)?;
    Ok(TableSet {
        data: data.classes(classes.len() as i64)?,
        features,
        classes,
        about,
    })
}

/// Iris: 150 flowers of three kinds by the length and width of sepals and petals. From `iris.csv` in a folder, or downloaded
/// into it.
///
/// # Errors
/// When the file is missing and cannot be downloaded, or is damaged.
pub fn iris(folder: impl AsRef<Path>) -> Result<TableSet> {
    iris_from(folder.as_ref(), &[MIRROR])
}

fn iris_from(folder: &Path, mirrors: &[&str]) -> Result<TableSet> {
    let about = About {
        name: "Iris",
        source: "R. A. Fisher (1936), UCI Machine Learning Repository, doi.org/10.24432/C56C76",
        licence: "CC BY 4.0",
    };
    let file = remote(
        "iris.csv",
        "f13ffa8fdd56fd8e6c8d16d4081a3fbd3114bcd0aae4256c43205169cd9d1449",
    );
    let features = words("sepal length (cm), sepal width (cm), petal length (cm), petal width (cm)");
    classes(folder, about, file, features, mirrors)
}

/// Wine: 178 wines of three growers by 13 chemical measurements. From `wine_data.csv` in a folder, or downloaded into it.
///
/// # Errors
/// When the file is missing and cannot be downloaded, or is damaged.
pub fn wine(folder: impl AsRef<Path>) -> Result<TableSet> {
    let about = About {
        name: "Wine",
        source: "S. Aeberhard, M. Forina (1992), UCI Machine Learning Repository, doi.org/10.24432/C5PC7J",
        licence: "CC BY 4.0",
    };
    let file = remote(
        "wine_data.csv",
        "10e8a802908b34f86e5da8ce962f3c806694bc98450a18f61851af59f324bede",
    );
    let features = words(
        "alcohol, malic_acid, ash, alcalinity_of_ash, magnesium, total_phenols, flavanoids, nonflavanoid_phenols, \
         proanthocyanins, color_intensity, hue, od280/od315_of_diluted_wines, proline",
    );
    classes(folder.as_ref(), about, file, features, &[MIRROR])
}

/// Breast Cancer Wisconsin (Diagnostic): 569 tumours, malignant (0) or benign (1), by 30 measurements of their cells. From
/// `breast_cancer.csv` in a folder, or downloaded into it.
///
/// # Errors
/// When the file is missing and cannot be downloaded, or is damaged.
pub fn breast_cancer(folder: impl AsRef<Path>) -> Result<TableSet> {
    let about = About {
        name: "Breast Cancer Wisconsin (Diagnostic)",
        source: "W. Wolberg, O. Mangasarian, N. Street, W. Street (1993), UCI Machine Learning Repository, doi.org/10.24432/C5DW2B",
        licence: "CC BY 4.0",
    };
    let file = remote(
        "breast_cancer.csv",
        "fed3eb72d0575ef6192293f5093c6e801b1476b577d0386bf4455504522172ed",
    );
    let measured = words(
        "radius, texture, perimeter, area, smoothness, compactness, concavity, concave points, symmetry, fractal dimension",
    );
    let mean = measured.iter().map(|name| format!("mean {name}"));
    let error = measured.iter().map(|name| format!("{name} error"));
    let worst = measured.iter().map(|name| format!("worst {name}"));
    classes(
        folder.as_ref(),
        about,
        file,
        mean.chain(error).chain(worst).collect(),
        &[MIRROR],
    )
}

/// Digits: 1,797 images of 8 by 8 pixels, `[rows, 64]` with values from 0 to 16. From `digits.csv.gz` in a folder, or
/// downloaded into it.
///
/// # Errors
/// When the file is missing and cannot be downloaded, or is damaged.
pub fn digits(folder: impl AsRef<Path>) -> Result<TableSet> {
    let about = About {
        name: "Optical Recognition of Handwritten Digits",
        source: "E. Alpaydin, C. Kaynak (1998), UCI Machine Learning Repository, doi.org/10.24432/C50P49",
        licence: "CC BY 4.0",
    };
    let file = remote(
        "digits.csv.gz",
        "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22",
    );
    let path = find_all(folder.as_ref(), &about, &[file], &[MIRROR])?.remove(0);
    let features = (0..64)
        .map(|pixel| format!("pixel_{}_{}", pixel / 8, pixel % 8))
        .collect();
    let classes = (0..10).map(|digit| digit.to_string()).collect();
    labelled(&readers::csv(&path)?, about, features, classes).map_err(|error| error.at(&path.display().to_string()))
}

/// Diabetes: 442 patients by ten measurements, in their own units, and how far the disease came a year later, `[rows, 1]`.
/// From `diabetes_data_raw.csv.gz` and `diabetes_target.csv.gz` in a folder, or downloaded into it.
///
/// # Errors
/// When a file is missing and cannot be downloaded, or is damaged.
pub fn diabetes(folder: impl AsRef<Path>) -> Result<TableSet> {
    let about = About {
        name: "Diabetes",
        source: "B. Efron, T. Hastie, I. Johnstone, R. Tibshirani, Least Angle Regression (2004)",
        licence: "none is stated by the authors; scikit-learn ships it (BSD 3-Clause)",
    };
    let files = [
        remote(
            "diabetes_data_raw.csv.gz",
            "7fc0ded571454b1982210d3bb43f0aca44eae01a0b8654a3b24022bdb6b38009",
        ),
        remote(
            "diabetes_target.csv.gz",
            "8e53f65eb811df43c206f3534bb3af0e5fed213bc37ed6ba36310157d6023803",
        ),
    ];
    let paths = find_all(folder.as_ref(), &about, &files, &[MIRROR])?;
    let data = TensorDataset::new(numbers(&paths[0], 0)?, numbers(&paths[1], 0)?)?;
    Ok(TableSet {
        data,
        features: words("age, sex, bmi, bp, s1, s2, s3, s4, s5, s6"),
        classes: Vec::new(),
        about,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::readers::tests::{Folder, gzip};

    #[test]
    fn tables_in_a_folder_are_read_without_a_network() {
        let _turn = crate::tests::in_turn();
        let folder = Folder::new("tables");
        let error = iris_from(&folder.0, &[]).unwrap_err();
        assert!(
            error.message().starts_with("Iris is not in") && error.message().contains("no iris.csv"),
            "{error}"
        );
        folder.file(
            "iris.csv",
            b"2,4,setosa,versicolor,virginica\n5.1,3.5,1.4,0.2,0\n6.3,3.3,6.0,2.5,2\n",
        );
        let iris = iris(&folder.0).unwrap();
        assert_eq!((iris.data.x().size(), iris.features.len()), (vec![2, 4], 4));
        assert_eq!(iris.classes[iris.data.y().int64_value(&[1]) as usize], "virginica");
        folder.file(
            "diabetes_data_raw.csv.gz",
            &gzip(b"59 2 32.1 101.0 157 93.2 38.0 4.0 4.8598 87\n"),
        );
        folder.file("diabetes_target.csv.gz", &gzip(b"1.51e+02\n"));
        let diabetes = diabetes(&folder.0).unwrap();
        assert_eq!(
            (diabetes.data.y().double_value(&[0, 0]), diabetes.data.x().size()),
            (151.0, vec![1, 10])
        );
        let mut row = vec!["3"; 64].join(",");
        row += ",7\n";
        folder.file("digits.csv.gz", &gzip(row.as_bytes()));
        assert_eq!(digits(&folder.0).unwrap().data.y().int64_value(&[0]), 7);
    }

    #[test]
    fn a_damaged_table_says_where() {
        let _turn = crate::tests::in_turn();
        let folder = Folder::new("badtables");
        let message = |content: &[u8]| {
            folder.file("iris.csv", content);
            let error = iris(&folder.0).unwrap_err();
            error.message().split_once("iris.csv: ").unwrap().1.to_owned()
        };
        assert_eq!(message(b"1,4,a,b\n5.1,x,1.4,0.2,0\n"), "row 2: `x` is no number");
        assert_eq!(
            message(b"1,4,a,b\n1,2,3,4,0\n1,2,3,4\n"),
            "row 3 has 4 columns, the rows before it 5"
        );
        assert_eq!(message(b"1,4,a,b\n"), "has no row of numbers");
        assert_eq!(
            message(b"1,4,a,b\n1,2\n"),
            "2 columns are not the 4 features and the class"
        );
        assert!(message(b"1,4,a,b\n1,2,3,4,2\n").starts_with("1 labels are outside of 0 to 1"));
    }
}
