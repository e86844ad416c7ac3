//! Types of columns, and what a wrong table says.

use super::*;
use crate::readers::tests::Folder;

fn read(content: &str) -> Result<Table> {
    // Under a name of its own for each, as tests run side by side.
    static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let folder = Folder::new(&format!("table{count}"));
    Table::read_csv(folder.file("t.csv", content.as_bytes())).map_err(|error| {
        let cut = error.message().split_once("t.csv").unwrap().1.to_owned();
        Error::new(error.kind(), cut).hint(error.hint_text().unwrap_or_default())
    })
}

fn message<T>(result: Result<T>) -> String {
    let error = result.err().unwrap();
    let text = error.message();
    text.split_once("t.csv").map_or(text, |(_, rest)| rest).to_owned()
}

#[test]
fn columns_have_the_type_that_all_their_cells_are() {
    let table = read("a,b,c,d\n1,2,x,\n-3,4.5,,\n5,NA,7,\n").unwrap();
    assert_eq!(table.column("a").unwrap(), &Column::Int(vec![1, -3, 5]));
    assert!(matches!(table.column("b").unwrap(), Column::Float(values) if values[1] == 4.5 && values[2].is_nan()));
    assert_eq!(table.texts("c").unwrap(), ["x", "", "7"]);
    assert!(matches!(table.column("d").unwrap(), Column::Text(_)));
    assert_eq!(
        (table.missing("b").unwrap(), table.missing("c").unwrap()),
        (&[2][..], &[1][..])
    );
    assert_eq!(table.number_names("b"), ["a"]);
    assert_eq!(table.to_string().lines().next_back().unwrap(), "3 rows, 4 columns");
    assert_eq!(table.to_string().lines().nth(4).unwrap(), "  5      -     7     -");
    assert_eq!(read("1,2\n3,4\n").unwrap().names(), ["0", "1"]);
}

#[test]
fn what_is_wrong_says_in_which_row_and_column() {
    let _turn = crate::tests::in_turn();
    let table = read("age,name\n30,ann\nold,bob\n").unwrap();
    assert_eq!(
        message(table.floats(&["age"])),
        ": row 3, column 1 (age): `old` is no number"
    );
    let table = read("age,name\n30,ann\n,bob\n40,cyd\n").unwrap();
    let error = table.floats(&["age"]).unwrap_err();
    assert!(
        error.message().ends_with(": row 3, column 1 (age): there is no value"),
        "{error}"
    );
    assert!(error.hint_text().unwrap().contains("drop_missing"));
    // Rows keep the numbers that they have in the file.
    let dropped = table.drop_missing();
    assert_eq!(dropped.len(), 2);
    assert_eq!(
        message(dropped.labels_among("name", &["ann", "bob"])),
        ": row 4, column 2 (name): `cyd` is none of the classes ann, bob"
    );
    assert_eq!(dropped.labels_among("name", &["x"]).unwrap_err().kind(), Kind::Label);
    let error = table.column("nam").unwrap_err();
    assert!(error.message().ends_with("there is no column `nam`"), "{error}");
    assert_eq!(error.hint_text(), Some("the columns are age, name"));
    assert_eq!(message(read("a,a\n1,2\n")), ": two columns are called `a`");
    assert_eq!(message(read("a,b\n")), " has a header but no row");
    assert_eq!(
        message(read("a,b\n1,2\n3\n")),
        ": row 3 has 1 columns, the rows before it 2"
    );
    let classes: Vec<String> = (0..13).map(|n| n.to_string()).collect();
    let classes: Vec<&str> = classes.iter().map(String::as_str).collect();
    assert_eq!(listed(&classes), "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 3 more");
}

#[test]
fn a_table_feeds_a_model() {
    let _turn = crate::tests::in_turn();
    let table = read("x,label,z,y\n1,b,2,10\n3,a,4,9\n5,b,6,10\n").unwrap();
    let (data, classes) = table.classification("y").unwrap();
    // As numbers, 9 comes before 10.
    assert_eq!(classes, ["9", "10"]);
    assert_eq!(Vec::<i64>::try_from(data.y()).unwrap(), [1, 0, 1]);
    assert_eq!(
        Vec::<Vec<f32>>::try_from(data.x()).unwrap(),
        [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]
    );
    let data = table.select(&[2, 0]).regression("z").unwrap();
    assert_eq!((data.x().size(), data.y().size()), (vec![2, 2], vec![2, 1]));
    assert_eq!(data.y().double_value(&[0, 0]), 6.0);
    assert!(table.clone().fill_missing("label", 0.0).is_err());
    let error = Table::new(vec![
        ("a".into(), Column::Int(vec![1])),
        ("b".into(), Column::Int(vec![1, 2])),
    ]);
    assert_eq!(error.unwrap_err().message(), "column `b` has 2 rows, the first 1");
}
