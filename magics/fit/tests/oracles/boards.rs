//! Row 18: event files, against what PyTorch, Lightning and TensorBoard's own reader make of the same; `boards.py`
//! beside this file wrote `tensorboard.json`.

use super::keeping::{Batches, Folder, ScriptHp, Scripted};
use super::{equal, file, in_turn};
use lightcell::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path as FilePath;

fn golden() -> Value {
    serde_json::from_str(&std::fs::read_to_string(file("tensorboard.json")).unwrap()).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The events in a folder's files, in the order in which TensorBoard reads them, without their times.
fn events(folder: &FilePath) -> Vec<Vec<u8>> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let is_events = |path: &std::path::PathBuf| path.file_name().unwrap().to_string_lossy().contains("tfevents");
    let mut paths: Vec<_> = entries.filter(is_events).collect();
    paths.sort();
    let mut all = Vec::new();
    for path in paths {
        let bytes = std::fs::read(path).unwrap();
        let mut rest = bytes.as_slice();
        let mut first = true;
        while !rest.is_empty() {
            let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
            let data = &rest[12..12 + length];
            rest = &rest[16 + length..];
            assert_eq!(data[0], 0x09, "an event begins with its time");
            if std::mem::take(&mut first) {
                assert_eq!(&data[9..], b"\x1a\x0dbrain.Event:2");
            } else {
                all.push(data[9..].to_vec());
            }
        }
    }
    all
}

fn hexes(value: &Value) -> Vec<String> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|hex| hex.as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn oracle_18_summaries_are_pytorchs_byte_by_byte() {
    let _turn = in_turn();
    let golden = golden();
    let ours = |write: &dyn Fn(&mut SummaryWriter) -> Result<()>| -> Vec<String> {
        let folder = Folder::new("board");
        write(&mut SummaryWriter::new(&folder.0).unwrap()).unwrap();
        events(&folder.0).iter().map(|event| hex(event)).collect()
    };
    let scalar = ours(&|writer| writer.add_scalar("loss/train", 0.1, 7));
    assert_eq!(scalar, hexes(&golden["scalar"]));
    let zero = ours(&|writer| writer.add_scalar("zero", 0.0, 0));
    assert_eq!(zero, hexes(&golden["scalar_at_0"]));
    let values = Tensor::from_slice(&[-2.5f32, -0.5, 0.0, 0.25, 1e-13, 1.0, 1.0, 1000.0]).view([2, 4]);
    let histogram = ours(&|writer| writer.add_histogram("weights", &values, 3));
    assert_eq!(histogram, hexes(&golden["histogram"]));
    let one = ours(&|writer| writer.add_histogram("one", &Tensor::from_slice(&[0.5]), 3));
    assert_eq!(one, hexes(&golden["histogram_of_one"]));
    let text = ours(&|writer| writer.add_text("note", "the **first** run, naïve", 2));
    assert_eq!(text, hexes(&golden["text"]));
    let hp = json!({ "name": "sgd", "lr": 0.1, "batch": 32, "optim": { "momentum": 0.9 }, "none": null });
    let accuracy = [("acc".to_owned(), 0.5)].into();
    let hparams = ours(&|writer| writer.add_hparams(&hp, &accuracy));
    assert_eq!(hparams[1], hexes(&golden["experiment"])[0]);
    for case in golden["hparams"].as_array().unwrap() {
        let hparams = ours(&|writer| writer.add_hparams(&case["hparams"], &accuracy));
        assert_eq!(hparams, hexes(&case["bytes"]), "{}", case["hparams"]);
    }
    equal(18, "event files: bytes of summaries");
}

/// The pixels of a PNG of ours, whose rows are not filtered.
fn pixels(png: &[u8], width: usize, channels: usize) -> Vec<u8> {
    let at = png.windows(4).position(|window| window == b"IDAT").unwrap();
    let length = u32::from_be_bytes(png[at - 4..at].try_into().unwrap()) as usize;
    let mut rows = Vec::new();
    flate2::read::ZlibDecoder::new(&png[at + 4..at + 4 + length])
        .read_to_end(&mut rows)
        .unwrap();
    let row = |row: &[u8]| {
        assert_eq!(row[0], 0);
        row[1..].to_vec()
    };
    rows.chunks(1 + width * channels).flat_map(row).collect()
}

#[test]
fn oracle_18_pictures_have_pytorchs_pixels() {
    let _turn = in_turn();
    let colours = (Tensor::arange(24, (Kind::Uint8, Device::Cpu)) * 10).view([3, 2, 4]);
    let grey = Tensor::from_slice(&[0.0f32, 0.5, 1.0, 2.0, -1.0, 0.25]).view([3, 2]);
    for (case, (tag, image)) in golden()["image"]
        .as_array()
        .unwrap()
        .iter()
        .zip([("colours", colours), ("grey", grey)])
    {
        let folder = Folder::new("picture");
        SummaryWriter::new(&folder.0)
            .unwrap()
            .add_image(tag, &image, 1)
            .unwrap();
        let image = |event: &[u8]| fields(&fields(&fields(&fields(event)[&5].1)[&1].1)[&4].1);
        let ours = image(&events(&folder.0)[0]);
        let theirs = hexes(&case["bytes"])[0].clone();
        let theirs: Vec<u8> = (0..theirs.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&theirs[at..at + 2], 16).unwrap())
            .collect();
        let theirs = image(&theirs);
        for size in [1, 2, 3] {
            assert_eq!(ours[&size], theirs[&size], "{tag}");
        }
        let expected: Vec<Vec<Vec<u8>>> = serde_json::from_value(case["pixels"].clone()).unwrap();
        assert_eq!(
            pixels(&ours[&4].1, expected[0].len(), 3),
            expected.concat().concat(),
            "{tag}"
        );
        equal(18, "event files: pixels of pictures");
    }
}

/// A whole number, and what is left.
fn varint(bytes: &[u8]) -> (u64, &[u8]) {
    let end = bytes.iter().position(|byte| byte & 0x80 == 0).unwrap();
    let value = bytes[..=end]
        .iter()
        .rev()
        .fold(0, |value, byte| value << 7 | u64::from(byte & 0x7f));
    (value, &bytes[end + 1..])
}

/// The fields of a message: number, and a whole number or bytes.
fn fields(mut bytes: &[u8]) -> BTreeMap<u64, (u64, Vec<u8>)> {
    let mut all = BTreeMap::new();
    while !bytes.is_empty() {
        let (key, rest) = varint(bytes);
        let (number, length, rest) = match key & 7 {
            0 => {
                let (value, rest) = varint(rest);
                (value, 0, rest)
            }
            1 => (0, 8, rest),
            5 => (0, 4, rest),
            2 => {
                let (length, rest) = varint(rest);
                (0, length as usize, rest)
            }
            other => panic!("wire type {other}"),
        };
        all.insert(key >> 3, (number, rest[..length].to_vec()));
        bytes = &rest[length..];
    }
    all
}

/// All numbers in a folder, as TensorBoard's reader has them: a session that starts at a step takes away what came from it on.
fn scalars(folder: &FilePath) -> BTreeMap<String, Vec<(u64, f64)>> {
    let mut all: BTreeMap<String, Vec<(u64, f64)>> = BTreeMap::new();
    for event in events(folder) {
        let event = fields(&event);
        let step = event.get(&2).map_or(0, |(step, _)| *step);
        if event.contains_key(&7) {
            all.values_mut().for_each(|list| list.retain(|(at, _)| *at < step));
            continue;
        }
        let value = fields(&fields(&event[&5].1)[&1].1);
        let tag = String::from_utf8(value[&1].1.clone()).unwrap();
        if let Some((_, bytes)) = value.get(&2) {
            let number = f32::from_le_bytes(bytes.as_slice().try_into().unwrap());
            all.entry(tag).or_default().push((step, f64::from(number)));
        }
    }
    all
}

#[test]
fn oracle_18_a_runs_event_files_say_what_lightnings_say() {
    let _turn = in_turn();
    let number = |value: &Value, name: &str| value[name].as_u64().unwrap();
    for case in golden()["runs"].as_array().unwrap() {
        let folder = Folder::new("events");
        let values = [0.5, 0.25, 0.125][..number(case, "epochs") as usize].to_vec();
        let hp = ScriptHp {
            values,
            step_metric: true,
        };
        let trainer = || {
            Trainer::new()
                .accelerator("cpu")
                .log_every_n_steps(number(case, "log_every_n_steps"))
                .accumulate_grad_batches(number(case, "accumulate_grad_batches"))
                .max_epochs(number(case, "epochs"))
                .logger(TensorBoardLogger::new(&folder.0))
        };
        let data = Batches(number(case, "batches") as usize);
        let keep = ModelCheckpoint::new().save_top_k(-1);
        trainer().callback(keep).fit::<Scripted, _>(&hp, &data).unwrap();
        let run = folder.0.join(case["folder"].as_str().unwrap());
        let whole = scalars(&run);
        assert_eq!(json!(whole), case["scalars"], "{case}");
        equal(18, "event files: scalars of a run");
        let hparams: ScriptHp = serde_json::from_slice(&std::fs::read(run.join("hparams.json")).unwrap()).unwrap();
        assert_eq!(hparams, hp);
        // On from the first epoch's checkpoint, in the same folder: what comes again is there once.
        let checkpoints = std::fs::read_dir(run.join("checkpoints")).unwrap();
        let first = checkpoints
            .map(|entry| entry.unwrap().path())
            .find(|path| path.file_name().unwrap().to_string_lossy().starts_with("epoch=0-"))
            .unwrap();
        trainer().ckpt_path(first).fit::<Scripted, _>(&hp, &data).unwrap();
        assert_eq!(scalars(&run), whole);
        assert_eq!(std::fs::read_dir(run.parent().unwrap()).unwrap().count(), 1);
        // Another run has a folder of its own.
        trainer().fit::<Scripted, _>(&hp, &data).unwrap();
        assert_eq!(std::fs::read_dir(run.parent().unwrap()).unwrap().count(), 2);
    }
}

#[test]
fn a_table_and_event_files_share_a_folder() {
    let _turn = in_turn();
    let folder = Folder::new("both");
    let hp = ScriptHp {
        values: vec![0.5],
        step_metric: true,
    };
    let settings = json!({ "max_epochs": 1, "accelerator": "cpu", "logger": ["csv", "tensorboard"], "default_root_dir": folder.0 });
    let trainer = Trainer::from_json(&settings.to_string()).unwrap();
    trainer.fit::<Scripted, _>(&hp, &Batches(2)).unwrap();
    let run = folder.0.join("lightning_logs").join("version_0");
    assert!(run.join("metrics.csv").exists());
    assert_eq!(scalars(&run)["val_loss"], [(1, 0.5)]);
    assert_eq!(std::fs::read_dir(run.parent().unwrap()).unwrap().count(), 1);
}
