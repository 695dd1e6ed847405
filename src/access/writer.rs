use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant, SystemTime};

use rtrb::{Consumer, Producer, RingBuffer};

use super::bell::Bell;
use super::record::Record;
use crate::config;
use crate::logging::{Losses, Outlet, Throttle};
use crate::sys;

/// How many records of a reactor may wait. What comes then is counted and not written.
const RECORDS_MAX: usize = 8192;
/// How long records gather before they are written together.
const GATHERING: Duration = Duration::from_millis(50);
/// How many bytes are written at a time, but for a last line.
const BATCH_BYTES: usize = 64 * 1024;
/// The longest line is shorter than this.
const LINE_BYTES_MAX: usize = 2048;
/// When to look again whether losses may be told.
const UNTOLD: Duration = Duration::from_secs(1);
/// How long the end of the process may wait for what is not written yet: half of the second that
/// both logs have together, for one reader may have stopped reading both.
const PATIENCE: Duration = Duration::from_millis(500);

/// The access log of the process, to whoever runs it.
pub struct AccessLog {
    shared: Arc<Shared>,
    /// Its thread, and the channel that ends with it; none if nothing is logged.
    writer: Option<(Thread, Receiver<()>)>,
}

/// Where a reactor puts its records.
pub struct Sink {
    /// None if nothing is logged.
    queue: Option<Queue>,
}

struct Queue {
    records: Producer<Record>,
    writer: Thread,
    shared: Arc<Shared>,
}

/// What the writer, the sinks and the owner of the log share.
struct Shared {
    bell: Bell,
    must_reopen: AtomicBool,
    must_finish: AtomicBool,
    losses: Losses,
    tellings: Throttle,
}

impl AccessLog {
    /// Opens the log and starts its thread; there is a sink for each reactor.
    pub fn start(
        destination: &config::AccessLog,
        reactors: usize,
    ) -> io::Result<(AccessLog, Vec<Sink>)> {
        let (outlet, path) = match destination {
            config::AccessLog::Off => return Ok(AccessLog::off(reactors)),
            // Not `Stdout`: it has a lock and writes each line on its own.
            config::AccessLog::Stdout => {
                let file = io::stdout().as_fd().try_clone_to_owned()?.into();
                (Outlet::new(file, false), None)
            }
            config::AccessLog::File(path) => (open(path)?, Some(path.clone())),
        };
        sys::ignore_file_size_signal();
        let shared = Arc::new(Shared::new());
        let (writer, ends) = Writer::new(outlet, path, reactors, &shared);
        let (alive, over) = mpsc::channel();
        let work = move || {
            writer.run();
            drop(alive);
        };
        let thread = thread::Builder::new().name("access".into()).spawn(work)?.thread().clone();
        let sinks = ends.into_iter().map(|end| Sink::new(end, &thread, &shared)).collect();
        Ok((AccessLog { shared, writer: Some((thread, over)) }, sinks))
    }

    fn off(reactors: usize) -> (AccessLog, Vec<Sink>) {
        let log = AccessLog { shared: Arc::new(Shared::new()), writer: None };
        (log, (0..reactors).map(|_| Sink { queue: None }).collect())
    }

    /// Opens the file again, which may have been renamed meanwhile. No line is lost: each goes to
    /// the one or the other. If it cannot be opened, the old one stays and the log says so.
    pub fn reopen(&self) {
        self.order(&self.shared.must_reopen);
    }

    /// How many lines were not written since the start.
    pub fn dropped(&self) -> u64 {
        self.shared.losses.total()
    }

    /// Waits until everything pushed so far is written, for half a second at most, and ends the log:
    /// what is pushed later is not written.
    pub fn finish(&self) {
        self.order(&self.shared.must_finish);
        if let Some((_, over)) = &self.writer
            && over.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout)
        {
            log::warn!("access log: the last lines are lost: whoever reads them has stopped");
        }
    }

    fn order(&self, what: &AtomicBool) {
        if let Some((thread, _)) = &self.writer {
            what.store(true, Ordering::Release);
            self.shared.bell.ring_for_order(thread);
        }
    }
}

impl Sink {
    fn new(records: Producer<Record>, writer: &Thread, shared: &Arc<Shared>) -> Sink {
        let (writer, shared) = (writer.clone(), Arc::clone(shared));
        Sink { queue: Some(Queue { records, writer, shared }) }
    }

    /// Puts the record of a session that ends now into the queue if it is to be logged, and never
    /// waits: if there is no room its line is lost, which is counted.
    pub fn push(&mut self, record: Record) {
        let Some(queue) = &mut self.queue else { return };
        if !record.is_logged() {
            return;
        }
        let Queue { records, writer, shared } = queue;
        match records.push(Record { ended: SystemTime::now(), ..record }) {
            Ok(()) => {
                shared.bell.ring_for_record(writer, || records.slots() <= RECORDS_MAX / 2);
            }
            Err(_) => {
                shared.losses.count_full_queue();
                // The writer cannot tell: it waits for its reader.
                shared.tell_losses();
            }
        }
    }
}

impl Shared {
    fn new() -> Shared {
        Shared {
            bell: Bell::new(),
            must_reopen: AtomicBool::new(false),
            must_finish: AtomicBool::new(false),
            losses: Losses::default(),
            tellings: Throttle::new(),
        }
    }

    fn has_order(&self) -> bool {
        self.must_reopen.load(Ordering::Acquire) || self.must_finish.load(Ordering::Acquire)
    }

    /// Tells how many lines are lost, once a second at most.
    fn tell_losses(&self) {
        if self.losses.is_untold()
            && self.tellings.allow(Instant::now()).is_some()
            && let Some(loss) = self.losses.tell()
        {
            log::warn!("access log: {loss}");
        }
    }
}

/// The thread that writes.
struct Writer {
    queues: Vec<Consumer<Record>>,
    lines: Lines,
    shared: Arc<Shared>,
}

impl Writer {
    /// A writer, and the reactors' ends of its queues.
    fn new(
        outlet: Outlet<File>,
        path: Option<PathBuf>,
        reactors: usize,
        shared: &Arc<Shared>,
    ) -> (Writer, Vec<Producer<Record>>) {
        let (ends, queues) = (0..reactors).map(|_| RingBuffer::new(RECORDS_MAX)).unzip();
        let lines = Lines { batch: Vec::new(), outlet, path };
        (Writer { queues, lines, shared: Arc::clone(shared) }, ends)
    }

    fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        loop {
            let patience = shared.losses.is_untold().then_some(UNTOLD);
            shared.bell.sleep(patience, || shared.has_order() || self.has_records());
            if self.has_records() {
                shared.bell.gather(GATHERING, || shared.has_order() || self.has_much());
            }
            let is_last = shared.must_finish.load(Ordering::Acquire);
            self.write_records();
            if shared.must_reopen.swap(false, Ordering::AcqRel) {
                self.lines.reopen();
            }
            shared.tell_losses();
            if is_last {
                return self.tell_the_last();
            }
        }
    }

    fn has_records(&self) -> bool {
        self.queues.iter().any(|queue| !queue.is_empty())
    }

    fn has_much(&self) -> bool {
        self.queues.iter().any(|queue| queue.slots() >= RECORDS_MAX / 2)
    }

    /// Writes what has gathered until now.
    fn write_records(&mut self) {
        for queue in &mut self.queues {
            for _ in 0..queue.slots() {
                let Ok(record) = queue.pop() else { break };
                self.lines.add(&record, &self.shared.losses);
            }
        }
        self.lines.write(&self.shared.losses);
    }

    /// Nobody will have another chance.
    fn tell_the_last(&self) {
        if let Some(loss) = self.shared.losses.tell() {
            log::warn!("access log: {loss}");
        }
    }
}

/// Lines on their way into the file.
struct Lines {
    batch: Vec<u8>,
    outlet: Outlet<File>,
    path: Option<PathBuf>,
}

impl Lines {
    fn add(&mut self, record: &Record, losses: &Losses) {
        self.batch.reserve(BATCH_BYTES + LINE_BYTES_MAX - self.batch.len());
        // There is no error: a Vec takes everything.
        let _ = writeln!(self.batch, "{record}");
        if self.batch.len() >= BATCH_BYTES {
            self.write(losses);
        }
    }

    fn write(&mut self, losses: &Losses) {
        if let Err(failure) = self.outlet.write_lines(&self.batch) {
            losses.count_failure(&failure);
        }
        self.batch.clear();
    }

    fn reopen(&mut self) {
        let Some(path) = &self.path else { return };
        match open(path) {
            Ok(outlet) => self.outlet = outlet,
            Err(error) => log::warn!("access log: cannot open {error}: the old file stays in use"),
        }
    }
}

/// Non-blocking, so that a pipe without a reader is an error now and not a wait for one.
fn open(path: &Path) -> io::Result<Outlet<File>> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
        .map(|file| {
            let torn = is_torn(&file, path);
            Outlet::new(file, torn)
        })
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

/// Whether a file ends in the middle of a line: a full disk or a crash may have left it so. One
/// that may not be read is taken for whole.
fn is_torn(file: &File, path: &Path) -> bool {
    let Ok(metadata) = file.metadata() else { return false };
    let mut last = [b'\n'];
    metadata.is_file()
        && metadata.len() > 0
        && File::open(path)
            .and_then(|file| file.read_exact_at(&mut last, metadata.len() - 1))
            .is_ok()
        && last != *b"\n"
}

#[cfg(test)]
mod tests;
