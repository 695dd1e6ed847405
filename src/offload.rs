//! Work that may block, on threads of its own: a reactor never waits for it.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use crate::dns::{Answer, Failure};
use crate::sys;

/// A job, which says its result by itself.
pub type Job = Box<dyn FnOnce() + Send>;

/// Threads for one kind of job, started when first needed, and a bounded queue before them.
///
/// Each kind has its own, so that a stuck kind never blocks another. A job that is stuck holds its
/// thread; whoever asked has a deadline and does not wait for it.
#[derive(Clone)]
pub struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    name: &'static str,
    /// Where the threads may run: who starts one may be pinned.
    cpus: Vec<usize>,
    threads_max: usize,
    queue_max: usize,
    state: Mutex<State>,
    arrived: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<(Option<Instant>, Job)>,
    threads: usize,
    idle: usize,
}

/// The queue is full, or no thread can be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl Pool {
    /// A pool that has started nothing yet; `name` is its threads'. They will run where the calling
    /// thread may.
    pub fn new(name: &'static str, threads_max: usize, queue_max: usize) -> io::Result<Pool> {
        let (cpus, state) = (sys::allowed_cpus()?, Mutex::default());
        let shared = Shared { name, cpus, threads_max, queue_max, state, arrived: Condvar::new() };
        Ok(Pool { shared: Arc::new(shared) })
    }

    /// Queues a job. It is dropped unrun if it is not begun by `deadline`.
    pub fn submit(&self, deadline: Option<Instant>, job: Job) -> Result<(), Full> {
        let mut state = self.shared.lock();
        if state.queue.len() >= self.shared.queue_max {
            return Err(Full);
        }
        if state.idle <= state.queue.len() && state.threads < self.shared.threads_max {
            self.start_thread(&mut state)?;
        }
        state.queue.push_back((deadline, job));
        drop(state);
        self.shared.arrived.notify_one();
        Ok(())
    }

    fn start_thread(&self, state: &mut State) -> Result<(), Full> {
        let shared = Arc::clone(&self.shared);
        match thread::Builder::new().name(shared.name.into()).spawn(move || shared.work()) {
            Ok(_) => state.threads += 1,
            Err(_) if state.threads > 0 => {}
            Err(_) => return Err(Full),
        }
        Ok(())
    }
}

impl Shared {
    fn work(&self) {
        if let Err(error) = sys::run_on(&self.cpus) {
            log::warn!("a thread of {} shares a reactor's CPU: {error}", self.name);
        }
        loop {
            let (deadline, job) = self.next();
            if deadline.is_none_or(|deadline| Instant::now() < deadline) {
                job();
            }
        }
    }

    fn next(&self) -> (Option<Instant>, Job) {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.queue.pop_front() {
                return job;
            }
            state.idle += 1;
            state = self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the system's resolver (`getaddrinfo(3)`) knows of a name, in its order.
pub fn resolve(name: &str) -> Answer {
    match (name, 0).to_socket_addrs() {
        Ok(addresses) => {
            let addresses: Vec<IpAddr> = addresses.map(|address| address.ip()).collect();
            match addresses.is_empty() {
                false => Answer::Addresses { addresses, more: false },
                true => Answer::Failed(Failure::NoAddress),
            }
        }
        // It does not tell an unknown name from a server in trouble.
        Err(_) => Answer::Failed(Failure::NotFound),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    #[test]
    fn jobs_are_done() {
        let pool = Pool::new("test", 2, 100).unwrap();
        let (done, results) = mpsc::channel();
        for n in 0..50 {
            let done = done.clone();
            pool.submit(None, Box::new(move || done.send(n).unwrap())).unwrap();
        }
        let mut seen: Vec<i32> = (0..50).map(|_| results.recv_timeout(PATIENCE).unwrap()).collect();
        seen.sort();
        assert_eq!(seen, (0..50).collect::<Vec<_>>());
    }

    #[test]
    fn the_queue_is_bounded_while_all_threads_are_stuck() {
        let pool = Pool::new("test", 1, 2).unwrap();
        let (begun, has_begun) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let stuck = move || {
            begun.send(()).unwrap();
            let _ = released.recv();
        };
        pool.submit(None, Box::new(stuck)).unwrap();
        has_begun.recv_timeout(PATIENCE).unwrap();
        pool.submit(None, Box::new(|| ())).unwrap();
        pool.submit(None, Box::new(|| ())).unwrap();
        assert_eq!(pool.submit(None, Box::new(|| ())), Err(Full));
        drop(release);
    }

    #[test]
    fn what_is_too_late_is_not_begun() {
        let pool = Pool::new("test", 1, 10).unwrap();
        let (done, results) = mpsc::channel();
        let (late, in_time) = (done.clone(), done);
        pool.submit(Some(Instant::now()), Box::new(move || late.send("late").unwrap())).unwrap();
        pool.submit(None, Box::new(move || in_time.send("in time").unwrap())).unwrap();
        assert_eq!(results.recv_timeout(PATIENCE), Ok("in time"));
    }

    #[test]
    fn a_pinned_thread_does_not_pin_the_pool() {
        let everywhere = sys::allowed_cpus().unwrap();
        let pool = Pool::new("test", 1, 1).unwrap();
        let (done, results) = mpsc::channel();
        let pinned = thread::spawn(move || {
            sys::run_on(&[sys::allowed_cpus().unwrap()[0]]).unwrap();
            pool.submit(None, Box::new(move || done.send(sys::allowed_cpus().unwrap()).unwrap()))
        });
        pinned.join().unwrap().unwrap();
        assert_eq!(results.recv_timeout(PATIENCE), Ok(everywhere));
    }

    #[test]
    fn the_hosts_file_is_asked() {
        let Answer::Addresses { addresses, more: false } = resolve("localhost") else {
            panic!("localhost has addresses");
        };
        assert!(addresses.iter().all(IpAddr::is_loopback), "{addresses:?}");
    }

    #[test]
    fn a_name_that_does_not_exist_is_an_unreachable_host() {
        assert_eq!(resolve("no-such-name.invalid"), Answer::Failed(Failure::NotFound));
    }
}
