//! What an Arrow file says of its sizes, held against the file before anything is decoded. How long a compressed buffer will be
//! stands before it, and arrow-ipc asks the system for as much, whatever it is: where there is not so much memory the process
//! would end.

use arrow_ipc::{Block, CompressionType, Message, MessageHeader, RecordBatch, reader, root_as_footer, root_as_message};
use std::fmt::Display;
use std::fs::File;
use std::os::unix::fs::FileExt;

type Checked<T> = std::result::Result<T, String>;

/// At the end of a file: how long the footer is, and the format's name.
const TRAILER: usize = 10;
/// Before each compressed buffer.
const PREFIX: usize = 8;

/// The rows of each record batch.
///
/// # Errors
/// What is wrong, when a size cannot be.
pub(crate) fn rows(file: &File) -> Checked<Vec<usize>> {
    let end = file.metadata().map_err(text)?.len();
    let bytes = |from: u64, length: usize| -> Checked<Vec<u8>> {
        if from.checked_add(length as u64).is_none_or(|to| to > end) {
            return Err(damaged("it says that it is longer than it is"));
        }
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, from).map_err(text)?;
        Ok(bytes)
    };
    let trailer = end.saturating_sub(TRAILER as u64);
    let last: [u8; TRAILER] = bytes(trailer, TRAILER)?.try_into().map_err(|_| damaged("its end"))?;
    let length = reader::read_footer_length(last).map_err(text)?;
    let footer = bytes(trailer.saturating_sub(length as u64), length)?;
    let footer = root_as_footer(&footer).map_err(text)?;
    let block = |block: &Block| -> Checked<usize> {
        let from = unsigned(block.offset())?;
        let head = unsigned(i64::from(block.metaDataLength()))?;
        let body = unsigned(block.bodyLength())?;
        let begin = from.checked_add(head).ok_or_else(|| damaged("a length"))?;
        if begin.checked_add(body).is_none_or(|to| to > end) {
            return Err(damaged("it says that it is longer than it is"));
        }
        let head = bytes(from, head as usize)?;
        let message = message(&head)?;
        let batch = batch(&message)?;
        if let Some(compression) = batch.compression() {
            for buffer in batch.buffers().iter().flatten() {
                let (at, length) = (unsigned(buffer.offset())?, unsigned(buffer.length())?);
                if at.checked_add(length).is_none_or(|to| to > body) {
                    return Err(damaged("a buffer ends beyond its part"));
                }
                if length > PREFIX as u64 {
                    let prefix = bytes(begin + at, PREFIX)?.try_into().map_err(|_| damaged("a length"))?;
                    fits(i64::from_le_bytes(prefix), length - PREFIX as u64, compression.codec())?;
                }
            }
        }
        usize::try_from(batch.length()).map_err(|_| damaged("a number of rows"))
    };
    for dictionary in footer.dictionaries().iter().flatten() {
        block(dictionary)?;
    }
    footer.recordBatches().iter().flatten().map(block).collect()
}

/// Whether so many bytes can become so many, and whether there is so much memory.
fn fits(unpacked: i64, packed: u64, codec: CompressionType) -> Checked<()> {
    // Of another length, below zero too, arrow-ipc says what it is.
    let Ok(unpacked) = u64::try_from(unpacked) else {
        return Ok(());
    };
    // What the formats can do at best: a byte of LZ4 stands for 255 more of a run, four of Zstandard for a block of 128 KB.
    let most = match codec {
        CompressionType::LZ4_FRAME => 255,
        _ => 1 << 15,
    };
    if unpacked > packed.saturating_mul(most) {
        return Err(damaged(&format!("{packed} bytes cannot become {unpacked}")));
    }
    let size = usize::try_from(unpacked).map_err(text)?;
    let tried = Vec::<u8>::new().try_reserve_exact(size);
    tried.map_err(|_| format!("a part of the file needs {unpacked} bytes, more than there is memory"))
}

fn message(head: &[u8]) -> Checked<Message<'_>> {
    // A mark that older files do not have, and the length.
    let before = if head.starts_with(&[0xff; 4]) { 8 } else { 4 };
    let rest = head.get(before..).ok_or_else(|| damaged("a part without a head"))?;
    root_as_message(rest).map_err(text)
}

fn batch<'a>(message: &Message<'a>) -> Checked<RecordBatch<'a>> {
    let batch = match message.header_type() {
        MessageHeader::DictionaryBatch => message.header_as_dictionary_batch().and_then(|batch| batch.data()),
        _ => message.header_as_record_batch(),
    };
    batch.ok_or_else(|| damaged("a part without rows"))
}

fn unsigned(number: i64) -> Checked<u64> {
    u64::try_from(number).map_err(|_| damaged("a length below zero"))
}

fn damaged(what: &str) -> String {
    format!("the file is damaged: {what}")
}

fn text(error: impl Display) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_refused_and_the_most_that_can_be_is_not() {
        let (lz4, zstd) = (CompressionType::LZ4_FRAME, CompressionType::ZSTD);
        for size in [-1, 0, 255 * 20] {
            assert_eq!(fits(size, 20, lz4), Ok(()), "{size}");
        }
        assert!(
            fits(255 * 20 + 1, 20, lz4)
                .unwrap_err()
                .contains("20 bytes cannot become 5101")
        );
        assert_eq!(fits(20 << 15, 20, zstd), Ok(()));
        assert!(fits((20 << 15) + 1, 20, zstd).is_err());
        let much = fits(1 << 60, 1 << 50, zstd).unwrap_err();
        assert!(much.ends_with("more than there is memory"), "{much}");
    }
}
