//! Faults of files. The bytes are compared with TensorBoard's own in `tests/oracles`.

use super::*;
use crate::tests::Folder;

#[test]
fn a_file_that_cannot_be_written_is_named() {
    let folder = Folder::new("tensorboard-fault");
    let blocked = folder.join("file");
    std::fs::write(&blocked, "").unwrap();
    let error = SummaryWriter::new(blocked.join("deep")).unwrap_err();
    assert!(error.message().starts_with("cannot write "), "{error}");
    assert_eq!(
        error.hint_text(),
        Some("is the disk full, or the folder read-only? Without a logger the run needs neither")
    );
    let error = TensorBoardLogger::new(&*folder).experiment().map(drop).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the TensorBoard logger has no file before its run begins\nhint: call it from a hook of a callback: `on_train_epoch_end`, for example"
    );
}

#[test]
fn files_of_one_second_are_read_in_their_order() {
    let folder = Folder::new("tensorboard-order");
    let writers: Vec<SummaryWriter> = (0..12).map(|_| SummaryWriter::new(&*folder).unwrap()).collect();
    let paths: Vec<&PathBuf> = writers.iter().map(|writer| &writer.path).collect();
    assert!(paths.is_sorted());
    assert!(!writers[0].goes_on && writers[1].goes_on);
}
