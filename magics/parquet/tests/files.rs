//! Files that pyarrow has written (make.py), read.

use lightcell::tch::Tensor;
use lightcell::{Column, DataLoader, Dataset, Sampler};
use lightcell_parquet::{ArrowDataset, read_arrow, read_arrow_columns};
use std::path::PathBuf;

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

#[test]
fn each_type_has_its_column_and_gaps_are_known() {
    let pets = read_arrow(file("pets.parquet")).unwrap();
    assert_eq!(pets.len(), 6);
    assert_eq!(
        pets.names(),
        ["weight", "age", "species", "name", "chipped", "born", "fee"]
    );
    assert_eq!(
        (pets.missing("weight").unwrap(), pets.missing("age").unwrap()),
        (&[1][..], &[2][..])
    );
    assert_eq!(pets.missing("name").unwrap(), [1]);
    let Column::Float(ages) = pets.column("age").unwrap() else {
        panic!("whole numbers with a gap are floats")
    };
    assert_eq!((ages[1], ages[2].is_nan()), (5.0, true));
    assert_eq!(*pets.column("chipped").unwrap(), Column::Int(vec![1, 0, 1, 1, 0, 1]));
    assert_eq!(pets.texts("born").unwrap()[5], "2025-01-02");
    assert_eq!(
        *pets.column("fee").unwrap(),
        Column::Float(vec![0.5, 1.5, 2.5, 3.5, 4.5, 5.5])
    );
    assert_eq!(pets.labels("species").unwrap().1, ["cat", "dog"]);
    let error = pets.floats(&["fee", "age"]).unwrap_err();
    assert!(
        error
            .message()
            .ends_with("pets.parquet: row 3, column 2 (age): there is no value"),
        "{error}"
    );
    let filled = pets.fill_missing("age", 4.0).unwrap().floats(&["age"]).unwrap();
    assert_eq!(
        Vec::<f32>::try_from(&filled.view(-1)).unwrap(),
        [3.0, 5.0, 4.0, 1.0, 9.0, 2.0]
    );
}

#[test]
fn columns_that_fit_no_table_are_named() {
    let error = read_arrow(file("nested.parquet")).unwrap_err();
    assert!(
        error.message().contains("nested.parquet: column 2 (tags) is of List"),
        "{error}"
    );
    assert!(error.hint_text().unwrap().contains("read_arrow_columns"), "{error}");
    assert_eq!(
        read_arrow_columns(file("nested.parquet"), &["age"]).unwrap().names(),
        ["age"]
    );
    let error = read_arrow(file("large.parquet")).unwrap_err();
    assert!(
        error
            .message()
            .ends_with("large.parquet: row 6, column 2 (count): the number is too large"),
        "{error}"
    );
    let error = read_arrow_columns(file("pets.parquet"), &["age", "sex"]).unwrap_err();
    assert!(
        error.message().ends_with("pets.parquet: there is no column `sex`"),
        "{error}"
    );
    assert!(
        error.hint_text().unwrap().starts_with("the columns are weight, age"),
        "{error}"
    );
    let error = ArrowDataset::open(file("pets.parquet"), "age").unwrap_err();
    assert!(
        error.message().contains("column 3 (species) is of Dictionary"),
        "{error}"
    );
}

#[test]
fn rows_come_in_any_order_from_both_formats() {
    for name in ["numbers.parquet", "numbers.arrow"] {
        let data = ArrowDataset::open(file(name), "y").unwrap().keep(0);
        assert_eq!((data.len(), data.input_names()), (1000, vec!["a", "b"]), "{name}");
        for row in [999, 0, 150, 149, 450, 300] {
            let (x, y) = data.get(row).unwrap();
            let expected = vec![row as f32, (row % 7) as f32];
            assert_eq!(
                (Vec::<f32>::try_from(&x).unwrap(), y),
                (expected, 3.0 * row as f32),
                "{name}"
            );
        }
        assert_eq!(data.get(1000).unwrap_err().message(), "there is no row 1000 among 1000");
    }
    let both = ["numbers.parquet", "numbers.arrow"].map(|name| read_arrow(file(name)).unwrap().floats(&["y", "b"]));
    let [parquet, arrow] = both.map(Result::unwrap);
    assert!(parquet.equal(&arrow));
}

#[test]
fn an_epoch_mixes_few_parts_at_a_time_and_is_the_same_with_workers() {
    let data = std::sync::Arc::new(
        ArrowDataset::open(file("numbers.parquet"), "y")
            .unwrap()
            .keep(2 * 150 * 3 * 4),
    );
    let sampler = data.row_groups(2);
    let order = sampler.order(3, 1);
    let mut all = order.clone();
    all.sort_unstable();
    assert_eq!(all, (0..1000).collect::<Vec<_>>());
    assert_ne!(order, sampler.order(3, 2));
    // Seven parts of up to 150 rows: the first 300 rows, or 250 when the short last one is there, are of two.
    let mut parts: Vec<usize> = order[..250].iter().map(|row| row / 150).collect();
    assert!(
        parts.windows(2).filter(|pair| pair[0] != pair[1]).count() > 50,
        "mixed: {parts:?}"
    );
    parts.sort_unstable();
    parts.dedup();
    assert_eq!(parts.len(), 2);
    let epoch = |workers: usize| -> Vec<f32> {
        let loader: DataLoader<(Tensor, Tensor)> = DataLoader::new(data.clone());
        let loader = loader.batch_size(64).sampler(sampler.clone()).num_workers(workers);
        let targets = loader
            .epoch(3, 1)
            .map(|batch| Vec::<f32>::try_from(&batch.unwrap().1).unwrap());
        targets.flatten().collect()
    };
    let expected: Vec<f32> = order.iter().map(|row| 3.0 * *row as f32).collect();
    assert_eq!((epoch(0), epoch(3)), (expected.clone(), expected));
}

#[test]
fn a_gap_is_named_with_file_row_and_column() {
    let data = ArrowDataset::open(file("gaps.parquet"), "y").unwrap();
    let loader: DataLoader<(Tensor, Tensor)> = DataLoader::new(data).batch_size(40);
    let error = loader.epoch(1, 0).next().unwrap().unwrap_err();
    let path = file("gaps.parquet").display().to_string();
    assert_eq!(
        error.message(),
        format!("sample 33 ({path}): row 34, column 3 (b): there is no value")
    );
}

/// Files with bytes changed or cut: a table or an error of one line that names the file, never a panic.
#[test]
fn damaged_files_are_errors() {
    let folder = std::env::temp_dir().join(format!("lightcell-parquet-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::panic::set_hook(Box::new(|_| {}));
    let (mut errors, mut random) = (0, 1u64);
    for round in 0..600 {
        let name = ["pets.parquet", "numbers.arrow", "gaps.parquet"][round % 3];
        let mut bytes = std::fs::read(file(name)).unwrap();
        for _ in 0..3 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let at = (random >> 33) as usize % bytes.len();
            match round % 5 {
                0 => bytes.truncate(at.max(1)),
                _ => bytes[at] = (random >> 20) as u8,
            }
        }
        let path = folder.join(name);
        std::fs::write(&path, &bytes).unwrap();
        if let Err(error) = read_arrow(&path) {
            errors += 1;
            assert!(
                error.message().contains(name) && error.message().lines().count() == 1,
                "{error}"
            );
        }
    }
    let _ = std::panic::take_hook();
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(errors > 100, "{errors}");
    let other = file("make.py");
    let error = read_arrow(&other).unwrap_err();
    assert!(
        error
            .message()
            .ends_with("make.py: this is neither a Parquet nor an Arrow file"),
        "{error}"
    );
    let error = read_arrow("/nonexistent/t.parquet").unwrap_err();
    assert!(
        error.message().starts_with("cannot read /nonexistent/t.parquet"),
        "{error}"
    );
}

/// Each eight bytes of a compressed Arrow file in turn become a length that no memory has: it would end the process.
#[test]
fn a_length_that_cannot_be_is_an_error() {
    let folder = std::env::temp_dir().join(format!("lightcell-arrow-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("numbers.arrow");
    let whole = std::fs::read(file("numbers.arrow")).unwrap();
    std::panic::set_hook(Box::new(|_| {}));
    let (mut packed, mut errors) = (0, 0);
    for at in (0..whole.len() - 8).step_by(8) {
        let mut bytes = whole.clone();
        bytes[at..at + 8].copy_from_slice(&(1i64 << 46).to_le_bytes());
        std::fs::write(&path, &bytes).unwrap();
        if let Err(error) = read_arrow(&path) {
            errors += 1;
            packed += usize::from(error.message().contains("bytes cannot become 70368744177664"));
        }
    }
    let _ = std::panic::take_hook();
    std::fs::remove_dir_all(&folder).unwrap();
    // Four parts of three columns.
    assert!(packed >= 12 && errors > packed, "{packed} of {errors}");
}
