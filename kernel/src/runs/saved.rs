//! The runs of the notebooks of a folder, kept beyond their kernels: a file of JSON lines each, in the installation. A
//! file is locked while its run goes on, so that a run whose kernel was killed is told from one that goes on.

use lightcell_events::run::{self, RunEvent, Status};
use lightcell_plot::RunRecord;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// So many runs are kept, of all folders, and so many bytes of them; then the oldest go.
const KEPT: usize = 500;
const BYTES: u64 = 500_000_000;

/// All steps that a run reports, ten a second at most, are kept up to so many bytes: over four hours.
const WHOLE: u64 = 32_000_000;

/// Then one is kept in this time: 0.7 MB an hour.
const STEP: Duration = Duration::from_secs(1);

/// How the line of a step begins.
const STEP_LINE: &str = "{\"event\":\"step\"";

/// Runs on disk.
#[derive(Debug)]
pub struct Saved {
    files: PathBuf,
    /// The notebook's folder.
    here: PathBuf,
}

/// The first line of a file.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    folder: PathBuf,
    run: String,
    /// Seconds since 1970.
    begun: f64,
}

/// A run as it is known.
#[derive(Debug)]
pub struct Known {
    /// Its name.
    pub name: String,
    /// When it began.
    pub begun: SystemTime,
    /// What it has reported.
    pub record: RunRecord,
    /// Where it is kept, unless it is one of this kernel.
    pub file: Option<PathBuf>,
}

/// Keeps what a run reports.
#[derive(Debug)]
pub struct Writer {
    /// Locked for as long as it is open.
    file: File,
    written: u64,
    stepped: Option<Instant>,
    broken: bool,
}

impl Saved {
    /// Runs of notebooks in the current folder, kept below the installation's.
    pub fn new(home: &Path, here: PathBuf) -> Saved {
        Saved {
            files: home.join("runs"),
            here,
        }
    }

    /// The notebook's folder.
    pub fn here(&self) -> &Path {
        &self.here
    }

    /// A run begins. `None` when it cannot be written (a full disk): it is known to its kernel then.
    pub fn begin(&self, event: &RunEvent, begun: SystemTime) -> Option<Writer> {
        let written = || -> std::io::Result<Writer> {
            std::fs::create_dir_all(&self.files)?;
            self.prune();
            let since = begun.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            // Its name is a number and a process, made by the library; of anything else the part that can be in a name.
            let plain: String = event
                .run()
                .chars()
                .filter(char::is_ascii_alphanumeric)
                .take(60)
                .collect();
            let path = self.files.join(format!("{:013}-{plain}.jsonl", since.as_millis()));
            let head = Head {
                folder: self.here.clone(),
                run: event.run().to_owned(),
                begun: since.as_secs_f64(),
            };
            let mut file = File::options().create_new(true).append(true).open(path)?;
            file.try_lock()?;
            file.write_all(&line(serde_json::to_vec(&head)?))?;
            Ok(Writer {
                file,
                written: 0,
                stepped: None,
                broken: false,
            })
        };
        match written() {
            Ok(mut writer) => {
                writer.event(event);
                Some(writer)
            }
            Err(error) => {
                tracing::warn!("cannot keep the run in {}: {error}", self.files.display());
                None
            }
        }
    }

    /// The runs of this folder but those that `left_out` names, without their steps.
    pub fn runs(&self, left_out: impl Fn(&str) -> bool) -> Vec<Known> {
        let files = self.list().into_iter();
        files
            .filter_map(|(path, _)| self.read(&path, &left_out, false))
            .collect()
    }

    /// A run with its steps.
    pub fn whole(&self, path: &Path) -> Option<RunRecord> {
        Some(self.read(path, &|_| false, true)?.record)
    }

    /// Files with their sizes, the oldest first.
    fn list(&self) -> Vec<(PathBuf, u64)> {
        let entries = std::fs::read_dir(&self.files).into_iter().flatten().flatten();
        let mut files: Vec<(PathBuf, u64)> = entries
            .filter(|entry| entry.path().extension().is_some_and(|end| end == "jsonl"))
            .map(|entry| (entry.path(), entry.metadata().map_or(0, |data| data.len())))
            .collect();
        files.sort();
        files
    }

    fn prune(&self) {
        let files = self.list();
        let (mut count, mut bytes) = (files.len() + 1, files.iter().map(|(_, size)| size).sum::<u64>());
        for (path, size) in files {
            if count <= KEPT && bytes <= BYTES {
                return;
            }
            if !goes_on(&path) && std::fs::remove_file(&path).is_ok() {
                count -= 1;
                bytes -= size;
            }
        }
    }

    fn read(&self, path: &Path, left_out: &impl Fn(&str) -> bool, steps: bool) -> Option<Known> {
        // Asked before: a run that ends meanwhile has its last line then.
        let running = goes_on(path);
        let mut lines = BufReader::new(File::open(path).ok()?)
            .split(b'\n')
            .map_while(Result::ok);
        let head: Head = serde_json::from_slice(&lines.next()?).ok()?;
        if head.folder != self.here || left_out(&head.run) {
            return None;
        }
        let (mut record, mut ended, mut begun) = (RunRecord::default(), false, false);
        for line in lines {
            if !steps && line.starts_with(STEP_LINE.as_bytes()) {
                continue;
            }
            // A line that was not written whole, or one of another version.
            let Ok(event) = run::decode(&line) else { continue };
            ended |= matches!(event, RunEvent::Finished { .. });
            begun |= matches!(event, RunEvent::Started { .. });
            record.apply(&event);
        }
        if !begun {
            return None;
        }
        let begun = SystemTime::UNIX_EPOCH + Duration::try_from_secs_f64(head.begun).unwrap_or_default();
        if !ended && !running {
            let changed = path.metadata().and_then(|data| data.modified()).unwrap_or(begun);
            record.apply(&lost(changed.duration_since(begun).unwrap_or_default()));
        }
        Some(Known {
            name: head.run,
            begun,
            record,
            file: Some(path.to_owned()),
        })
    }
}

/// What a run would have said whose process is gone.
pub fn lost(after: Duration) -> RunEvent {
    RunEvent::Finished {
        run: String::new(),
        status: Status::Failed,
        epochs: 0,
        step: 0,
        seconds: after.as_secs_f64(),
        error: Some("the process that trained ended".to_owned()),
        hint: None,
    }
}

/// Whether a kernel writes this file.
fn goes_on(path: &Path) -> bool {
    let held = |file: File| matches!(file.try_lock_shared(), Err(std::fs::TryLockError::WouldBlock));
    File::open(path).is_ok_and(held)
}

fn line(mut json: Vec<u8>) -> Vec<u8> {
    json.push(b'\n');
    json
}

impl Writer {
    /// Keeps an event.
    pub fn event(&mut self, event: &RunEvent) {
        if self.broken {
            return;
        }
        if let RunEvent::Step { .. } = event {
            if self.written >= WHOLE && self.stepped.is_some_and(|last| last.elapsed() < STEP) {
                return;
            }
            self.stepped = Some(Instant::now());
        }
        // One write of a whole line.
        let line = line(run::encode(event));
        self.written += line.len() as u64;
        if let Err(error) = self.file.write_all(&line) {
            tracing::warn!("the run is kept no further: {error}");
            self.broken = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started(run: &str) -> RunEvent {
        RunEvent::Started {
            version: run::VERSION,
            run: run.to_owned(),
            model: "Net".to_owned(),
            device: "cpu".to_owned(),
            first_epoch: 0,
            max_epochs: 3,
            train_batches: 5,
            val_batches: 0,
            parameters: 7,
            hparams: serde_json::json!({"lr": 0.1}),
            log_dir: None,
        }
    }

    fn epoch(run: &str, epoch: u64) -> RunEvent {
        RunEvent::Epoch {
            run: run.to_owned(),
            epoch,
            step: epoch + 1,
            metrics: [("train_loss".to_owned(), 1.0)].into(),
            seconds: 0.5,
        }
    }

    fn step(run: &str) -> RunEvent {
        RunEvent::Step {
            run: run.to_owned(),
            stage: run::Stage::Train,
            epoch: 0,
            batch: 1,
            batches: 5,
            step: 1,
            metrics: [("train_loss".to_owned(), 1.5)].into(),
            rate: 1.0,
        }
    }

    fn after(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn text(known: &Known) -> String {
        known.record.text()
    }

    #[test]
    fn runs_are_known_to_later_kernels_in_their_folder() {
        let scratch = tempfile::tempdir().unwrap();
        let here = |name: &str| Saved::new(scratch.path(), PathBuf::from(name));
        let saved = here("/a");
        let mut first = saved.begin(&started("one"), after(10)).unwrap();
        first.event(&epoch("one", 0));
        first.event(&RunEvent::Finished {
            run: "one".to_owned(),
            status: Status::Stopped,
            epochs: 1,
            step: 1,
            seconds: 2.0,
            error: None,
            hint: None,
        });
        drop(first);
        let mut second = saved.begin(&started("two"), after(20)).unwrap();
        second.event(&step("two"));
        second.event(&step("two"));
        // A long run: within the second, one.
        second.written = WHOLE;
        second.event(&step("two"));
        second.event(&epoch("two", 0));

        let runs = here("/a").runs(|_| false);
        let names: Vec<&str> = runs.iter().map(|run| run.name.as_str()).collect();
        assert_eq!(names, ["one", "two"]);
        assert!(text(&runs[0]).contains("stopped: 1 epoch"), "{}", text(&runs[0]));
        assert_eq!(runs[0].begun, after(10));
        // It goes on: nobody has said that it ended.
        let two = text(&runs[1]);
        assert!(!two.contains("failed") && !two.contains("batch"), "{two}");
        let whole = saved.whole(runs[1].file.as_deref().unwrap()).unwrap();
        assert!(whole.text().contains("batch 1/5"), "{}", whole.text());
        let file = std::fs::read_to_string(runs[1].file.as_ref().unwrap()).unwrap();
        assert_eq!(file.matches(STEP_LINE).count(), 2, "{file}");
        assert!(here("/b").runs(|_| false).is_empty());
        assert_eq!(here("/a").runs(|name| name == "one").len(), 1);

        // Its kernel is gone.
        drop(second);
        let runs = here("/a").runs(|_| false);
        assert!(text(&runs[1]).contains("failed: 1 epoch"), "{}", text(&runs[1]));
    }

    #[test]
    fn damaged_and_foreign_files_are_passed_over() {
        let scratch = tempfile::tempdir().unwrap();
        let saved = Saved::new(scratch.path(), PathBuf::from("/a"));
        let mut writer = saved.begin(&started("r"), after(5)).unwrap();
        writer.event(&epoch("r", 0));
        // A line cut by a full disk, one of a later version, one that is no text.
        for bytes in [
            &b"{\"event\":\"epoch\",\"run\":\"r\""[..],
            b"{\"event\":\"teleported\"}",
            b"\xff\xfe",
        ] {
            writer.file.write_all(bytes).unwrap();
            writer.file.write_all(b"\n").unwrap();
        }
        writer.event(&epoch("r", 1));
        for (name, text) in [
            ("0.jsonl", ""),
            ("1.jsonl", "{\n\n"),
            ("2.jsonl", "{\"folder\":\"/a\",\"run\":\"x\",\"begun\":-1}\n"),
        ] {
            std::fs::write(saved.files.join(name), text).unwrap();
        }
        let runs = saved.runs(|_| false);
        assert_eq!(runs.len(), 1);
        drop(writer);
        assert!(text(&saved.runs(|_| false)[0]).contains("2 epochs"));
    }

    #[test]
    fn the_oldest_go_but_not_one_that_goes_on() {
        let scratch = tempfile::tempdir().unwrap();
        let saved = Saved::new(scratch.path(), PathBuf::from("/a"));
        let running = saved.begin(&started("first"), after(0)).unwrap();
        for number in 1..KEPT + 3 {
            std::fs::write(saved.files.join(format!("{:013}-x.jsonl", number * 1000)), "").unwrap();
        }
        let last = saved.begin(&started("last"), after(9_999_999)).unwrap();
        let files = saved.list();
        assert_eq!(files.len(), KEPT);
        let name = |at: usize| files[at].0.file_name().unwrap().to_string_lossy().into_owned();
        assert_eq!(name(0), "0000000000000-first.jsonl");
        assert_eq!(name(1), "0000000005000-x.jsonl");
        drop((running, last));
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_no_fault_of_the_run() {
        let scratch = tempfile::tempdir().unwrap();
        std::fs::write(scratch.path().join("runs"), "a file").unwrap();
        let saved = Saved::new(scratch.path(), PathBuf::from("/a"));
        assert!(saved.begin(&started("r"), after(1)).is_none());
        assert!(saved.runs(|_| false).is_empty());
    }
}
