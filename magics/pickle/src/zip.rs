//! Zip archives whose entries are stored, not compressed, as PyTorch writes them: reading by the directory at the end, and
//! writing with each entry's bytes at a multiple of 64. Files and entries over 4 GB are in the 64-bit form.
//!
//! Source: PKWARE's APPNOTE.TXT, sections 4.3 to 4.5. Why no crate: see ARCHITECTURE.md.

use crate::{Result, fault};
use std::io::{Read, Seek, SeekFrom, Write};

/// Bytes of an entry begin at a multiple of this, for readers that map the file.
const ALIGNMENT: u64 = 64;
/// What stands in a 32-bit field when the number is in the 64-bit one.
const ELSEWHERE: u64 = 0xffff_ffff;

const LOCAL: u32 = 0x0403_4b50;
const CENTRAL: u32 = 0x0201_4b50;
const END: u32 = 0x0605_4b50;
const END_64: u32 = 0x0606_4b50;
const LOCATOR_64: u32 = 0x0706_4b50;

/// Whether a file that begins so may be one.
pub(crate) fn begins(bytes: &[u8]) -> bool {
    bytes.starts_with(&LOCAL.to_le_bytes())
}

/// An entry of the directory.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub name: String,
    pub size: u64,
    header: u64,
}

/// Little-endian numbers from bytes; beyond their end there are zeros, which no check below takes for anything.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn bytes<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut array = [0; N];
        if let Some(there) = self.0.get(at..at + N) {
            array.copy_from_slice(there);
        }
        array
    }

    fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes(self.bytes(at))
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.bytes(at))
    }

    fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.bytes(at))
    }
}

/// Reads so many bytes at a place, if the file has them.
fn read_at(file: &mut (impl Read + Seek), length: u64, at: u64, count: u64) -> Result<Vec<u8>> {
    let there = at.checked_add(count).is_some_and(|end| end <= length);
    let (true, Ok(count)) = (there, usize::try_from(count)) else {
        return fault(format!(
            "{count} bytes should be at byte {at}, and the file has {length}"
        ));
    };
    file.seek(SeekFrom::Start(at))?;
    let mut bytes = vec![0; count];
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// The entries of an archive of this length.
pub(crate) fn entries(file: &mut (impl Read + Seek), length: u64) -> Result<Vec<Entry>> {
    let (count, size, at) = directory(file, length)?;
    let bytes = read_at(file, length, at, size)?;
    let mut entries = Vec::new();
    let mut rest = &bytes[..];
    while (entries.len() as u64) < count {
        let fields = Fields(rest);
        if fields.u32(0) != CENTRAL {
            return fault(format!("its directory has {} entries, not {count}", entries.len()));
        }
        let [name, extra, comment] = [28, 30, 32].map(|at| usize::from(fields.u16(at)));
        let end = 46 + name + extra + comment;
        if end > rest.len() {
            return fault("its directory ends within an entry");
        }
        let entry = Entry {
            name: String::from_utf8_lossy(&rest[46..46 + name]).into_owned(),
            size: 0,
            header: 0,
        };
        if fields.u16(10) != 0 || fields.u16(8) & 1 != 0 {
            return fault(format!("{} is compressed, which PyTorch does not do", entry.name));
        }
        // Compressed size, size, place of the header: in this order among the 64-bit fields, as far as they are there.
        let short = [20, 24, 42].map(|at| u64::from(fields.u32(at)));
        let [_, size, header] = long_fields(&rest[46 + name..46 + name + extra], [short[1], short[0], short[2]]);
        entries.push(Entry { size, header, ..entry });
        rest = &rest[end..];
    }
    Ok(entries)
}

/// Size, compressed size and place, from the 64-bit fields where the 32-bit ones say so.
fn long_fields(extra: &[u8], short: [u64; 3]) -> [u64; 3] {
    let mut values = short;
    let mut rest = extra;
    while rest.len() >= 4 {
        let fields = Fields(rest);
        let end = (4 + usize::from(fields.u16(2))).min(rest.len());
        if fields.u16(0) == 1 {
            let long = Fields(&rest[4..end]);
            let mut at = 0;
            for value in values.iter_mut().filter(|value| **value == ELSEWHERE) {
                if at + 8 <= long.0.len() {
                    *value = long.u64(at);
                }
                at += 8;
            }
        }
        rest = &rest[end..];
    }
    // A stored entry is as long as its bytes are.
    [values[0], values[0], values[2]]
}

/// Number of entries, size and place of the directory.
fn directory(file: &mut (impl Read + Seek), length: u64) -> Result<(u64, u64, u64)> {
    // At the very end, or before a comment.
    let tail = length.min(22 + 0xffff);
    let bytes = read_at(file, length, length - tail, tail)?;
    let found = (0..=bytes.len().saturating_sub(22)).rev();
    let end = found.into_iter().find(|at| Fields(&bytes[*at..]).u32(0) == END);
    let Some(end) = end.filter(|end| end + 22 <= bytes.len()) else {
        return fault("its directory is missing: the file is not whole");
    };
    let fields = Fields(&bytes[end..]);
    let short = (
        u64::from(fields.u16(10)),
        u64::from(fields.u32(12)),
        u64::from(fields.u32(16)),
    );
    let at = length - tail + end as u64;
    let Some(locator) = at.checked_sub(20) else {
        return Ok(short);
    };
    let locator = read_at(file, length, locator, 20)?;
    let locator = Fields(&locator);
    if locator.u32(0) != LOCATOR_64 {
        return Ok(short);
    }
    let long = read_at(file, length, locator.u64(8), 56)?;
    let long = Fields(&long);
    if long.u32(0) != END_64 {
        return fault("its directory is not where it should be");
    }
    Ok((long.u64(32), long.u64(40), long.u64(48)))
}

/// The place of an entry's bytes.
pub(crate) fn place(file: &mut (impl Read + Seek), length: u64, entry: &Entry) -> Result<u64> {
    let bytes = read_at(file, length, entry.header, 30)?;
    let fields = Fields(&bytes);
    if fields.u32(0) != LOCAL {
        return fault(format!("{} is not where the directory says", entry.name));
    }
    let begin = entry.header + 30 + u64::from(fields.u16(26)) + u64::from(fields.u16(28));
    if begin.checked_add(entry.size).is_none_or(|end| end > length) {
        return fault(format!(
            "{} should have {} bytes, and the file ends before",
            entry.name, entry.size
        ));
    }
    Ok(begin)
}

/// Part of an entry's bytes.
pub(crate) fn read(file: &mut (impl Read + Seek), length: u64, entry: &Entry, count: u64) -> Result<Vec<u8>> {
    let begin = place(file, length, entry)?;
    if count > entry.size {
        return fault(format!("{} has {} bytes, not {count}", entry.name, entry.size));
    }
    read_at(file, length, begin, count)
}

/// Writes an archive.
pub(crate) struct Writer<W: Write> {
    file: W,
    at: u64,
    directory: Vec<u8>,
    count: u64,
}

impl<W: Write> Writer<W> {
    /// That goes on at a place of a file; 0 for a new one.
    pub fn new(file: W, at: u64) -> Writer<W> {
        Writer {
            file,
            at,
            directory: Vec::new(),
            count: 0,
        }
    }

    /// Adds an entry.
    pub fn add(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let header = self.at;
        let (size, crc) = (bytes.len() as u64, crc32fast::hash(bytes));
        let Ok(name_length) = u16::try_from(name.len()) else {
            return fault(format!("the name {name} is too long"));
        };
        // The sizes, when they are long; then as much as the alignment needs, in a field that readers leave out.
        let long = size >= ELSEWHERE;
        let mut extra = Vec::new();
        if long {
            extra.extend([1u16, 16].into_iter().flat_map(u16::to_le_bytes));
            extra.extend([size, size].into_iter().flat_map(u64::to_le_bytes));
        }
        let unpadded = header + 30 + u64::from(name_length) + extra.len() as u64 + 4;
        let padding = (unpadded.next_multiple_of(ALIGNMENT) - unpadded) as u16;
        extra.extend(*b"FB");
        extra.extend(padding.to_le_bytes());
        extra.resize(extra.len() + usize::from(padding), b'Z');
        let short = if long { ELSEWHERE as u32 } else { size as u32 };
        let common = |extra: &[u8]| {
            let mut fields = Vec::new();
            // Version, flags (names are UTF-8), method (stored), time and date (1980-01-01).
            let version: u16 = if long || header >= ELSEWHERE { 45 } else { 20 };
            fields.extend([version, 0x800, 0, 0, 0x21].into_iter().flat_map(u16::to_le_bytes));
            fields.extend([crc, short, short].into_iter().flat_map(u32::to_le_bytes));
            fields.extend([name_length, extra.len() as u16].into_iter().flat_map(u16::to_le_bytes));
            fields
        };
        let mut local = LOCAL.to_le_bytes().to_vec();
        local.extend(common(&extra));
        local.extend(name.bytes());
        local.extend(&extra);
        self.put(&local)?;
        self.put(bytes)?;

        let mut extra = Vec::new();
        let far = header >= ELSEWHERE;
        let numbers = [(long, size), (long, size), (far, header)];
        let numbers: Vec<u64> = numbers.into_iter().filter(|(long, _)| *long).map(|(_, n)| n).collect();
        if !numbers.is_empty() {
            extra.extend([1, 8 * numbers.len() as u16].into_iter().flat_map(u16::to_le_bytes));
            extra.extend(numbers.into_iter().flat_map(u64::to_le_bytes));
        }
        self.directory.extend(CENTRAL.to_le_bytes());
        self.directory.extend(45u16.to_le_bytes());
        self.directory.extend(common(&extra));
        // Comment, disk and two kinds of attributes: none.
        self.directory.extend([0; 10]);
        let short = if far { ELSEWHERE as u32 } else { header as u32 };
        self.directory.extend(short.to_le_bytes());
        self.directory.extend(name.bytes());
        self.directory.extend(&extra);
        self.count += 1;
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes)?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// Writes the directory.
    pub fn finish(mut self) -> Result<W> {
        let (begin, size, count) = (self.at, self.directory.len() as u64, self.count);
        let mut end = std::mem::take(&mut self.directory);
        if begin >= ELSEWHERE || size >= ELSEWHERE || count >= 0xffff {
            end.extend(END_64.to_le_bytes());
            // Its own size without what is before here, versions, disks.
            end.extend(44u64.to_le_bytes());
            end.extend([45u16, 45].into_iter().flat_map(u16::to_le_bytes));
            end.extend([0; 8]);
            end.extend([count, count, size, begin].into_iter().flat_map(u64::to_le_bytes));
            end.extend(LOCATOR_64.to_le_bytes());
            end.extend([0; 4]);
            end.extend((begin + size).to_le_bytes());
            end.extend(1u32.to_le_bytes());
        }
        let short = |number: u64| number.min(ELSEWHERE) as u32;
        end.extend(END.to_le_bytes());
        end.extend([0; 4]);
        let entries = count.min(0xffff) as u16;
        end.extend([entries, entries].into_iter().flat_map(u16::to_le_bytes));
        end.extend([short(size), short(begin)].into_iter().flat_map(u32::to_le_bytes));
        end.extend([0; 2]);
        self.put(&end)?;
        self.file.flush()?;
        Ok(self.file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    /// A file that begins with so many zeros, which are not there.
    struct Late {
        begin: u64,
        at: u64,
        rest: Cursor<Vec<u8>>,
    }

    impl Read for Late {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let zeros = self.begin.saturating_sub(self.at).min(buffer.len() as u64) as usize;
            let count = if zeros > 0 {
                buffer[..zeros].fill(0);
                zeros
            } else {
                self.rest.set_position(self.at - self.begin);
                self.rest.read(buffer)?
            };
            self.at += count as u64;
            Ok(count)
        }
    }

    impl Seek for Late {
        fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
            let SeekFrom::Start(at) = to else { unreachable!() };
            self.at = at;
            Ok(at)
        }
    }

    #[test]
    fn entries_come_back_aligned_wherever_they_are() {
        for begin in [0, 7, (1 << 32) - 40, 1 << 40] {
            let mut writer = Writer::new(Vec::new(), begin);
            let entries = [
                ("a/data.pkl", vec![1u8; 100]),
                ("a/data/0", Vec::new()),
                ("ä", vec![2; 3]),
            ];
            for (name, bytes) in &entries {
                writer.add(name, bytes).unwrap();
            }
            let bytes = writer.finish().unwrap();
            let length = begin + bytes.len() as u64;
            let rest = Cursor::new(bytes);
            let mut file = Late { begin, at: 0, rest };
            let found = super::entries(&mut file, length).unwrap();
            assert_eq!(found.len(), entries.len());
            for (entry, (name, bytes)) in found.iter().zip(&entries) {
                assert_eq!((&*entry.name, entry.size), (*name, bytes.len() as u64));
                assert_eq!(place(&mut file, length, entry).unwrap() % ALIGNMENT, 0);
                assert_eq!(&read(&mut file, length, entry, entry.size).unwrap(), bytes);
            }
        }
    }

    #[test]
    fn long_sizes_are_where_the_short_ones_say_so() {
        let field = |numbers: &[u64]| {
            let mut extra = vec![9, 9, 1, 0, 0xff];
            extra.extend([1, 8 * numbers.len() as u16].into_iter().flat_map(u16::to_le_bytes));
            extra.extend(numbers.iter().flat_map(|n| n.to_le_bytes()));
            extra
        };
        let (size, far) = (5 << 32, 7 << 32);
        assert_eq!(
            long_fields(&field(&[size, size, far]), [ELSEWHERE; 3]),
            [size, size, far]
        );
        assert_eq!(long_fields(&field(&[far]), [10, 10, ELSEWHERE]), [10, 10, far]);
        assert_eq!(
            long_fields(&field(&[size, size]), [ELSEWHERE, ELSEWHERE, 3]),
            [size, size, 3]
        );
        assert_eq!(long_fields(&[1, 0], [ELSEWHERE, 1, 2]), [ELSEWHERE, ELSEWHERE, 2]);
    }
}
