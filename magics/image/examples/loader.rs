//! How fast images come through the loader: decoded, resized, cropped, flipped by chance and normalised, beside PyTorch's
//! `DataLoader` with the same number of workers, in turns in one run:
//! `cargo run --release -p lightcell-image --example loader -- [--python PATH] [--workers N] [--images N]
//! [--rounds N]`. The images are made up and written to a temporary folder first.

use lightcell::prelude::*;
use lightcell::transforms::*;
use lightcell_image::{ImageFolder, write_png};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

const BATCH: usize = 32;

/// Kinds of files: name, ending, width, height, and to what they are resized and cropped.
const KINDS: [(&str, &str, u32, u32, i64, i64); 2] = [
    ("photographs, JPEG 500x375, to 224", "jpg", 500, 375, 256, 224),
    ("small pictures, PNG 48x48, to 32", "png", 48, 48, 36, 32),
];

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let after = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).cloned()
    };
    let number = |name: &str, otherwise: usize| after(name).and_then(|text| text.parse().ok()).unwrap_or(otherwise);
    let (workers, images, rounds) = (number("--workers", 2), number("--images", 600), number("--rounds", 5));
    println!("{images} images, batches of {BATCH}, {workers} workers, medians of {rounds} passes");
    for kind in KINDS {
        let folder = std::env::temp_dir().join(format!("lightcell-loader-{}", std::process::id()));
        let measured =
            paint(&folder, kind, images).and_then(|()| measure(&folder, kind, workers, rounds, after("--python")));
        std::fs::remove_dir_all(&folder)?;
        measured?;
    }
    Ok(())
}

/// Writes made-up images: smooth, with noise as a camera has.
fn paint(
    folder: &std::path::Path,
    (_, ending, width, height, ..): (&str, &str, u32, u32, i64, i64),
    images: usize,
) -> Result<()> {
    for at in 0..images {
        let mut random = SampleRng::new(at as u64);
        let (a, b) = (random.uniform(0.01, 0.1), random.uniform(0.01, 0.1));
        let mut pixels = Vec::with_capacity(3 * (width * height) as usize);
        for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
            for turn in [0.0, 1.0, 2.0] {
                let smooth = (f64::from(x) * a + turn).sin() + (f64::from(y) * b - turn).cos();
                pixels.push((128.0 + 50.0 * smooth + random.uniform(-12.0, 12.0)) as u8);
            }
        }
        let class = folder.join(["a", "b"][at % 2]);
        std::fs::create_dir_all(&class)?;
        let file = class.join(format!("{at}.{ending}"));
        if ending == "png" {
            let image = Tensor::from_slice(&pixels).view([i64::from(height), i64::from(width), 3]);
            write_png(file, &image.permute([2, 0, 1]))?;
            continue;
        }
        let wrong = |error: jpeg_encoder::EncodingError| Error::new(lightcell::ErrorKind::Data, error.to_string());
        let encoder = jpeg_encoder::Encoder::new_file(file, 75).map_err(wrong)?;
        let saved = encoder.encode(&pixels, width as u16, height as u16, jpeg_encoder::ColorType::Rgb);
        saved.map_err(wrong)?;
    }
    Ok(())
}

fn measure(
    folder: &std::path::Path,
    (name, _, _, _, resize, crop): (&str, &str, u32, u32, i64, i64),
    workers: usize,
    rounds: usize,
    python: Option<String>,
) -> Result<()> {
    let normalize = Normalize::new(&[0.485, 0.456, 0.406], &[0.229, 0.224, 0.225]);
    let change = Compose::new()
        .then(Resize::new(resize))
        .then(CenterCrop::new(crop))
        .then(RandomHorizontalFlip::new(0.5))
        .then(normalize);
    let loader = DataLoader::new(ImageFolder::new(folder)?.transform(change));
    let loader = loader.batch_size(BATCH).shuffle(true).num_workers(workers);
    let ours = |epoch: usize| -> Result<f64> {
        let (begun, mut count) = (Instant::now(), 0);
        for batch in loader.epoch(1, epoch as u64) {
            count += batch?.0.size()[0];
        }
        Ok(count as f64 / begun.elapsed().as_secs_f64())
    };
    let mut peer = python
        .map(|python| Peer::start(&python, folder, workers, resize, crop))
        .transpose()?;
    ours(0)?;
    let (mut rates, mut theirs) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        rates.push(ours(round)?);
        if let Some(peer) = &mut peer {
            theirs.push(peer.pass()?);
        }
    }
    let rate = median(&mut rates);
    match peer.is_some() {
        true => {
            let their = median(&mut theirs);
            println!(
                "{name}: ours {rate:.0} images/s, PyTorch {their:.0} images/s: {:.2} times",
                rate / their
            );
        }
        false => println!("{name}: ours {rate:.0} images/s"),
    }
    Ok(())
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The Python program, which waits for its turns.
struct Peer(Child, ChildStdin, BufReader<ChildStdout>);

impl Peer {
    fn start(python: &str, folder: &std::path::Path, workers: usize, resize: i64, crop: i64) -> Result<Peer> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/loader.py");
        let sizes = [workers as i64, BATCH as i64, resize, crop].map(|size| size.to_string());
        let mut child = Command::new(python)
            .arg(script)
            .arg(folder)
            .args(sizes)
            .env_remove("LD_LIBRARY_PATH")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let gone = || Error::new(lightcell::ErrorKind::Data, "the Python program has no pipes");
        let stdin = child.stdin.take().ok_or_else(gone)?;
        let stdout = BufReader::new(child.stdout.take().ok_or_else(gone)?);
        let mut peer = Peer(child, stdin, stdout);
        peer.line()?;
        Ok(peer)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        match self.2.read_line(&mut line)? {
            0 => Err(Error::new(lightcell::ErrorKind::Data, "the Python program ended early")),
            _ => Ok(line),
        }
    }

    /// Images a second in one pass.
    fn pass(&mut self) -> Result<f64> {
        self.1.write_all(b"\n")?;
        let line = self.line()?;
        let numbers: Vec<f64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        match numbers[..] {
            [seconds, images] => Ok(images / seconds),
            _ => Err(Error::new(
                lightcell::ErrorKind::Data,
                format!("the Python program said `{}`", line.trim()),
            )),
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
