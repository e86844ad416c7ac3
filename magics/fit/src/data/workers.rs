//! Threads that load batches ahead of who uses them. They take batches in order, and give them in order, however many they
//! are; no more than a bound are loaded and not yet used. They end when this is dropped.

use super::loader::{self, Erased, Load, Pass};
use super::random::Draw;
use super::threads;
use crate::error::{Error, Kind, Result};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

struct Job {
    batch: usize,
    draws: Vec<Draw>,
}

pub(super) struct Workers {
    /// Taken away to end the threads.
    jobs: Option<Sender<Job>>,
    loaded: Receiver<(usize, Result<Erased>)>,
    threads: Vec<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    /// Loaded before their turn.
    waiting: BTreeMap<usize, Result<Erased>>,
    /// The next batch to use, and the next to load.
    next: usize,
    sent: usize,
}

impl Workers {
    /// Starts so many threads for the batches from `first` on.
    ///
    /// # Errors
    /// When there can be no more threads.
    pub fn start(pass: &Pass, threads: usize, first: usize) -> Result<Workers> {
        let (jobs, todo) = channel();
        let (done, loaded) = channel();
        let mut workers = Workers {
            jobs: Some(jobs),
            loaded,
            threads: Vec::new(),
            stop: Arc::default(),
            waiting: BTreeMap::new(),
            next: first,
            sent: first,
        };
        let (todo, pin_memory) = (Arc::new(Mutex::new(todo)), pass.pin_memory);
        for number in 0..threads {
            let (source, todo, done, stop) = (pass.source().clone(), todo.clone(), done.clone(), workers.stop.clone());
            let thread = std::thread::Builder::new()
                .name(format!("loader-{number}"))
                .spawn(move || work(&*source, &todo, &done, &stop, pin_memory))
                .map_err(|error| {
                    Error::new(
                        Kind::Data,
                        format!("worker {} of the loader cannot start: {error}", number + 1),
                    )
                    .hint("use fewer: `num_workers`")
                })?;
            workers.threads.push(thread);
        }
        Ok(workers)
    }

    /// The next batch of the pass, with up to `ahead` others on their way.
    ///
    /// # Errors
    /// When a sample of it cannot be loaded.
    pub fn next(&mut self, pass: &Pass, ahead: usize) -> Result<Erased> {
        let gone = || Error::new(Kind::Data, "the loader's workers ended before their work");
        while self.sent < pass.batches() && self.sent < self.next.saturating_add(ahead.max(1)) {
            let job = Job {
                batch: self.sent,
                draws: pass.draws(self.sent),
            };
            let sent = self.jobs.as_ref().map(|jobs| jobs.send(job));
            sent.and_then(|sent| sent.ok()).ok_or_else(gone)?;
            self.sent += 1;
        }
        loop {
            if let Some(batch) = self.waiting.remove(&self.next) {
                self.next += 1;
                return batch;
            }
            let (number, batch) = self.loaded.recv().map_err(|_| gone())?;
            self.waiting.insert(number, batch);
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.jobs = None;
        for thread in self.threads.drain(..) {
            // Its panics were caught and given on.
            let _ = thread.join();
        }
    }
}

fn work(
    source: &dyn Load,
    todo: &Mutex<Receiver<Job>>,
    done: &Sender<(usize, Result<Erased>)>,
    stop: &AtomicBool,
    pin_memory: bool,
) {
    threads::alone();
    loop {
        let job = todo.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let batch = loader::load(source, &job.draws, pin_memory);
        if done.send((job.batch, batch)).is_err() {
            return;
        }
    }
}
