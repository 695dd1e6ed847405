//! Work that may block, on threads of its own: a reactor never waits for it.

mod list;
mod queue;

use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use self::queue::{Begun, Queue, Running};
use crate::dns::{Answer, Failure};
use crate::sys;

/// A job, which says its result by itself.
pub type Job = Box<dyn FnOnce() + Send>;

/// Threads for one kind of job, started when first needed, and a bounded queue before them.
///
/// Each kind has its own, so that a stuck kind never blocks another. A job that is stuck holds its
/// thread; whoever asked has a deadline and does not wait for it.
///
/// Sources take turns: who has many jobs waits behind them, and anybody else for his turn among the
/// sources. Where there are two threads or more, one source never has all of them. A job that can
/// no longer begin in time leaves its place as soon as anybody needs one.
#[derive(Clone)]
pub struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    name: &'static str,
    /// Where the threads may run: who starts one may be pinned.
    cpus: Vec<usize>,
    threads_max: usize,
    is_patient: bool,
    state: Mutex<State>,
    arrived: Condvar,
}

struct State {
    queue: Queue<Job>,
    threads: usize,
    idle: usize,
}

/// The queue is full, or has as many jobs of this source as it may, or no thread can be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl Pool {
    /// A pool that has started nothing yet; `name` is its threads'. They will run where the calling
    /// thread may. Before them `queue_max` jobs may wait, `per_source_max` of each source.
    pub fn new(
        name: &'static str,
        threads_max: usize,
        queue_max: usize,
        per_source_max: usize,
    ) -> io::Result<Pool> {
        let cpus = sys::allowed_cpus()?;
        let running_max = threads_max.saturating_sub(1).max(1);
        let queue = Queue::new(queue_max, per_source_max, running_max, Instant::now());
        let state = Mutex::new(State { queue, threads: 0, idle: 0 });
        let (is_patient, arrived) = (false, Condvar::new());
        let shared = Shared { name, cpus, threads_max, is_patient, state, arrived };
        Ok(Pool { shared: Arc::new(shared) })
    }

    /// The same, for jobs that keep a processor busy: a reactor that needs it comes first.
    pub fn patient(mut self) -> Pool {
        if let Some(shared) = Arc::get_mut(&mut self.shared) {
            shared.is_patient = true;
        }
        self
    }

    /// Queues a job for a client, or for nobody in particular. It is dropped unrun if it is not
    /// begun by `deadline`.
    pub fn submit(
        &self,
        source: Option<IpAddr>,
        deadline: Option<Instant>,
        job: Job,
    ) -> Result<(), Full> {
        self.submit_with(source, deadline, job, |job| job()).map_err(|_unrun| Full)
    }

    /// As [`submit`](Self::submit), for a job that is to do something with a value, and gives that
    /// back where there is no room.
    pub fn submit_with<T: Send + 'static>(
        &self,
        source: Option<IpAddr>,
        deadline: Option<Instant>,
        value: T,
        work: impl FnOnce(T) + Send + 'static,
    ) -> Result<(), T> {
        let mut state = self.shared.lock();
        let late = state.queue.expire(Instant::now());
        let has_room = self.has_thread(&mut state) && state.queue.has_room(source.into());
        let submitted = if has_room { Ok(Box::new(move || work(value))) } else { Err(value) };
        let submitted = submitted.map(|job| {
            let pushed = state.queue.push(source.into(), deadline, job);
            debug_assert!(pushed.is_ok());
            self.shared.arrived.notify_one();
        });
        drop(state);
        // What a job is dropped with is its own affair: nobody waits for it.
        drop(late);
        submitted
    }

    /// Starts a thread if those there are have enough to do; whether there is one.
    fn has_thread(&self, state: &mut State) -> bool {
        if state.idle <= state.queue.ready() && state.threads < self.shared.threads_max {
            self.start_thread(state);
        }
        state.threads > 0
    }

    /// Those there are go on without one that cannot be started.
    fn start_thread(&self, state: &mut State) {
        let shared = Arc::clone(&self.shared);
        let started = thread::Builder::new().name(shared.name.into()).spawn(move || shared.work());
        state.threads += usize::from(started.is_ok());
    }
}

impl Shared {
    fn work(&self) {
        if let Err(error) = sys::run_on(&self.cpus) {
            log::warn!("a thread of {} shares a reactor's CPU: {error}", self.name);
        }
        if self.is_patient
            && let Err(error) = sys::lower_priority()
        {
            log::warn!("a thread of {} is as urgent as a reactor: {error}", self.name);
        }
        let mut ended = None;
        loop {
            let Begun { job, deadline, place } = self.next(ended);
            if deadline.is_none_or(|deadline| Instant::now() < deadline) {
                job();
            }
            ended = Some(place);
        }
    }

    /// The next job, for a thread whose last one has ended.
    fn next(&self, ended: Option<Running>) -> Begun<Job> {
        let mut state = self.lock();
        if let Some(place) = ended {
            state.queue.end(place);
        }
        loop {
            if let Some(begun) = state.queue.begin() {
                return begun;
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

    fn pool(threads_max: usize, queue_max: usize, per_source_max: usize) -> Pool {
        Pool::new("test", threads_max, queue_max, per_source_max).unwrap()
    }

    fn client(n: u8) -> Option<IpAddr> {
        Some(IpAddr::from([192, 0, 2, n]))
    }

    /// Begins a job that lasts until what is returned is dropped.
    fn get_stuck(pool: &Pool, source: Option<IpAddr>) -> mpsc::Sender<()> {
        let (begun, has_begun) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let stuck = move || {
            begun.send(()).unwrap();
            let _ = released.recv();
        };
        pool.submit(source, None, Box::new(stuck)).unwrap();
        has_begun.recv_timeout(PATIENCE).unwrap();
        release
    }

    fn saying<T: Send + 'static>(sender: &mpsc::Sender<T>, what: T) -> Job {
        let sender = sender.clone();
        Box::new(move || sender.send(what).unwrap())
    }

    #[test]
    fn jobs_are_done() {
        let pool = pool(2, 100, 100);
        let (done, results) = mpsc::channel();
        for n in 0..50 {
            pool.submit(None, None, saying(&done, n)).unwrap();
        }
        let mut seen: Vec<i32> = (0..50).map(|_| results.recv_timeout(PATIENCE).unwrap()).collect();
        seen.sort();
        assert_eq!(seen, (0..50).collect::<Vec<_>>());
    }

    #[test]
    fn the_queue_is_bounded_while_all_threads_are_stuck() {
        let pool = pool(1, 2, 2);
        let _stuck = get_stuck(&pool, None);
        pool.submit(None, None, Box::new(|| ())).unwrap();
        pool.submit(client(1), None, Box::new(|| ())).unwrap();
        assert_eq!(pool.submit(None, None, Box::new(|| ())), Err(Full));
        assert_eq!(pool.submit(client(1), None, Box::new(|| ())), Err(Full));
    }

    #[test]
    fn what_is_too_late_is_not_begun() {
        let pool = pool(1, 10, 10);
        let (done, results) = mpsc::channel();
        pool.submit(None, Some(Instant::now()), saying(&done, "late")).unwrap();
        pool.submit(None, None, saying(&done, "in time")).unwrap();
        assert_eq!(results.recv_timeout(PATIENCE), Ok("in time"));
    }

    #[test]
    fn who_floods_waits_behind_himself_and_others_do_not() {
        let pool = pool(1, 1000, 500);
        let stuck = get_stuck(&pool, client(1));
        let (done, results) = mpsc::channel();
        while pool.submit(client(1), None, saying(&done, 1)).is_ok() {}
        pool.submit(client(2), None, saying(&done, 2)).unwrap();
        pool.submit(client(3), None, saying(&done, 3)).unwrap();
        drop(stuck);
        let seen: Vec<i32> = (0..502).map(|_| results.recv_timeout(PATIENCE).unwrap()).collect();
        assert_eq!(seen[..4], [2, 3, 1, 1]);
        assert_eq!(seen.iter().filter(|&&of| of == 1).count(), 500);
    }

    #[test]
    fn whose_jobs_are_stuck_leaves_others_a_thread() {
        let pool = pool(4, 1000, 100);
        let stuck: Vec<_> = (0..3).map(|_| get_stuck(&pool, client(1))).collect();
        let (done, results) = mpsc::channel();
        for _ in 0..50 {
            pool.submit(client(1), None, saying(&done, 1)).unwrap();
            pool.submit(client(2), None, saying(&done, 2)).unwrap();
        }
        for _ in 0..50 {
            assert_eq!(results.recv_timeout(PATIENCE), Ok(2));
        }
        assert_eq!(pool.shared.lock().threads, 4);
        drop(stuck);
        for _ in 0..50 {
            assert_eq!(results.recv_timeout(PATIENCE), Ok(1));
        }
    }

    #[test]
    fn the_dead_keep_nobody_out() {
        let pool = pool(1, 100, 100);
        let stuck = get_stuck(&pool, client(1));
        let (done, results) = mpsc::channel();
        let soon = Instant::now() + Duration::from_millis(20);
        for _ in 0..50 {
            pool.submit(client(1), Some(soon), saying(&done, 1)).unwrap();
        }
        thread::sleep(Duration::from_millis(30));
        for _ in 0..50 {
            pool.submit(client(2), None, saying(&done, 2)).unwrap();
        }
        drop((stuck, done));
        let seen: Vec<i32> = (0..50).map(|_| results.recv_timeout(PATIENCE).unwrap()).collect();
        assert!(seen.iter().all(|&of| of == 2));
    }

    #[test]
    fn a_job_that_is_dropped_may_submit_another() {
        struct Next(Pool, mpsc::Sender<()>);
        impl Drop for Next {
            fn drop(&mut self) {
                self.0.submit(None, None, saying(&self.1, ())).unwrap();
            }
        }
        let pool = pool(1, 10, 1);
        let stuck = get_stuck(&pool, client(1));
        let (done, results) = mpsc::channel();
        let next = || {
            let next = Next(pool.clone(), done.clone());
            Box::new(move || drop(next))
        };
        let soon = Instant::now() + Duration::from_millis(20);
        pool.submit(client(1), Some(soon), next()).unwrap();
        thread::sleep(Duration::from_millis(30));
        pool.submit(client(1), None, Box::new(|| ())).unwrap();
        drop(stuck);
        assert_eq!(results.recv_timeout(PATIENCE), Ok(()));
    }

    #[test]
    fn a_pinned_thread_does_not_pin_the_pool() {
        let everywhere = sys::allowed_cpus().unwrap();
        let pool = pool(1, 1, 1);
        let (done, results) = mpsc::channel();
        let pinned = thread::spawn(move || {
            sys::run_on(&[sys::allowed_cpus().unwrap()[0]]).unwrap();
            let job = move || done.send(sys::allowed_cpus().unwrap()).unwrap();
            pool.submit(None, None, Box::new(job))
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
