use std::io;
use std::mem;
use std::net::IpAddr;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use mio::{Registry, Waker};

use crate::auth::{Auth, Done};
use crate::dns::{Answer, Sources};
use crate::metrics::Report;
use crate::policy::Host;
use crate::token::{Role, Token};

/// What another thread tells a reactor.
pub enum Mail {
    /// What a name means, for whoever asked under this token.
    Answer(Token, Answer),
    /// What came of a task about the client at this address, for whoever asked under this token.
    Done(Token, IpAddr, Done),
    /// Clients may be others from now on.
    Auth(Arc<Auth>),
    /// A place for a session was given back while you waited for one.
    Released,
    /// The host has other addresses now, or names mean something else.
    Surroundings(Arc<Host>, Arc<Sources>),
    /// Send your counters here.
    Report(Sender<Report>),
    /// Take no new clients, let sessions finish until this time, reset the rest, then end.
    Stop {
        /// When to reset what is left.
        until: Instant,
    },
}

/// A reactor's mail: a queue on the cold path, and the waker that announces it.
///
/// What can be in it is bounded by who writes: a thread of the offload pool one answer at a time
/// for a session that still waits or did, the main thread one letter a signal, and a release one
/// letter each time the reactor waits for it.
pub struct Mailbox {
    mail: Mutex<Vec<Mail>>,
    waker: Waker,
}

impl Mailbox {
    /// The mailbox of the reactor behind `registry`.
    pub fn new(registry: &Registry) -> io::Result<Mailbox> {
        let waker = Waker::new(registry, Token::new(0, Role::Mailbox, 0).into())?;
        Ok(Mailbox { mail: Mutex::default(), waker })
    }

    /// Leaves a letter.
    pub fn post(&self, mail: Mail) {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner).push(mail);
        if let Err(error) = self.waker.wake() {
            // An eventfd that cannot be written to is a broken process, not a busy one.
            log::error!("cannot wake a reactor: {error}");
        }
    }

    /// Takes all letters.
    pub fn collect(&self) -> Vec<Mail> {
        mem::take(&mut self.mail.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
