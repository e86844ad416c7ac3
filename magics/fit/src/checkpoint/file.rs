//! A safetensors file, written whole or not at all. tch reads such files but leaves out their metadata, and writes them
//! without waiting for the disk.

use crate::error::{Error, Kind, Result};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use tch::{Device, Kind as TKind, Tensor};

/// No header of ours comes near; a larger number is another kind of file.
const LONGEST_HEADER: u64 = 100_000_000;

/// Texts beside the tensors.
pub(crate) type Metadata = BTreeMap<String, String>;

/// Writes tensors and texts; see [`replace`].
///
/// # Errors
/// When it cannot be written; nothing is left then.
pub(crate) fn write(path: &Path, tensors: &[(String, Tensor)], metadata: &Metadata) -> Result<()> {
    replace(path, |file| write_to(file, tensors, metadata))
}

/// Writes beside the place first, waits for the disk, then renames: whatever happens, the file that was there is whole.
///
/// # Errors
/// When it cannot be written; nothing is left then.
pub(crate) fn replace(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> Result<()>) -> Result<()> {
    let beside = beside(path);
    let written = || {
        let mut file = BufWriter::new(File::create(&beside)?);
        write(&mut file)?;
        file.flush()?;
        file.get_ref().sync_all()?;
        std::fs::rename(&beside, path)?;
        // The new name, too, is on the disk then. Not all file systems know this of a folder.
        if let Ok(folder) = File::open(folder(path)) {
            let _ = folder.sync_all();
        }
        Ok(())
    };
    written().map_err(|error: Error| {
        let _ = std::fs::remove_file(&beside);
        error
            .at(&format!("cannot write {}", path.display()))
            .hint("is the disk full, or the folder read-only? What was saved there before is whole")
    })
}

/// The folder that a path is in.
pub(crate) fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Another name in the same folder; two processes never share one.
fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    folder(path).join(format!(".{name}.{}.part", std::process::id()))
}

fn write_to(file: &mut BufWriter<File>, tensors: &[(String, Tensor)], metadata: &Metadata) -> Result<()> {
    let _guard = tch::no_grad_guard();
    // The widest numbers first, so that each tensor begins at a multiple of its numbers' width.
    let mut order: Vec<&(String, Tensor)> = tensors.iter().collect();
    order.sort_by(|a, b| {
        let width = |tensor: &Tensor| tensor.kind().elt_size_in_bytes();
        width(&b.1).cmp(&width(&a.1)).then_with(|| a.0.cmp(&b.0))
    });
    let mut header = Map::new();
    header.insert("__metadata__".to_owned(), json!(metadata));
    let mut end = 0;
    for (name, tensor) in &order {
        let begin = end;
        end += tensor.numel() * tensor.kind().elt_size_in_bytes();
        let entry =
            json!({ "dtype": dtype(name, tensor.kind())?, "shape": tensor.size(), "data_offsets": [begin, end] });
        header.insert(name.clone(), entry);
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(&header)?;
    for (_, tensor) in order {
        file.write_all(&bytes_of(tensor)?)?;
    }
    Ok(())
}

/// A tensor's numbers, row by row, as they are in memory.
///
/// # Errors
/// When its device has no memory left.
pub(crate) fn bytes_of(tensor: &Tensor) -> Result<Vec<u8>> {
    let tensor = tensor.f_detach()?.f_to_device(Device::Cpu)?.f_contiguous()?;
    let mut bytes = vec![0; tensor.numel() * tensor.kind().elt_size_in_bytes()];
    tensor.f_copy_data_u8(&mut bytes, tensor.numel())?;
    Ok(bytes)
}

fn dtype(name: &str, kind: TKind) -> Result<&'static str> {
    Ok(match kind {
        TKind::Double => "F64",
        TKind::Float => "F32",
        TKind::Half => "F16",
        TKind::BFloat16 => "BF16",
        TKind::Int64 => "I64",
        TKind::Int => "I32",
        TKind::Int16 => "I16",
        TKind::Int8 => "I8",
        TKind::Uint8 => "U8",
        TKind::Bool => "BOOL",
        other => {
            return Err(Error::new(
                Kind::Data,
                format!("{name} is of Kind::{other:?}, which a safetensors file cannot hold"),
            ));
        }
    })
}

/// Reads the texts of a file, not its tensors.
///
/// # Errors
/// When it cannot be read, or is no safetensors file.
pub(crate) fn read_metadata(path: &Path) -> Result<Metadata> {
    let read = || -> Result<Metadata> {
        let mut file = File::open(path)?;
        let mut length = [0; 8];
        file.read_exact(&mut length)?;
        let length = u64::from_le_bytes(length);
        if length > LONGEST_HEADER {
            return Err(Error::new(Kind::Data, "it is no safetensors file"));
        }
        let mut header = vec![0; length as usize];
        file.read_exact(&mut header)?;
        let header: Value =
            serde_json::from_slice(&header).map_err(|_| Error::new(Kind::Data, "it is no safetensors file"))?;
        let texts = header.get("__metadata__").and_then(Value::as_object);
        let text = |(name, value): (&String, &Value)| Some((name.clone(), value.as_str()?.to_owned()));
        Ok(texts
            .map(|texts| texts.iter().filter_map(text).collect())
            .unwrap_or_default())
    };
    read().map_err(|error| error.at(&format!("cannot read {}", path.display())))
}

/// Reads the tensors of a file, onto the CPU.
///
/// # Errors
/// When it cannot be read, or is no safetensors file.
pub(crate) fn read_tensors(path: &Path) -> Result<Vec<(String, Tensor)>> {
    // The header is looked at first: its faults are said in plainer words.
    read_metadata(path)?;
    Tensor::read_safetensors(path).map_err(|error| {
        Error::new(Kind::Data, format!("cannot read {}: {error}", path.display()))
            .hint("the file is damaged: take another checkpoint")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_and_texts_come_back_as_they_were() {
        let _turn = crate::tests::in_turn();
        let folder = crate::tests::Folder::new("file");
        let path = folder.join("a.safetensors");
        let tensors = vec![
            (
                "half".to_owned(),
                Tensor::from_slice(&[1.5f32, -0.0]).to_kind(TKind::Half),
            ),
            ("count".to_owned(), Tensor::from(7i64)),
            (
                "turned".to_owned(),
                Tensor::arange(6, (TKind::Float, Device::Cpu)).view([2, 3]).tr(),
            ),
            ("none".to_owned(), Tensor::zeros([0, 3], (TKind::Double, Device::Cpu))),
            ("yes".to_owned(), Tensor::from_slice(&[true, false, true])),
        ];
        let texts = Metadata::from([("words".to_owned(), "\"ä\" and\nmore".to_owned())]);
        write(&path, &tensors, &texts).unwrap();
        assert_eq!(read_metadata(&path).unwrap(), texts);
        let mut back = read_tensors(&path).unwrap();
        back.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(back.len(), tensors.len());
        for (name, tensor) in &tensors {
            let (_, read) = back.iter().find(|(n, _)| n == name).unwrap();
            assert_eq!((read.kind(), read.size()), (tensor.kind(), tensor.size()), "{name}");
            assert_eq!(read, tensor, "{name}");
        }
        // Nothing is left beside it.
        assert_eq!(std::fs::read_dir(&*folder).unwrap().count(), 1);
    }

    #[test]
    fn what_is_no_such_file_is_said() {
        let _turn = crate::tests::in_turn();
        let folder = crate::tests::Folder::new("other");
        let path = folder.join("a.safetensors");
        let said = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            let text = read_tensors(&path).unwrap_err().message().to_owned();
            text.replace(&*path.to_string_lossy(), "FILE")
        };
        assert_eq!(
            said(b"a text of some length"),
            "cannot read FILE: it is no safetensors file"
        );
        assert_eq!(said(b"abc"), "cannot read FILE: failed to fill whole buffer");
        let error = read_tensors(&folder.join("b")).unwrap_err();
        assert!(
            error.message().ends_with("No such file or directory (os error 2)"),
            "{error}"
        );
        write(&path, &[("x".to_owned(), Tensor::from(1.0))], &Metadata::new()).unwrap();
        let whole = std::fs::read(&path).unwrap();
        let error = said(&whole[..whole.len() - 1]);
        assert!(error.starts_with("cannot read FILE: safetensors error"), "{error}");
    }

    #[test]
    fn a_file_that_cannot_be_written_leaves_the_old_one() {
        let _turn = crate::tests::in_turn();
        let folder = crate::tests::Folder::new("full");
        let path = folder.join("a.safetensors");
        write(&path, &[("x".to_owned(), Tensor::from(1.0))], &Metadata::new()).unwrap();
        let before = std::fs::read(&path).unwrap();
        let complex = Tensor::zeros([1], (TKind::ComplexFloat, Device::Cpu));
        let error = write(&path, &[("z".to_owned(), complex)], &Metadata::new()).unwrap_err();
        assert!(
            error
                .message()
                .ends_with("z is of Kind::ComplexFloat, which a safetensors file cannot hold"),
            "{error}"
        );
        assert_eq!(std::fs::read(&path).unwrap(), before);
        assert_eq!(std::fs::read_dir(&*folder).unwrap().count(), 1);
    }
}
