//! Packets of the worker: fields, displays, the pieces of long ones, and the messages of a run.

use arbitrary::Unstructured;
use lightcell_events::frame::{Display, DisplayKind, Kind, MAX_PAYLOAD, MORE, decode_fields, encode_fields, pieces};
use lightcell_events::run::{Level, Metrics, RunEvent, Stage, Status, VERSION, decode, encode};

/// All that is done with what the worker sends.
pub fn packets(data: &[u8]) {
    // As bytes that came: what is understood is written again as it was.
    if let Some(fields) = decode_fields(data) {
        assert_eq!(encode_fields(&fields), data);
    }
    if let Some(display) = Display::decode(data) {
        assert_eq!(display.encode(), data);
    }
    if let Ok(event) = decode(data) {
        assert_eq!(decode(&encode(&event)).ok(), Some(event));
    }
    if let Some((byte, _)) = data.split_first()
        && let Some(kind) = Kind::from_byte(*byte)
    {
        assert_eq!(kind as u8, *byte);
        in_pieces(kind, data);
    }
    // As a source of values to write and read.
    let mut from = Unstructured::new(data);
    let _ = values(&mut from);
}

fn values(from: &mut Unstructured) -> arbitrary::Result<()> {
    let fields: Vec<Vec<u8>> = from.arbitrary()?;
    assert_eq!(decode_fields(&encode_fields(&fields)), Some(fields));
    let display = Display {
        kind: *from.choose(&[DisplayKind::Display, DisplayKind::Update, DisplayKind::Result])?,
        id: from.arbitrary()?,
        media: from.arbitrary()?,
    };
    assert_eq!(Display::decode(&display.encode()), Some(display));
    let event = event(from)?;
    assert_eq!(decode(&encode(&event)).ok(), Some(event));
    Ok(())
}

/// A number that JSON has; the trainer sends no others.
fn number(from: &mut Unstructured) -> arbitrary::Result<f64> {
    let number: f64 = from.arbitrary()?;
    Ok(if number.is_finite() { number } else { 0.5 })
}

fn metrics(from: &mut Unstructured) -> arbitrary::Result<Metrics> {
    let count = from.int_in_range(0..=3)?;
    (0..count).map(|_| Ok((from.arbitrary()?, number(from)?))).collect()
}

fn event(from: &mut Unstructured) -> arbitrary::Result<RunEvent> {
    let run: String = from.arbitrary()?;
    Ok(match from.int_in_range(0..=5)? {
        0 => RunEvent::Started {
            version: VERSION,
            run,
            model: from.arbitrary()?,
            device: from.arbitrary()?,
            first_epoch: from.arbitrary()?,
            max_epochs: from.arbitrary()?,
            train_batches: from.arbitrary()?,
            val_batches: from.arbitrary()?,
            parameters: from.arbitrary()?,
            hparams: [("lr".to_owned(), number(from)?.into())]
                .into_iter()
                .collect::<Object>()
                .into(),
            log_dir: from.arbitrary()?,
        },
        1 => RunEvent::Step {
            run,
            stage: *from.choose(&[Stage::Train, Stage::Validate, Stage::Test])?,
            epoch: from.arbitrary()?,
            batch: from.arbitrary()?,
            batches: from.arbitrary()?,
            step: from.arbitrary()?,
            metrics: metrics(from)?,
            rate: number(from)?,
        },
        2 => RunEvent::Epoch {
            run,
            epoch: from.arbitrary()?,
            step: from.arbitrary()?,
            metrics: metrics(from)?,
            seconds: number(from)?,
        },
        3 => RunEvent::Checkpoint {
            run,
            path: from.arbitrary()?,
        },
        4 => RunEvent::Note {
            run,
            level: *from.choose(&[Level::Info, Level::Warning])?,
            text: from.arbitrary()?,
        },
        _ => RunEvent::Finished {
            run,
            status: *from.choose(&[Status::Completed, Status::Stopped, Status::Failed])?,
            epochs: from.arbitrary()?,
            step: from.arbitrary()?,
            seconds: number(from)?,
            error: from.arbitrary()?,
            hint: from.arbitrary()?,
        },
    })
}

type Object = serde_json::Map<String, serde_json::Value>;

/// A payload in packets: of the right size, marked but for the last, and whole again in a row.
fn in_pieces(kind: Kind, data: &[u8]) {
    // Long enough to be cut, around the borders too.
    let long = data
        .iter()
        .cycle()
        .take(data.len().saturating_mul(97) % (2 * MAX_PAYLOAD + 3))
        .copied();
    for payload in [data.to_vec(), long.collect()] {
        let cut: Vec<_> = pieces(kind, &payload).collect();
        let (last, before) = cut.split_last().expect("at least one packet");
        assert_eq!(last.0, [kind as u8, 0]);
        assert!(last.1.len() <= MAX_PAYLOAD);
        for (head, piece) in before {
            assert_eq!((*head, piece.len()), ([kind as u8, MORE], MAX_PAYLOAD));
        }
        assert_eq!(
            cut.iter().flat_map(|(_, piece)| *piece).copied().collect::<Vec<u8>>(),
            payload
        );
    }
}
