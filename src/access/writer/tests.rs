use std::fs;
use std::io::{PipeReader, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{PermissionsExt, symlink};

use tempfile::TempDir;

use super::super::record::tests::record;
use super::*;
use crate::outcome::Outcome;

/// Waits for a condition, for a minute at most.
fn wait_for(what: &str, mut is_met: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_met() {
        assert!(Instant::now() < deadline, "{what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// A log of one reactor in a file that is not there yet.
struct Logged {
    log: AccessLog,
    sink: Sink,
    path: PathBuf,
    folder: TempDir,
}

fn logged() -> Logged {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let (log, mut sinks) = start(&path, 1);
    Logged { log, sink: sinks.remove(0), path, folder }
}

fn start(path: &Path, reactors: usize) -> (AccessLog, Vec<Sink>) {
    AccessLog::start(&config::AccessLog::File(path.into()), reactors).unwrap()
}

/// A log into a pipe, and its reader.
fn piped() -> (AccessLog, Sink, PipeReader) {
    let (reader, writer) = io::pipe().unwrap();
    let path = format!("/proc/self/fd/{}", writer.as_raw_fd());
    let (log, mut sinks) = start(Path::new(&path), 1);
    (log, sinks.remove(0), reader)
}

/// The ids of the sessions in whole lines.
fn ids(text: &str) -> Vec<String> {
    let id = |line: &str| {
        assert!(line.starts_with("time=") && line.ends_with(" fault=none"), "{line}");
        line.split(' ').nth(1).unwrap().strip_prefix("id=").unwrap().to_owned()
    };
    text.lines().map(id).collect()
}

fn read_ids(path: &Path) -> Vec<String> {
    ids(&fs::read_to_string(path).unwrap())
}

/// How many lines are written; the last may not be whole yet.
fn count_lines(path: &Path) -> usize {
    fs::read(path).unwrap().iter().filter(|&&octet| octet == b'\n').count()
}

fn of_reactor(reactor: u16, number: u64) -> Record {
    Record { reactor, ..record(number) }
}

#[test]
fn every_reactor_has_its_lines_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let (log, mut sinks) = start(&path, 3);
    for number in 0..1000 {
        for (reactor, sink) in sinks.iter_mut().enumerate() {
            sink.push(of_reactor(reactor as u16, number));
        }
    }
    log.finish();
    let ids = read_ids(&path);
    for reactor in 0..3 {
        let prefix = format!("{reactor}-");
        let numbers: Vec<u64> =
            ids.iter().filter_map(|id| id.strip_prefix(&prefix)?.parse().ok()).collect();
        assert_eq!(numbers, (0..1000).collect::<Vec<_>>());
    }
    assert_eq!((ids.len(), log.dropped()), (3000, 0));
}

#[test]
fn lines_come_without_being_waited_for() {
    let Logged { log, mut sink, path, folder: _folder } = logged();
    for number in 0..3 {
        sink.push(record(number));
        wait_for("a line is written", || count_lines(&path) == number as usize + 1);
    }
    log.finish();
    assert_eq!(read_ids(&path), ["0-0", "0-1", "0-2"]);
}

#[test]
fn a_file_is_appended_to_and_not_everyone_may_read_it() {
    let Logged { log, mut sink, path, folder: _folder } = logged();
    sink.push(record(1));
    log.finish();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o027, 0);
    let (log, mut sinks) = start(&path, 1);
    sinks[0].push(record(2));
    log.finish();
    assert_eq!(read_ids(&path), ["0-1", "0-2"]);
}

#[test]
fn a_torn_line_in_the_file_is_ended_first() {
    let Logged { log, mut sink, path, folder: _folder } = logged();
    sink.push(record(1));
    wait_for("the line is written", || count_lines(&path) == 1);
    let line = fs::read_to_string(&path).unwrap();
    fs::write(&path, &line[..50]).unwrap();
    log.reopen();
    wait_for("it is opened again", || !log.shared.must_reopen.load(Ordering::Acquire));
    sink.push(record(2));
    log.finish();
    let text = fs::read_to_string(&path).unwrap();
    let whole = text.strip_prefix(&line[..50]).unwrap().strip_prefix('\n').unwrap();
    assert_eq!(ids(whole), ["0-2"]);
}

#[test]
fn sessions_that_are_only_counted_get_no_line() {
    let Logged { log, mut sink, path, folder: _folder } = logged();
    sink.push(Record { outcome: Outcome::Empty, ..record(1) });
    sink.push(record(2));
    log.finish();
    assert_eq!(read_ids(&path), ["0-2"]);
}

#[test]
fn a_log_that_is_off_takes_records_and_orders() {
    let (log, mut sinks) = AccessLog::start(&config::AccessLog::Off, 2).unwrap();
    (0..2 * RECORDS_MAX as u64).for_each(|number| sinks[1].push(record(number)));
    log.reopen();
    log.finish();
    assert_eq!((sinks.len(), log.dropped()), (2, 0));
}

#[test]
fn what_cannot_be_opened_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("missing/access.log");
    let error = AccessLog::start(&config::AccessLog::File(path.clone()), 1).err().unwrap();
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
}

#[test]
fn a_rotation_loses_no_line() {
    const LINES: u64 = 20_000;
    let Logged { log, mut sink, path, folder } = logged();
    let pusher = thread::spawn(move || {
        for number in 0..LINES {
            wait_for("the writer keeps up", || has_room(&sink));
            sink.push(record(number));
        }
    });
    let mut rotated = Vec::new();
    while !pusher.is_finished() || rotated.len() < 2 {
        let old = folder.path().join(format!("access.log.{}", rotated.len()));
        fs::rename(&path, &old).unwrap();
        rotated.push(old);
        log.reopen();
        wait_for("there is a new file", || path.exists());
    }
    pusher.join().unwrap();
    log.finish();
    let ids: Vec<_> = rotated.iter().chain([&path]).flat_map(|path| read_ids(path)).collect();
    let expected: Vec<_> = (0..LINES).map(|number| format!("0-{number}")).collect();
    assert_eq!((ids.len(), log.dropped()), (LINES as usize, 0));
    assert!(ids == expected, "lines are out of order");
}

fn has_room(sink: &Sink) -> bool {
    sink.queue.as_ref().is_some_and(|queue| queue.records.slots() > RECORDS_MAX / 2)
}

#[test]
fn a_file_that_cannot_be_reopened_stays_in_use() {
    let folder = tempfile::tempdir().unwrap();
    let (before, after) = (folder.path().join("before"), folder.path().join("after"));
    fs::create_dir(&before).unwrap();
    let (log, mut sinks) = start(&before.join("access.log"), 1);
    sinks[0].push(record(1));
    fs::rename(&before, &after).unwrap();
    log.reopen();
    wait_for("it is tried", || !log.shared.must_reopen.load(Ordering::Acquire));
    sinks[0].push(record(2));
    log.finish();
    assert_eq!(read_ids(&after.join("access.log")), ["0-1", "0-2"]);
}

#[test]
fn a_full_disk_costs_lines_that_are_counted_and_told() {
    let folder = tempfile::tempdir().unwrap();
    let (path, file) = (folder.path().join("access.log"), folder.path().join("file"));
    symlink("/dev/full", &path).unwrap();
    let (log, mut sinks) = start(&path, 1);
    (0..10).for_each(|number| sinks[0].push(record(number)));
    wait_for("they are counted", || log.dropped() == 10);
    wait_for("they are told", || !log.shared.losses.is_untold());
    fs::remove_file(&path).unwrap();
    symlink(&file, &path).unwrap();
    log.reopen();
    wait_for("the other file is opened", || file.exists());
    sinks[0].push(record(10));
    log.finish();
    assert_eq!((read_ids(&file), log.dropped()), (vec!["0-10".to_owned()], 10));
}

#[test]
fn a_dead_pipe_costs_lines_that_are_counted() {
    let (log, mut sink, reader) = piped();
    drop(reader);
    (0..10).for_each(|number| sink.push(record(number)));
    log.finish();
    assert_eq!(log.dropped(), 10);
    assert!(!log.shared.losses.is_untold(), "nobody was told");
}

#[test]
fn a_stopped_reader_stops_nobody_and_misses_what_was_counted() {
    const LINES: usize = 3 * RECORDS_MAX;
    let (log, mut sink, mut reader) = piped();
    (0..LINES as u64).for_each(|number| sink.push(record(number)));
    assert!(log.dropped() > 0, "everything fits");
    let reader = thread::spawn(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).map(|_| text)
    });
    wait_for("it goes on", || !sink.queue.as_ref().unwrap().records.is_full());
    log.finish();
    let dropped = log.dropped() as usize;
    let ids = ids(&reader.join().unwrap().unwrap());
    assert_eq!(ids.len() + dropped, LINES);
}

#[test]
fn a_stopped_reader_does_not_keep_the_process() {
    let (log, mut sink, reader) = piped();
    (0..RECORDS_MAX as u64).for_each(|number| sink.push(record(number)));
    let start = Instant::now();
    log.finish();
    let waited = start.elapsed();
    assert!(waited >= PATIENCE, "it was not blocked");
    assert!(waited < 10 * PATIENCE, "{waited:?}");
    drop(reader);
}

/// How often a thread has gone to sleep.
fn sleeps(task: &Path) -> u64 {
    let status = fs::read_to_string(Path::new("/proc").join(task).join("status")).unwrap();
    let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    count.unwrap().trim().parse().unwrap()
}

#[test]
fn an_idle_log_does_not_wake_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let shared = Arc::new(Shared::new());
    let (writer, mut ends) = Writer::new(open(&path).unwrap(), None, 2, &shared);
    let (tell, told) = mpsc::channel();
    let writer = thread::spawn(move || {
        tell.send(fs::read_link("/proc/thread-self").unwrap()).unwrap();
        writer.run();
    });
    let task = told.recv().unwrap();
    let mut sink = Sink::new(ends.remove(0), writer.thread(), &shared);
    sink.push(record(1));
    wait_for("the line is written", || count_lines(&path) == 1);
    let mut before = sleeps(&task);
    wait_for("it sleeps", || {
        thread::sleep(10 * GATHERING);
        std::mem::replace(&mut before, sleeps(&task)) == before
    });
    // It wakes a few times for many records, and not at all without.
    for number in 0..1000 {
        sink.push(record(number));
        thread::sleep(Duration::from_micros(100));
    }
    wait_for("the lines are written", || count_lines(&path) == 1001);
    let slept = sleeps(&task) - before;
    assert!(slept < 200, "{slept} times for 1000 records");
    shared.must_finish.store(true, Ordering::Release);
    shared.bell.ring_for_order(writer.thread());
    writer.join().unwrap();
}
