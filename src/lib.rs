//! ringsocks: a SOCKS gateway for Linux.
//!
//! One single-threaded [reactor] per core, each with its own `SO_REUSEPORT` listener, a slab of
//! [sessions](session) and rings of bytes between their sockets. Nothing on the data path is
//! shared, locked, allocated per byte, or scheduled by a runtime. This page is the map.
//!
//! # Threads
//!
//! | thread | what it does |
//! |---|---|
//! | main ([`process`]) | binds the listeners, starts the reactors, waits for signals and for reactors that end, reads users again when told to, looks every two seconds whether names or the host's addresses have changed |
//! | reactor, one a CPU, pinned ([`reactor`]) | accepts, negotiates, resolves, connects, relays, keeps the deadlines; never blocks |
//! | log ([`logging`]) | writes the lines of the others: a stopped reader stops nobody |
//! | access ([`access`]) | formats and writes a line for each session that has ended; asleep while none does |
//! | [`offload`], bounded, one kind a pool | what may block or take long: password hashes, PAM, steps of security contexts; `getaddrinfo`, for who wants it |
//!
//! Reactors share [`session::Terms`] (read only), [`auth::Auth`] (one snapshot, replaced whole), one
//! count of open sessions whose releases ring the [`policy::Bell`] of a reactor that waits for one, the
//! counts of [`policy::ClientLimits`], who has [failed](policy::Penalties) and
//! [succeeded](policy::Admitted) to log in, and the [`policy::Ports`] that are ours.
//! Letters reach them by [`reactor::Mailbox`], the cold path.
//!
//! # Layers
//!
//! A layer imports only those below it.
//!
//! | layer | what is in it | what will find its room here |
//! |---|---|---|
//! | `main`, [`process`] | command line, signals, start and stop | admin and metrics thread |
//! | [`reactor`] | tick, listeners, timers, mailbox, kernel sockets, the resolver's sockets | |
//! | [`session`] | one client's states and deadlines: negotiation, securing, connecting, accepting, relaying, [associations](session::associate), closing | upstream proxies |
//! | [`auth`] · [`policy`] · [`relay`] · [`offload`] · [`access`] | who is it · may it · move bytes · blocking work · what it was | rules |
//! | [`dns`] | questions ⇄ answers: no socket, no clock | |
//! | [`proto`] | bytes ⇄ values: no socket, no clock | |
//! | [`config`] · [`logging`] · [`metrics`] · [`outcome`] · [`token`] · [`timers`] | what everyone may name | |
//! | [`sys`] | system calls, and the two libraries that are loaded where they are asked for: the only `unsafe` | |
//!
//! Pure parts take `now` as an argument and bytes as slices: the simulators drive the same
//! [`session::Session`] (`tests/simulation`, `tests/associations`) and the same [`dns::Resolver`]
//! (`tests/resolver`) as the reactor does. Only reactor, token and process know mio.
//!
//! # A byte's way
//!
//! 1. The reactor accepts, registers the socket once, edge-triggered, for life, and gives it a slot.
//!    Readiness is remembered in its [`relay::Endpoint`], and so is the first error.
//! 2. A negotiation reads into an inbox of 1 KiB, held only while a message is incomplete. What came
//!    behind the request stays there: it is the first thing the target is sent.
//! 3. A name is asked of the reactor's [`dns::Resolver`], both families apart. The request's
//!    address, or each of the name's, passes the gate in [`policy`] before it is connected to and
//!    again once it is; families take turns, a quarter of a second apart, and the first that answers
//!    wins (RFC 8305). The reply carries the real BND.
//! 4. Each direction is a [`relay::Lane`]. [`relay::pump`], one function for both, receives into a
//!    pooled ring and sends from it until something blocks or the turn's work is spent. A lane that
//!    proves to carry bulk splices through a pooled kernel pipe instead, and copies again when its
//!    splices become small. An idle session holds neither. A full ring or pipe is not received
//!    into: that is all of backpressure.
//! 5. A FIN follows the bytes before it and ends one direction; the second is sent by closing. A
//!    reset travels as a reset: what came before it is offered to the other side for a second, then
//!    that side is reset.
//! 6. The reactor reaps: one place, one [`outcome::Outcome`], one counter, one [`access::Record`].
//!
//! # A login's way
//!
//! 1. The first rule of the listener that is for the client's address says by which methods it may
//!    come ([`policy::Methods`]); the first of them that it offers is chosen.
//! 2. A name and a password are looked up in [`auth::Auth`]: a plain password and one that was found
//!    right within the last minute are known at once. Any other is a [`auth::Task`] for a thread of
//!    [`offload`], where each client waits behind its own; what comes of it returns by mailbox.
//! 3. Where GSSAPI is chosen the session is `Securing`: whole tokens of the client's, collected by
//!    [`relay::Tokens`], are tasks of an [`auth::Acceptor`], until there is a context, and a level.
//! 4. From then on a [`relay::Stage`] stands between the client's socket and everything else: its
//!    [`relay::Endpoint`] opens and seals messages, so that the rest of the handshake, replies and
//!    [`relay::pump`] are the same as ever. It opens no token before the bytes of the last are gone.
//!    A token that stalls has no more room than what is there of it needs, and keeps that for a minute
//!    at most where others wait for some ([`relay::Buffers`]).
//!    What seals is a [`proto::gssapi::Seal`]: [`auth::cfx`], or the library.
//!
//! # A datagram's way
//!
//! 1. An association has one socket for its client, at the address the client found us at, and one
//!    for each family of targets, whoever they are. All of them are the reactor's, registered once.
//! 2. The reactor's one [`sys::Batch`] receives what is there, up to 64 messages a turn, each of
//!    which may be a run of datagrams that the kernel has merged (UDP_GRO).
//! 3. Up: who sent it, its header, fragments until they are whole, its name until it has an address,
//!    the gate. Down: whom the client has contacted, and a header before the data.
//! 4. What is left are [`relay::Parcel`]s, which point into the batch. Those of one length to one peer
//!    go as one message (UDP_SEGMENT), all of them by one call. A payload is never copied, but for a
//!    fragment or one that waits for a name.
//! 5. What cannot go on is dropped and counted by its [`metrics::DropReason`]; it ends nothing.
//!
//! # States of a session
//!
//! A session is in one state, which owns its data and has one deadline that ends it.
//!
//! | state | ends in time by | then |
//! |---|---|---|
//! | `Greeting`, `Authenticating`, `Requesting`; `Securing` between the first and the last | `timeout.handshake`, one for all | closed |
//! | `Resolving` | `timeout.resolve` | REP 04 |
//! | `Connecting`: more addresses may still come | `timeout.connect` | REP 06 |
//! | `Accepting` (BIND): the peer may still come | `bind.timeout` | REP 06 |
//! | `Relaying` | `timeout.idle`, or `timeout.half_closed` once one direction has ended | reset |
//! | `Associated` (UDP ASSOCIATE) | `udp.idle` | reset |
//! | `Severing`: a reset follows the bytes before it | 1 s | reset |
//! | `Closing`: the last reply is leaving | `timeout.closing`, at most 10 s | closed |
//!
//! # Words
//!
//! The RFCs' words for what is on the wire: greeting, method, request, command, reply, uname, passwd,
//! BND, DST, ATYP. And one meaning for each of these:
//!
//! - **client** asks; **target** is whom it asked for; **upstream** will be a proxy we chain to;
//! - **reactor**: one core's event loop; **tick**: one round of it; **turn**: what one session does
//!   in it; **work**: a turn's allowance; **yield**: to stop because it is spent;
//! - **session**: one client's life; **negotiation**: its handshake; **pending**: has asked, waits;
//! - **token**: what an event is about; **readiness**: what a socket may be able to do;
//! - **endpoint**: a socket and what is remembered of it; **lane**: one direction; **flow**: how far
//!   it is; **ring**: the bytes in it; **pipe**: the kernel's, with bytes that are not copied;
//!   **inbox**: the bytes of an incomplete message; **outbox**:
//!   answers not yet sent; **pump**, **fill**, **flush**, **consume**: moving them;
//! - **association**: a client's relay for datagrams; **control**: its connection, whose end is the
//!   association's; **inside** and **outside**: its sockets for the client and for targets;
//!   **parcel**: a datagram to be sent; **run**: some that go as one; **contact**: whom the client
//!   has sent something; **stranger**: who is not the one that is waited for; **claim**: a port of
//!   ours;
//! - **lookup**: a name that is asked for, and its **waiters**; **query**: one family's question, from
//!   server to server; **channel**: the resolver's way to one server; **sources**: where names come
//!   from; **host**: what we run on; **record**: what there is to tell of a session;
//! - **snapshot**: what was last read of who may come; **check**: a password that is being looked at;
//!   **verdict**: what came of that, or of a token; **penalty**: what a failure costs a source;
//! - **context**: what a client has proved itself by (GSSAPI); **acceptor**: our end of one while it is
//!   established; **token**, of a client: its message, sealed or about a context; **seal**: to protect
//!   one, and what does; **level**: how; **stage**: what seals and opens a session's; **forged**: not
//!   sealed by who it should be;
//! - **sever**: to pass on a reset; **linger**: to wait until a peer has what it was sent;
//!   **drain**: to shut the server down; **park**: to stop accepting for now; **reap**: to end a
//!   session; **outcome**: how it ended; **refusal**: what the client was told.

// The tests' model of a security context names us as every test does.
#[cfg(test)]
extern crate self as ringsocks;

pub mod access;
pub mod auth;
pub mod config;
pub mod dns;
pub mod logging;
pub mod metrics;
pub mod offload;
pub mod outcome;
pub mod policy;
pub mod process;
pub mod proto;
pub mod reactor;
pub mod relay;
pub mod session;
pub mod sys;
pub mod timers;
pub mod token;
