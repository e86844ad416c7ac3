//! The user's line of a panic in a library: cells are compiled without the lines of their source, which would take a tenth of
//! the time of each; the one that panicked is compiled once more with them.

use addr2line::gimli;
use object::{Object, ObjectSection, ObjectSymbol};
use std::path::Path;

/// The lines in `src/lib.rs` of the calls of a cell (see [`lightcell_events::frame::Kind::Panic`]) that led to where its code
/// was left, innermost first. Empty when they cannot be found.
pub fn lines(session: &Path, calls: &str) -> Vec<usize> {
    look_up(session, calls).unwrap_or_default()
}

fn look_up(session: &Path, calls: &str) -> Option<Vec<usize>> {
    let (library, offsets) = calls.split_once('\n')?;
    let ran = std::fs::read(library).ok()?;
    let ran = object::File::parse(&*ran).ok()?;
    let again = std::fs::read(crate::replay::with_lines(session)?).ok()?;
    let again = object::File::parse(&*again).ok()?;
    let section = |id: gimli::SectionId| {
        let data = again.section_by_name(id.name()).and_then(|section| section.data().ok());
        Ok::<_, gimli::Error>(gimli::EndianSlice::new(data.unwrap_or_default(), gimli::LittleEndian))
    };
    let context = addr2line::Context::from_dwarf(gimli::Dwarf::load(section).ok()?).ok()?;
    let source = session.join("src/lib.rs");
    let mut lines = Vec::new();
    for offset in offsets.split_whitespace() {
        let offset = u64::from_str_radix(offset, 16).ok()?;
        let Some(Ok(mut frames)) = same_place(&ran, &again, offset).map(|at| context.find_frames(at).skip_all_loads())
        else {
            continue;
        };
        // A function that was inlined has frames of its own.
        while let Ok(Some(frame)) = frames.next() {
            let place = frame
                .location
                .filter(|place| place.file.is_some_and(|file| source == Path::new(file)));
            lines.extend(place.and_then(|place| place.line).map(|line| line as usize));
        }
    }
    Some(lines)
}

/// Where the code at a place of one library is in the other. Functions have other places there, but the same names and, as
/// lines do not change what is compiled, the same code; `None` when they do not.
fn same_place(ran: &object::File, again: &object::File, offset: u64) -> Option<u64> {
    let function = ran
        .symbols()
        .find(|symbol| (symbol.address()..symbol.address() + symbol.size()).contains(&offset))?;
    let name = function.name_bytes().ok()?;
    let other = again
        .symbols()
        .find(|symbol| symbol.name_bytes().is_ok_and(|other| other == name))?;
    (other.size() == function.size()).then(|| other.address() + (offset - function.address()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_library_there_are_no_lines() {
        for calls in ["", "/there/is/none.so\n1f a0 ", "no offsets", "/proc/self/exe\nzz"] {
            assert!(lines(Path::new("/there/is/none"), calls).is_empty(), "{calls}");
        }
    }

    #[test]
    fn code_is_found_by_its_function() {
        let own = std::fs::read("/proc/self/exe").unwrap();
        let own = object::File::parse(&*own).unwrap();
        let symbols = own.symbols();
        let function = symbols
            .into_iter()
            .find(|symbol| symbol.size() > 16 && symbol.is_definition())
            .unwrap();
        assert_eq!(
            same_place(&own, &own, function.address() + 3),
            Some(function.address() + 3)
        );
        assert_eq!(same_place(&own, &own, u64::MAX), None);
    }
}
