//! Lines for the operator, written by a thread of their own: whoever has something to say never
//! waits for a slow, stopped or full reader of the standard error.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender, SyncSender, TrySendError};
use std::thread;
use std::time::{Duration, Instant};

use env_logger::Target;
use log::LevelFilter;

/// How many lines may wait. What comes then is counted and not written.
const LINES_MAX: usize = 4096;
/// How long the end of the process may wait for what is not written yet.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where lines go to be written.
#[derive(Clone)]
pub struct LogWriter {
    lines: SyncSender<Item>,
    dropped: Arc<AtomicU64>,
}

enum Item {
    Line(Vec<u8>),
    /// Say so when everything before it is written.
    Mark(Sender<()>),
}

impl LogWriter {
    /// Starts the thread, and makes it the process's log at this level.
    pub fn start(level: LevelFilter) -> io::Result<LogWriter> {
        let writer = LogWriter::to(io::stderr())?;
        env_logger::Builder::new()
            .filter_level(level)
            .target(Target::Pipe(Box::new(writer.clone())))
            .init();
        Ok(writer)
    }

    fn to(destination: impl Write + Send + 'static) -> io::Result<LogWriter> {
        let (lines, items) = mpsc::sync_channel(LINES_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let writer = LogWriter { lines, dropped: Arc::clone(&dropped) };
        let work = move || write_items(&items, &dropped, destination);
        thread::Builder::new().name("log".into()).spawn(work)?;
        Ok(writer)
    }

    /// Writes a line whatever the level: somebody asked for it.
    pub fn say(&self, line: &str) {
        self.queue(format!("{line}\n").into_bytes());
    }

    /// Waits until everything is written, for a second at most.
    pub fn finish(&self) {
        let deadline = Instant::now() + PATIENCE;
        let (written, is_written) = mpsc::channel();
        let mut mark = Item::Mark(written);
        while let Err(TrySendError::Full(again)) = self.lines.try_send(mark) {
            if Instant::now() >= deadline {
                return;
            }
            mark = again;
            thread::sleep(Duration::from_millis(1));
        }
        // An error is the time, or a thread that is gone: no more to wait for in either case.
        let _ = is_written.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }

    fn queue(&self, line: Vec<u8>) {
        if let Err(TrySendError::Full(_)) = self.lines.try_send(Item::Line(line)) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// One call is one line: env_logger writes each record in one piece.
impl Write for LogWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.queue(line.to_vec());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write_items(items: &Receiver<Item>, dropped: &AtomicU64, mut destination: impl Write) {
    for item in items {
        // A line that cannot be written has nobody to read it.
        match item {
            Item::Line(line) => drop(destination.write_all(&line)),
            Item::Mark(written) => drop(written.send(())),
        }
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let line = format!("{lost} log lines were dropped: their reader was too slow\n");
            drop(destination.write_all(line.as_bytes()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Takes a line for each permit it is given.
    struct Slow {
        permits: Receiver<()>,
        taken: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.permits.recv().map_err(|_| io::ErrorKind::BrokenPipe)?;
            self.taken.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn slow() -> (LogWriter, Sender<()>, Arc<Mutex<Vec<u8>>>) {
        let taken = Arc::new(Mutex::new(Vec::new()));
        let (permit, permits) = mpsc::channel();
        let writer = LogWriter::to(Slow { permits, taken: Arc::clone(&taken) }).unwrap();
        (writer, permit, taken)
    }

    #[test]
    fn lines_are_written_in_their_order() {
        let (writer, permit, taken) = slow();
        ["one", "two", "three"].into_iter().for_each(|line| writer.say(line));
        (0..3).for_each(|_| permit.send(()).unwrap());
        writer.finish();
        assert_eq!(*taken.lock().unwrap(), b"one\ntwo\nthree\n");
    }

    #[test]
    fn a_stopped_reader_stops_nobody_and_hears_what_it_missed() {
        let (writer, permit, taken) = slow();
        (0..LINES_MAX + 100).for_each(|_| writer.say("line"));
        (0..2 * LINES_MAX).for_each(|_| permit.send(()).unwrap());
        writer.finish();
        let text = String::from_utf8(taken.lock().unwrap().clone()).unwrap();
        let lines = text.lines().filter(|line| *line == "line").count();
        let notes: usize = text
            .lines()
            .filter_map(|line| {
                line.strip_suffix(" log lines were dropped: their reader was too slow")
            })
            .map(|number| number.parse::<usize>().unwrap())
            .sum();
        assert_eq!(lines + notes, LINES_MAX + 100);
        assert!(notes > 0, "{lines} lines fit");
    }

    #[test]
    fn a_dead_reader_is_no_reason_to_wait() {
        let (writer, permit, _) = slow();
        drop(permit);
        writer.say("unheard");
        writer.finish();
    }
}
