//! System calls that std, mio and socket2 do not offer: the only `unsafe` of the crate.
//!
//! Each function wraps one call, takes borrowed descriptors and returns what the kernel said.

#![allow(unsafe_code)]

use std::env;
use std::ffi::CStr;
use std::fs;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, RawFd};
use std::ptr;

/// Calls a libc function that reports failure by -1 and `errno`.
macro_rules! syscall {
    ($function:ident($($argument:expr),* $(,)?)) => {{
        // SAFETY: every use below passes pointers to live, correctly sized values, or null where
        // the call allows it, and descriptors that are borrowed for the length of the call.
        let result = unsafe { libc::$function($($argument),*) };
        if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
    }};
}

mod command_line;
mod datagrams;
pub mod gssapi;
mod interfaces;
mod library;
pub mod pam;
mod pipe;
mod routes;

pub use command_line::{hide_in_arguments, hide_in_environment};
pub use datagrams::{Batch, Message, Outgoing, prepare_datagram_socket, send_datagrams};
pub use interfaces::{interface_index, local_addresses};
pub use library::LoadError;
pub use pipe::Pipe;
pub use routes::local_networks;

/// The CPUs this process may run on, ascending (`sched_getaffinity(2)`): a container's cpuset and
/// `taskset` are honoured.
pub fn allowed_cpus() -> io::Result<Vec<usize>> {
    let mut set = empty_cpu_set();
    syscall!(sched_getaffinity(0, mem::size_of_val(&set), &mut set))?;
    Ok((0..libc::CPU_SETSIZE as usize)
        // SAFETY: `cpu` is below CPU_SETSIZE, the number of bits in the set.
        .filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) })
        .collect())
}

/// Lets the calling thread run on these CPUs only; threads that it starts inherit that.
pub fn run_on(cpus: &[usize]) -> io::Result<()> {
    let mut set = empty_cpu_set();
    for &cpu in cpus {
        if cpu >= libc::CPU_SETSIZE as usize {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        // SAFETY: `cpu` is below CPU_SETSIZE, the number of bits in the set.
        unsafe { libc::CPU_SET(cpu, &mut set) };
    }
    syscall!(sched_setaffinity(0, mem::size_of_val(&set), &set)).map(drop)
}

/// Has the calling thread give way to those of normal priority: it gets about a tenth of a CPU that
/// one of them has use for (`setpriority(2)`, which is of one thread on Linux).
pub fn lower_priority() -> io::Result<()> {
    const NICE: libc::c_int = 10;
    const THIS_THREAD: libc::id_t = 0;
    syscall!(setpriority(libc::PRIO_PROCESS, THIS_THREAD, NICE)).map(drop)
}

/// Makes `getaddrinfo(3)` take names as they are, without a search list, and give up in seconds
/// (resolv.conf(5)), unless the environment says how. Does nothing once there is a second thread.
pub fn configure_system_resolver() {
    let threads = fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
    for (name, value) in [("LOCALDOMAIN", ""), ("RES_OPTIONS", "ndots:0 timeout:2 attempts:2")] {
        if threads == 1 && env::var_os(name).is_none() {
            // SAFETY: this is the only thread, so nobody reads the environment meanwhile.
            unsafe { env::set_var(name, value) };
        }
    }
}

/// Fills `bytes` with random ones that nobody can foretell (`getrandom(2)`).
///
/// Panics where the kernel has none, which is before it has seeded itself and nowhere else.
pub fn fill_random(bytes: &mut [u8]) {
    let mut filled = 0;
    while filled < bytes.len() {
        let rest = &mut bytes[filled..];
        match syscall!(getrandom(rest.as_mut_ptr().cast(), rest.len(), 0)) {
            Ok(n) => filled += n as usize,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => panic!("no random numbers: {error}"),
        }
    }
}

/// A file in memory that has no name to others (`memfd_create(2)`).
pub fn memory_file(name: &CStr) -> io::Result<fs::File> {
    let descriptor = syscall!(memfd_create(name.as_ptr(), libc::MFD_CLOEXEC))?;
    // SAFETY: the descriptor has just been made, and nobody else has it.
    Ok(unsafe { fs::File::from_raw_fd(descriptor) })
}

/// Raises the limit of open descriptors to its hard maximum and returns it.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    syscall!(getrlimit(libc::RLIMIT_NOFILE, &mut limit))?;
    limit.rlim_cur = limit.rlim_max;
    syscall!(setrlimit(libc::RLIMIT_NOFILE, &limit))?;
    Ok(limit.rlim_cur)
}

/// Throws away up to `max` received TCP bytes without copying them (`MSG_TRUNC`, tcp(7)).
pub fn discard(socket: BorrowedFd<'_>, max: usize) -> io::Result<usize> {
    let n = syscall!(recv(socket.as_raw_fd(), ptr::null_mut(), max, libc::MSG_TRUNC))?;
    Ok(n as usize)
}

/// How many bytes a TCP socket has taken that its peer has not acknowledged (`SIOCOUTQ`, tcp(7)).
pub fn unacknowledged(socket: BorrowedFd<'_>) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    syscall!(ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &mut bytes))?;
    Ok(bytes as usize)
}

/// Has an epoll instance report under `token` that there is something to read, again and again for
/// as long as there is (`epoll_ctl(2)`, level-triggered).
pub fn watch_level(epoll: RawFd, socket: BorrowedFd<'_>, token: u64) -> io::Result<()> {
    let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: token };
    syscall!(epoll_ctl(epoll, libc::EPOLL_CTL_ADD, socket.as_raw_fd(), &mut event)).map(drop)
}

/// Has an epoll instance report nothing of a socket any more.
pub fn unwatch(epoll: RawFd, socket: BorrowedFd<'_>) -> io::Result<()> {
    let event = ptr::null_mut();
    syscall!(epoll_ctl(epoll, libc::EPOLL_CTL_DEL, socket.as_raw_fd(), event)).map(drop)
}

/// Lets a write beyond `RLIMIT_FSIZE` fail with `EFBIG` instead of killing the process by SIGXFSZ.
pub fn ignore_file_size_signal() {
    // SAFETY: ignoring a signal runs no code of ours.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

fn empty_cpu_set() -> libc::cpu_set_t {
    // SAFETY: a cpu_set_t is an array of integers; all zeroes is the empty set.
    unsafe { mem::zeroed() }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;
    use std::time::{Duration, Instant};

    use super::*;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (near, listener.accept().unwrap().0)
    }

    #[test]
    fn a_thread_is_pinned_to_a_cpu_it_may_use() {
        let cpus = allowed_cpus().unwrap();
        assert!(!cpus.is_empty());
        let last = *cpus.last().unwrap();
        std::thread::spawn(move || {
            run_on(&[last]).unwrap();
            assert_eq!(allowed_cpus().unwrap(), [last]);
        })
        .join()
        .unwrap();
        assert!(run_on(&[usize::MAX]).is_err());
    }

    #[test]
    fn discarded_bytes_are_gone_and_the_rest_stays() {
        let (mut near, mut far) = pair();
        near.write_all(b"garbage!kept").unwrap();
        assert_eq!(discard(far.as_fd(), 8).unwrap(), 8);
        let mut rest = [0; 4];
        far.read_exact(&mut rest).unwrap();
        assert_eq!(&rest, b"kept");
    }

    #[test]
    fn unacknowledged_counts_what_a_full_peer_left() {
        let (mut near, far) = pair();
        near.set_nonblocking(true).unwrap();
        while near.write(&[0; 65536]).is_ok() {}
        assert!(unacknowledged(near.as_fd()).unwrap() > 0);

        let reader = far.try_clone().unwrap();
        let drained = std::thread::spawn(move || io::copy(&mut &reader, &mut io::sink()));
        let deadline = Instant::now() + Duration::from_secs(10);
        while unacknowledged(near.as_fd()).unwrap() > 0 {
            assert!(Instant::now() < deadline, "the peer reads, so the queue must run empty");
            std::thread::yield_now();
        }
        drop(near);
        drained.join().unwrap().unwrap();
    }
}
