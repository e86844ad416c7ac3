//! Files that PyTorch and Lightning wrote (`files/make.py`), and what is wrong with others.

use lightcell_pickle::{Archive, DType, Storage, Tensor, Value, write};
use std::collections::HashSet;
use std::io::Cursor;
use std::path::PathBuf;

fn file(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "files", name].iter().collect()
}

fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(file(name)).unwrap()
}

fn tensor(object: &Value, name: &str) -> Tensor {
    match object.get(name) {
        Some(Value::Tensor(tensor)) => tensor.clone(),
        other => panic!("{name}: {other:?}"),
    }
}

/// The numbers of a tensor of float32, in order.
fn numbers(archive: &mut Archive, tensor: &Tensor) -> Vec<f32> {
    let storage = archive.storage(tensor).unwrap();
    let (all, _) = storage.as_chunks::<4>();
    let mut places = vec![tensor.offset];
    for (size, stride) in tensor.size.iter().zip(&tensor.stride) {
        places = places
            .iter()
            .flat_map(|at| (0..*size).map(move |step| at + step * stride))
            .collect();
    }
    places.iter().map(|at| f32::from_le_bytes(all[*at as usize])).collect()
}

#[test]
fn tensors_of_all_types_views_and_shared_storages_are_read() {
    for name in ["tensors.pt", "legacy.pt"] {
        let mut archive = Archive::open(file(name)).unwrap();
        let object = archive.object().unwrap();
        let types = [
            ("float64", DType::F64),
            ("float32", DType::F32),
            ("float16", DType::F16),
            ("bfloat16", DType::BF16),
            ("int64", DType::I64),
            ("int32", DType::I32),
            ("int16", DType::I16),
            ("int8", DType::I8),
            ("uint8", DType::U8),
            ("bool", DType::Bool),
            ("complex64", DType::C64),
            ("complex128", DType::C128),
            ("float8_e4m3fn", DType::F8E4M3FN),
            ("float8_e5m2", DType::F8E5M2),
        ];
        for (key, dtype) in types {
            let found = tensor(&object, key);
            assert_eq!((found.dtype, &*found.size), (dtype, &[3][..]), "{name} {key}");
            let bytes = archive.storage(&found).unwrap();
            assert_eq!(bytes.len() as u64, 3 * dtype.width(), "{name} {key}");
        }
        assert_eq!(archive.storage(&tensor(&object, "int16")).unwrap(), [0, 0, 1, 0, 2, 0]);
        assert_eq!(archive.storage(&tensor(&object, "bool")).unwrap(), [0, 1, 1]);
        let half = archive.storage(&tensor(&object, "bfloat16")).unwrap();
        assert_eq!(half, [0, 0, 0x80, 0x3f, 0, 0x40]);
        let mut read = |key: &str| {
            let found = tensor(&object, key);
            numbers(&mut archive, &found)
        };
        assert_eq!(read("row"), [6.0, 7.0, 8.0, 9.0, 10.0, 11.0]);
        assert_eq!(read("turned")[..5], [0.0, 6.0, 12.0, 18.0, 1.0]);
        assert_eq!(read("every_second")[..3], [1.0, 3.0, 5.0]);
        assert_eq!(read("wide"), [5.0; 12]);
        let shared: HashSet<String> = ["row", "turned", "every_second"]
            .map(|key| tensor(&object, key).storage)
            .into();
        assert_eq!(shared.len(), 1, "{name}");
        assert_eq!(tensor(&object, "scalar").size, [0u64; 0]);
        assert_eq!(tensor(&object, "empty").size, [0, 3]);
        assert!(tensor(&object, "parameter").requires_grad);
        assert_eq!(object.entries().unwrap().len(), 21);
    }
}

#[test]
fn plain_objects_are_read_from_old_and_new_protocols() {
    for name in ["plain.pt", "plain4.pt"] {
        let object = Archive::open(file(name)).unwrap().object().unwrap();
        let ints = |list: &[i64]| -> Vec<Value> { list.iter().map(|n| Value::Int(*n)).collect() };
        let long = Value::Long([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1][..].into());
        let expected = [
            ("none", Value::None),
            ("yes", Value::Bool(true)),
            ("no", Value::Bool(false)),
            ("small", Value::Int(7)),
            ("byte", Value::Int(200)),
            ("negative", Value::Int(-3)),
            ("wide", Value::Int(1 << 40)),
            ("long", long),
            ("float", Value::Float(0.1)),
            ("inf", Value::Float(f64::NEG_INFINITY)),
            ("text", Value::text("zeile\nä")),
            ("bytes", Value::Bytes([0, 0xff][..].into())),
            (
                "list",
                Value::List(vec![
                    Value::Int(1),
                    Value::List(vec![Value::Float(2.5), Value::text("x")]),
                ]),
            ),
            (
                "tuple",
                Value::Tuple(vec![Value::Int(1), Value::Tuple(ints(&[2, 3, 4, 5]))]),
            ),
            ("one", Value::Tuple(ints(&[1]))),
            ("nothing", Value::Tuple(Vec::new())),
            ("set", Value::Set(ints(&[1]))),
            ("size", Value::Tuple(ints(&[2, 3]))),
            ("dtype", Value::DType(DType::BF16)),
            ("device", Value::text("cuda:1")),
            ("path", Value::text("/a/b")),
            ("ordered", Value::dict([("b", Value::Int(1)), ("a", Value::Int(2))])),
            ("counter", Value::dict([("a", Value::Int(2)), ("b", Value::Int(1))])),
            ("namespace", Value::dict([("lr", Value::Float(0.1))])),
            (
                "hparams",
                Value::dict([
                    ("lr", Value::Float(0.2)),
                    ("nested", Value::dict([("size", Value::Int(3))])),
                ]),
            ),
        ];
        for (key, value) in &expected {
            assert_eq!(object.get(key), Some(value), "{name} {key}");
        }
        let entries = object.entries().unwrap();
        assert_eq!(entries.len(), expected.len() + 1);
        assert_eq!(entries.last().unwrap().0, Value::Int(3));
    }
}

#[test]
fn a_checkpoint_of_lightning_is_read() {
    let mut archive = Archive::open(file("lightning.ckpt")).unwrap();
    let object = archive.object().unwrap();
    assert_eq!(object.get("global_step").and_then(Value::as_u64), Some(2));
    let hparams = object.get("hyper_parameters").unwrap();
    assert_eq!(hparams.get("name").and_then(Value::as_str), Some("tiny"));
    let weight = tensor(object.get("state_dict").unwrap(), "l1.weight");
    assert_eq!(weight.size, [3, 2]);
    assert_eq!(numbers(&mut archive, &weight).len(), 6);
    let states = object.get("optimizer_states").and_then(Value::items).unwrap();
    let group = &states[0].get("param_groups").and_then(Value::items).unwrap()[0];
    assert_eq!(group.get("params").and_then(Value::items).map(<[Value]>::len), Some(2));
}

#[test]
fn what_is_written_is_read_as_it_was() {
    for name in ["tensors.pt", "plain.pt", "lightning.ckpt"] {
        let mut archive = Archive::open(file(name)).unwrap();
        let object = archive.object().unwrap();
        let mut storages: Vec<Storage> = Vec::new();
        let mut open = vec![&object];
        while let Some(value) = open.pop() {
            match value {
                Value::Tensor(tensor) if storages.iter().all(|s| s.key != tensor.storage) => storages.push(Storage {
                    key: tensor.storage.clone(),
                    bytes: archive.storage(tensor).unwrap(),
                }),
                Value::Dict(entries) => open.extend(entries.iter().map(|(_, value)| value)),
                Value::List(items) => open.extend(items),
                _ => {}
            }
        }
        let written = write(Vec::new(), &object, storages.clone()).unwrap();
        let mut again = Archive::new(Cursor::new(written)).unwrap();
        assert_eq!(again.object().unwrap(), object, "{name}");
        for storage in &storages {
            let mut whole = Tensor::contiguous(DType::U8, &storage.key, &[storage.bytes.len() as u64]);
            whole.storage_len = storage.bytes.len() as u64;
            assert_eq!(again.storage(&whole).unwrap(), storage.bytes);
        }
    }
}

fn said(bytes: Vec<u8>) -> String {
    let mut archive = match Archive::new(Cursor::new(bytes)) {
        Ok(archive) => archive,
        Err(error) => return error.to_string(),
    };
    match archive.object() {
        Ok(Value::Dict(entries)) => {
            let first = entries.iter().find_map(|(_, value)| match value {
                Value::Tensor(tensor) => Some(tensor.clone()),
                _ => None,
            });
            let read = archive.storage(&first.expect("a tensor"));
            read.map_or_else(|error| error.to_string(), |_| "nothing".to_owned())
        }
        Ok(other) => format!("{other:?}"),
        Err(error) => error.to_string(),
    }
}

/// A file with this pickle.
fn around(pickle: &[u8]) -> Vec<u8> {
    // Any object of the same length can be replaced in the file that we write.
    let filler = Value::text(&"x".repeat(pickle.len()));
    let whole = write(Vec::new(), &filler, []).unwrap();
    let begin = whole.windows(3).position(|part| part == [0x80, 2, b'X']).unwrap();
    let mut whole = whole;
    whole[begin..begin + pickle.len()].copy_from_slice(pickle);
    whole
}

#[test]
fn what_names_another_type_is_refused_by_its_name() {
    assert_eq!(
        said(bytes("other.pt")),
        "at byte 34 of its pickle: it names `__main__.Other`, which is not among the types that are read (tensors, numbers, texts, lists, dictionaries)"
    );
    let run = |pickle: &[u8]| said(around(pickle));
    let system = run(b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00id\x85R.");
    assert!(system.contains("it names `os.system`, which"), "{system}");
    let stacked = run(b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93\x8c\x011\x85R.");
    assert!(stacked.contains("it names `builtins.eval`, which"), "{stacked}");
}

#[test]
fn damage_is_said_with_its_place() {
    let whole = bytes("tensors.pt");
    assert_eq!(said(whole.clone()), "nothing");
    assert_eq!(said(b"abc".to_vec()), "it is no file of torch.save");
    assert_eq!(
        said(whole[..whole.len() / 2].to_vec()),
        "its directory is missing: the file is not whole"
    );
    let old = bytes("legacy.pt");
    let cut = said(old[..old.len() - 3].to_vec());
    assert!(cut.ends_with("and the file ends before"), "{cut}");
    let run = |pickle: &[u8]| said(around(pickle));
    assert_eq!(
        run(b"\x80\x02X\xff\xff\xff\x7fabc."),
        "at byte 7 of its pickle: 2147483647 bytes should follow, 12 do"
    );
    assert_eq!(
        run(b"\x80\x02]h\x05."),
        "at byte 5 of its pickle: it refers to number 5, which it has not made"
    );
    assert_eq!(run(b"\x80\x02e."), "at byte 3 of its pickle: a mark is missing");
    assert_eq!(run(b"\x80\x02a."), "at byte 3 of its pickle: its stack is empty");
    assert_eq!(
        run(b"\x80\x00N."),
        "at byte 2 of its pickle: it is of protocol 0, not of 2 to 5"
    );
    assert_eq!(
        run(b"\x80\x02i."),
        "at byte 3 of its pickle: instruction 0x69 is not among those that plain data need"
    );
}

#[test]
fn lists_that_hold_each_other_are_no_endless_tree() {
    // A list that holds itself.
    let itself = said(around(b"\x80\x02]q\x00h\x00a."));
    assert!(
        itself.ends_with("more than 100 containers lie in each other"),
        "{itself}"
    );
    // Forty lists, each of which holds the one before twice.
    let mut pickle = b"\x80\x02]q\x00".to_vec();
    for at in 0..40u8 {
        pickle.extend([b']', b'(', b'h', at, b'h', at, b'e', b'q', at + 1]);
    }
    pickle.push(b'.');
    let doubled = said(around(&pickle));
    assert!(
        doubled.ends_with("it holds the same objects too many times"),
        "{doubled}"
    );
}

#[test]
fn a_storage_that_is_too_short_is_said() {
    let tensor = Tensor::contiguous(DType::F32, "0", &[4]);
    let object = Value::dict([("x", Value::Tensor(tensor))]);
    let short = Storage {
        key: "0".to_owned(),
        bytes: vec![0; 12],
    };
    let written = write(Vec::new(), &object, [short]).unwrap();
    assert_eq!(said(written), "archive/data/0 has 12 bytes, not 16");
    assert_eq!(said(write(Vec::new(), &object, []).unwrap()), "data/0 is missing");
    let outside = Tensor {
        offset: 1,
        ..Tensor::contiguous(DType::F32, "0", &[4])
    };
    let error = write(Vec::new(), &Value::Tensor(outside), []).unwrap_err();
    assert_eq!(
        error.to_string(),
        "a tensor of shape [4] reaches outside of its storage of 4 numbers"
    );
}
