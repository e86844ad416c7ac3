//! `kill -9` at random moments of a run that writes checkpoints: the last one can always be read, and no progress is lost.
//!
//! Ten rounds; `LIGHTCELL_KILLS=100` makes a hundred of them by hand.

mod common;

use common::{Hp, Net, samples};
use lightcell::prelude::*;
use std::path::{Path as FilePath, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// In its environment the child finds the folder of its checkpoints.
const FOLDER: &str = "LIGHTCELL_TEST_TRAINS_UNTIL_KILLED";

fn data() -> Data {
    lightcell::tch::manual_seed(2);
    Data::new(samples(40, 64)).val(samples(40, 64)).batch_size(8)
}

/// Of a few megabytes, so that writing them takes a moment.
fn wide() -> Hp {
    Hp {
        inputs: 64,
        hidden: 3000,
    }
}

fn trainer() -> Trainer {
    Trainer::new().accelerator("cpu").seed(1)
}

/// Not a test by itself: the process that the next one kills. It goes on from the last checkpoint, and writes one each
/// second step and at each epoch's end.
#[test]
fn a_process_that_trains_until_it_is_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    lightcell::tch::set_num_threads(1);
    let folder = PathBuf::from(folder);
    let last = folder.join("last.safetensors");
    let steps = ModelCheckpoint::new()
        .dirpath(&folder)
        .every_n_train_steps(2)
        .save_last(true);
    let best = ModelCheckpoint::new().dirpath(folder.join("best")).monitor("val_loss");
    let mut trainer = trainer().max_epochs(-1).callback(steps).callback(best);
    if last.exists() {
        trainer = trainer.ckpt_path(&last);
    }
    trainer.fit::<Net, _>(&wide(), &data()).unwrap();
}

fn start(folder: &FilePath) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_process_that_trains_until_it_is_killed"])
        .env(FOLDER, folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// The steps of the run in a file, all of which can be read.
fn steps(path: &FilePath) -> usize {
    let read = trainer().max_epochs(0).ckpt_path(path).fit::<Net, _>(&wide(), &data());
    read.unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        .step_losses
        .len()
}

fn checkpoints(folder: &FilePath) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    let hidden = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with('.');
    paths.filter(|path| path.is_file() && !hidden(path)).collect()
}

/// A folder that is removed at the end, however that comes.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_run_that_is_killed_at_any_moment_leaves_a_checkpoint_that_goes_on() {
    let kills = std::env::var("LIGHTCELL_KILLS").ok().and_then(|text| text.parse().ok());
    let rounds: u32 = kills.unwrap_or(10);
    let folder = std::env::temp_dir().join(format!("lightcell-kills-{}", std::process::id()));
    let folder = Folder(folder);
    let folder = &folder.0;
    let last = folder.join("last.safetensors");
    let newest = || last.metadata().and_then(|file| file.modified()).ok();
    let (mut before, mut cut) = (0, 0);
    for round in 0..rounds {
        let seen = newest();
        let mut child = start(folder);
        let begun = Instant::now();
        while newest() == seen && begun.elapsed() < Duration::from_secs(120) {
            assert!(child.try_wait().unwrap().is_none(), "round {round}: it ended by itself");
            std::thread::sleep(Duration::from_millis(1));
        }
        // Anywhere in the steps and writings that follow.
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap();
        std::thread::sleep(Duration::from_micros(u64::from(now.subsec_nanos()) % 60_000));
        child.kill().unwrap();
        child.wait().unwrap();
        let after = steps(&last);
        assert!(after > before, "round {round}: {after} steps after {before}");
        before = after;
        for path in checkpoints(folder).iter().chain(&checkpoints(&folder.join("best"))) {
            steps(path);
        }
        // What was being written stays beside, under a name that nobody takes for a checkpoint.
        let entries = std::fs::read_dir(folder).unwrap().flatten();
        let parts = entries.filter(|entry| entry.file_name().to_string_lossy().ends_with(".part"));
        cut += parts.filter(|part| std::fs::remove_file(part.path()).is_ok()).count();
    }
    println!("{rounds} kills, {cut} of them while a checkpoint was written; {before} steps");
}
