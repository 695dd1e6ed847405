//! Lines for the operator, written by a thread of their own: whoever has something to say never
//! waits for a slow, stopped or full reader of the standard error. What is lost on the way is
//! counted, and told when there is somebody to tell.

mod losses;
mod outlet;
mod throttle;

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender, SyncSender, TrySendError};
use std::thread;
use std::time::{Duration, Instant};

use env_logger::Target;
use log::LevelFilter;

pub(crate) use self::losses::Losses;
pub(crate) use self::outlet::Outlet;
pub use self::throttle::Throttle;
use crate::sys;

/// How many lines may wait. What comes then is counted and not written.
const LINES_MAX: usize = 4096;
/// How long a line may be, in bytes. The rest of a longer one is cut off.
const LINE_BYTES_MAX: usize = 8192;
/// How long the end of the process may wait for what is not written yet: half of the second that
/// both logs have together, for one reader may have stopped reading both.
const PATIENCE: Duration = Duration::from_millis(500);

/// Where lines go to be written.
#[derive(Clone)]
pub struct LogWriter {
    lines: SyncSender<Item>,
    losses: Arc<Losses>,
}

enum Item {
    Line(Vec<u8>),
    /// Say so when everything before it is written.
    Mark(Sender<()>),
}

impl LogWriter {
    /// Starts the thread, and makes it the process's log at this level.
    pub fn start(level: LevelFilter) -> io::Result<LogWriter> {
        sys::ignore_file_size_signal();
        let writer = LogWriter::to(io::stderr())?;
        env_logger::Builder::new()
            .filter_level(level)
            .target(Target::Pipe(Box::new(writer.clone())))
            .init();
        Ok(writer)
    }

    fn to(destination: impl Write + Send + 'static) -> io::Result<LogWriter> {
        let (lines, items) = mpsc::sync_channel(LINES_MAX);
        let losses = Arc::new(Losses::default());
        let writer = LogWriter { lines, losses: Arc::clone(&losses) };
        let work = move || write_items(&items, &losses, Outlet::new(destination, false));
        thread::Builder::new().name("log".into()).spawn(work)?;
        Ok(writer)
    }

    /// Writes a line whatever the level: somebody asked for it.
    pub fn say(&self, line: &str) {
        self.queue(format!("{line}\n").into_bytes());
    }

    /// How many lines were not written since the start.
    pub fn dropped(&self) -> u64 {
        self.losses.total()
    }

    /// Waits until everything is written, for half a second at most.
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
        if let Err(TrySendError::Full(_)) = self.lines.try_send(Item::Line(cut(line))) {
            self.losses.count_full_queue();
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

/// The line, or as much of it as may be written, up to a whole character.
fn cut(mut line: Vec<u8>) -> Vec<u8> {
    const END: &[u8] = b" [cut off]\n";
    if line.len() > LINE_BYTES_MAX {
        let is_inside = |octet: u8| octet & 0xc0 == 0x80;
        let mut len = LINE_BYTES_MAX - END.len();
        while len > 0 && is_inside(line[len]) {
            len -= 1;
        }
        line.truncate(len);
        line.extend(END);
    }
    line
}

fn write_items(items: &Receiver<Item>, losses: &Losses, mut outlet: Outlet<impl Write>) {
    for item in items {
        match item {
            Item::Line(line) => match outlet.write_lines(&line) {
                Ok(()) => tell_losses(losses, &mut outlet),
                Err(failure) => losses.count_failure(&failure),
            },
            Item::Mark(written) => {
                tell_losses(losses, &mut outlet);
                // Whoever asked may have lost patience.
                let _ = written.send(());
            }
        }
    }
}

fn tell_losses(losses: &Losses, outlet: &mut Outlet<impl Write>) {
    if let Some(loss) = losses.tell()
        && outlet.write_lines(format!("log: {loss}\n").as_bytes()).is_err()
    {
        losses.take_back(&loss);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::outlet::tests::Scripted;
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

    fn told(line: &str) -> Option<usize> {
        let (number, _) = line.strip_prefix("log: ")?.split_once(" line")?;
        Some(number.parse().unwrap())
    }

    /// What a destination is left with that fails as it is told.
    fn fail(calls: impl IntoIterator<Item = Result<usize, i32>>, lines: &[&str]) -> (String, u64) {
        let (send, items) = mpsc::sync_channel(LINES_MAX);
        let losses = Losses::default();
        for line in lines {
            send.send(Item::Line(format!("{line}\n").into_bytes())).unwrap();
        }
        let (written, is_written) = mpsc::channel();
        send.send(Item::Mark(written)).unwrap();
        drop(send);
        let calls = calls.into_iter().collect();
        let mut destination = Scripted { calls, taken: Vec::new() };
        write_items(&items, &losses, Outlet::new(&mut destination, false));
        is_written.recv().unwrap();
        (String::from_utf8(destination.taken).unwrap(), losses.total())
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted_and_told_later() {
        let full = Err(libc::ENOSPC);
        let (text, dropped) = fail([full, Ok(2), full, full], &["one", "two", "three", "four"]);
        let why = io::Error::from_raw_os_error(libc::ENOSPC);
        assert_eq!(text, format!("tw\nfour\nlog: 3 lines are lost: {why}\n"));
        assert_eq!(dropped, 3);
    }

    #[test]
    fn losses_that_cannot_be_told_are_told_with_the_next_chance() {
        let full = Err(libc::ENOSPC);
        let (text, dropped) = fail([full, Ok(9), full], &["one", "two"]);
        let why = io::Error::from_raw_os_error(libc::ENOSPC);
        assert_eq!(text, format!("two\nlog: 1 line is lost: {why}\n"));
        assert_eq!(dropped, 1);
    }

    #[test]
    fn a_long_line_is_cut_off_between_characters() {
        let line = |text: &str| String::from_utf8(cut(format!("{text}\n").into_bytes())).unwrap();
        let fits = "x".repeat(LINE_BYTES_MAX - 1);
        assert_eq!(line(&fits), format!("{fits}\n"));
        for shift in ["", "x", "xx", "xxx"] {
            let cut = line(&format!("{shift}{}", "\u{1f9e6}".repeat(LINE_BYTES_MAX)));
            assert!(cut.ends_with("\u{1f9e6} [cut off]\n"));
            assert!(cut.len() <= LINE_BYTES_MAX && cut.len() > LINE_BYTES_MAX - 20);
        }
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
        let notes: usize = text.lines().filter_map(told).sum();
        assert_eq!(lines + notes, LINES_MAX + 100);
        assert!(notes > 0, "{lines} lines fit");
        assert_eq!(writer.dropped(), notes as u64);
    }

    #[test]
    fn a_dead_reader_is_no_reason_to_wait() {
        let (writer, permit, _) = slow();
        drop(permit);
        writer.say("unheard");
        writer.finish();
    }
}
