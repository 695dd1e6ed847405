//! Contexts by a library that says what a token tells it to.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use ringsocks::auth::{Acceptor, Failure, Gssapi, GssapiSettings, Mechanism, Principals, Stepped};
use ringsocks::config::Config;
use ringsocks::proto::gssapi::{Broken, Order, Seal, TOKEN_MAX};
use ringsocks::sys::gssapi::{Accepting, Context, Credentials, Library, Step};

use crate::support::stubs::{self, Stub};

fn settings(library: &Path) -> GssapiSettings {
    GssapiSettings {
        library: library.into(),
        keytab: None,
        service: None,
        realms: Vec::new(),
        principals: Principals::new(Config::default().gssapi.principals),
        is_confidential: false,
    }
}

fn mechanism(stub: &Stub) -> Arc<dyn Mechanism> {
    Gssapi::open(settings(stub.library())).unwrap()
}

/// What comes of a first token: the user and the answer, or why there is none.
fn begin(mechanism: &dyn Mechanism, token: &str) -> Result<(String, Vec<u8>), Failure> {
    match mechanism.begin().step(token.as_bytes()) {
        Stepped::Established { user, answer, .. } => {
            Ok((String::from_utf8(user.into()).unwrap(), answer))
        }
        Stepped::Failed { failure, .. } => Err(failure),
        Stepped::Continue { .. } => panic!("{token:?} was not the last"),
    }
}

fn established(mechanism: &dyn Mechanism, token: &str) -> Box<dyn Seal> {
    match mechanism.begin().step(token.as_bytes()) {
        Stepped::Established { seal, .. } => seal,
        _ => panic!("{token:?} makes no context"),
    }
}

fn credentials(stub: &Stub) -> Arc<Credentials> {
    let library = Library::open(stub.library()).unwrap();
    Arc::new(library.acquire(Some("rcmd"), None).unwrap())
}

/// A context, and the credentials it was made with.
fn context(stub: &Stub, token: &str) -> (Context, Arc<Credentials>) {
    let credentials = credentials(stub);
    match Accepting::new(&credentials).accept(token.as_bytes()) {
        Ok(Step::Complete { context, .. }) => (context, credentials),
        Ok(Step::Continue { .. }) => panic!("{token:?} was not the last"),
        Err(status) => panic!("{token:?}: {status}"),
    }
}

/// How many of the stub's objects are there, one for the credentials that must ask for it.
fn alive(credentials: &Arc<Credentials>) -> usize {
    let Err(status) = Accepting::new(credentials).accept(b"report") else {
        panic!("a report is no context");
    };
    let text = status.to_string();
    text.rsplit(' ').next().unwrap().parse().expect("the stub's report")
}

#[test]
fn a_library_that_is_not_there_is_named() {
    let Err(error) = Gssapi::open(settings("libgssapi_none_such.so.2".as_ref())) else {
        panic!("there is no such library");
    };
    let text = error.to_string();
    assert!(text.starts_with("GSSAPI: library \"libgssapi_none_such.so.2\" cannot be"), "{text}");
    assert!(text.ends_with("(Debian has it in libgssapi-krb5-2)"), "{text}");

    let Err(error) = Gssapi::open(settings("libc.so.6".as_ref())) else {
        panic!("libc is no GSSAPI");
    };
    assert!(error.to_string().contains("it has no function gss_import_name"), "{error}");
}

#[test]
fn a_keytab_without_a_key_is_named() {
    let stub = Stub::build("gssapi");
    let keytab = stub.folder().join("ours.keytab");
    let named = || GssapiSettings {
        keytab: Some(keytab.clone().into()),
        service: Some("rcmd".into()),
        ..settings(stub.library())
    };
    let Err(error) = Gssapi::open(named()) else { panic!("there is no keytab") };
    let text = error.to_string();
    let expected = format!("GSSAPI: no key of service \"rcmd\" in keytab {keytab:?}: major 458752");
    assert_eq!(text, expected);
    fs::write(&keytab, "").unwrap();
    assert_eq!(begin(&*Gssapi::open(named()).unwrap(), "ok").unwrap().0, "alice");

    let nul = GssapiSettings { keytab: Some("a\0b".into()), ..settings(stub.library()) };
    assert!(Gssapi::open(nul).is_err_and(|error| error.to_string().contains("NUL")));
    let empty = GssapiSettings { service: Some(String::new()), ..settings(stub.library()) };
    assert!(Gssapi::open(empty).is_err());
}

#[test]
fn a_context_takes_as_many_tokens_as_it_needs() {
    let stub = Stub::build("gssapi");
    let mechanism = mechanism(&stub);
    let mut acceptor: Box<dyn Acceptor> = mechanism.begin();
    for _ in 0..100 {
        let Stepped::Continue { acceptor: next, answer } = acceptor.step(b"continue answer=3")
        else {
            panic!("it goes on");
        };
        assert_eq!(answer, b"rep");
        acceptor = next;
    }
    let Stepped::Established { user, answer, .. } = acceptor.step(b"user=bob@PROXY.TEST") else {
        panic!("that was the last");
    };
    assert_eq!((&*user, &answer[..]), (&b"bob"[..], &b"reply"[..]));
}

#[test]
fn what_is_odd_makes_no_context() {
    let stub = Stub::build("gssapi");
    let mechanism = mechanism(&stub);
    let longest = format!("answer={TOKEN_MAX}");
    assert_eq!(begin(&*mechanism, &longest).unwrap().1.len(), TOKEN_MAX);
    assert_eq!(begin(&*mechanism, "answer=0").unwrap().1, b"");
    for (token, failure) in [
        ("", Failure::Token),
        ("garbage", Failure::Token),
        (&"\0".repeat(TOKEN_MAX), Failure::Token),
        // BAD_MECH, NO_CRED, DUPLICATE_TOKEN, OLD_TOKEN, both of them to be continued.
        ("major=0x10000", Failure::Token),
        ("major=0x70000", Failure::Token),
        ("major=2", Failure::Token),
        ("major=4", Failure::Token),
        ("major=7", Failure::Token),
        // FAILURE for a clock that is wrong, for nothing, and for a file that is missing; BAD_NAME;
        // a status that there is not; a call that was wrong.
        ("major=0xd0000 minor=-1765328347", Failure::Token),
        ("major=0xd0000", Failure::Token),
        ("major=0xd0000 minor=2", Failure::Broken),
        ("major=0x20000", Failure::Broken),
        ("major=0xff0000", Failure::Broken),
        ("major=0x1000000", Failure::Broken),
        ("no-context", Failure::Broken),
        ("continue no-context", Failure::Broken),
        ("continue answer=0", Failure::Token),
        ("answer=65536", Failure::Broken),
        ("continue answer=1000000", Failure::Broken),
        ("no-client", Failure::Broken),
        ("no-service", Failure::Broken),
        ("nameless", Failure::Broken),
        ("no-inquiry", Failure::Broken),
        ("service=rcmd", Failure::Broken),
        ("mech=other", Failure::Protection),
        // Without mutual authentication, replay detection, integrity.
        ("flags=60", Failure::Protection),
        ("flags=58", Failure::Protection),
        ("flags=30", Failure::Protection),
        ("flags=0", Failure::Protection),
        // Without sequence detection, where the library has to do that.
        ("flags=54", Failure::Protection),
        ("enctype=0 flags=54", Failure::Protection),
        ("enctype=18 lucid=fail", Failure::Broken),
        ("enctype=18 lucid=none", Failure::Broken),
        ("enctype=18 lucid=old", Failure::Broken),
        ("enctype=18 lucid=key", Failure::Broken),
        ("user=alice", Failure::Principal),
        ("user=alice@", Failure::Principal),
        ("user=alice@OTHER.TEST", Failure::Principal),
        ("user=alice/admin@PROXY.TEST", Failure::Principal),
        (r"user=alice\@PROXY.TEST", Failure::Principal),
        // Who does not want to be known.
        ("flags=126", Failure::Principal),
    ] {
        assert_eq!(begin(&*mechanism, token), Err(failure), "{token:.40}");
    }
    // Nothing but what is required is.
    assert_eq!(begin(&*mechanism, "enctype=18 flags=38").unwrap().0, "alice");
    assert_eq!(begin(&*mechanism, "flags=46").unwrap().0, "alice");
    assert_eq!(begin(&*mechanism, "enctype=0 flags=46").unwrap().0, "alice");
}

#[test]
fn realms_and_encryption_are_as_configured() {
    let stub = Stub::build("gssapi");
    let rules = "gssapi.principals = ['root@*=nobody', '*@THIRD.TEST=*.third', '*@*=*']";
    let config = Config::parse("test", rules).unwrap();
    let mechanism = Gssapi::open(GssapiSettings {
        realms: vec!["OTHER.TEST".into(), "THIRD.TEST".into()],
        principals: Principals::new(config.gssapi.principals),
        is_confidential: true,
        ..settings(stub.library())
    })
    .unwrap();
    for (token, expected) in [
        ("user=alice@OTHER.TEST", Ok("alice")),
        ("user=root@OTHER.TEST", Ok("nobody")),
        ("user=alice@THIRD.TEST", Ok("alice.third")),
        ("user=alice@PROXY.TEST", Err(Failure::Principal)),
        ("user=alice@other.test", Err(Failure::Principal)),
        ("user=alice@OTHER.TEST flags=38", Err(Failure::Protection)),
    ] {
        let user = begin(&*mechanism, token).map(|(user, _)| user);
        assert_eq!(user, expected.map(str::to_owned), "{token}");
    }
}

#[test]
fn who_is_refused_is_named() {
    let stub = Stub::build("gssapi");
    let mechanism = mechanism(&stub);
    let stranger = "user=mallory@OTHER.TEST";
    let Stepped::Failed { user: Some(user), .. } = mechanism.begin().step(stranger.as_bytes())
    else {
        panic!("a stranger is refused");
    };
    assert_eq!(&*user, b"mallory@OTHER.TEST");
    let long = format!("user={}@OTHER.TEST", "m".repeat(60_000));
    let Stepped::Failed { user: Some(user), .. } = mechanism.begin().step(long.as_bytes()) else {
        panic!("a stranger is refused");
    };
    assert_eq!(&*user, "m".repeat(255).as_bytes());
}

/// Others go on meanwhile, for a token that takes its time has a thread of its own.
#[test]
fn a_slow_library_holds_nobody_else() {
    let stub = Stub::build("gssapi");
    let mechanism = mechanism(&stub);
    let begun = Instant::now();
    let slow = {
        let mechanism = Arc::clone(&mechanism);
        thread::spawn(move || {
            begin(&*mechanism, "sleep=2000").unwrap();
            begun.elapsed()
        })
    };
    for _ in 0..100 {
        begin(&*mechanism, "ok").unwrap();
    }
    let others = begun.elapsed();
    let slow = slow.join().unwrap();
    assert!(slow >= Duration::from_secs(2), "{slow:?}");
    assert!(others < slow, "{others:?}");
}

#[test]
fn messages_go_both_ways() {
    let stub = Stub::build("gssapi");
    let mut seal = established(&*mechanism(&stub), "ok");
    let mut sent = b"before".to_vec();
    seal.wrap(b"hello", true, &mut sent).unwrap();
    assert_eq!(&sent[..6], b"before");
    assert_eq!(stubs::open(&sent[6..]), (&b"hello"[..], true, 0));
    sent.clear();
    seal.wrap(b"", false, &mut sent).unwrap();
    assert_eq!(stubs::open(&sent), (&b""[..], false, 1));

    for (number, message, confidential) in [(0, &b"there"[..], false), (1, b"", true)] {
        let mut token = stubs::seal(number, message, confidential);
        let opened = seal.unwrap(&mut token).unwrap();
        assert_eq!(&token[opened.message], message);
        assert_eq!((opened.confidential, opened.order), (confidential, Order::Next));
    }
    for spoilt in [0, 2, 11, 15, 16] {
        let mut token = stubs::seal(2, b"there", true);
        token[spoilt] ^= 1;
        assert_eq!(seal.unwrap(&mut token), Err(Broken), "octet {spoilt}");
    }
    assert_eq!(seal.unwrap(&mut []), Err(Broken));
    assert_eq!(seal.unwrap(&mut [b'S'; 15]), Err(Broken));
}

#[test]
fn what_comes_out_of_order_is_told_and_opened() {
    let stub = Stub::build("gssapi");
    let mut seal = established(&*mechanism(&stub), "ok");
    let [next, duplicate] = [Order::Next, Order::Duplicate];
    for (number, order) in [
        (0, next),
        (0, duplicate),
        (2, Order::Gap),
        // It may as well have come before.
        (1, duplicate),
        (1, duplicate),
        (3, next),
        (100, Order::Gap),
        // Too old to tell.
        (4, duplicate),
    ] {
        let mut token = stubs::seal(number, b"message", true);
        let opened = seal.unwrap(&mut token).unwrap();
        assert_eq!((&token[opened.message], opened.order), (&b"message"[..], order), "{number}");
    }
}

/// Its library has nothing of it any more, and a message is RFC 4121's.
#[test]
fn a_context_whose_keys_we_know_is_ours() {
    let stub = Stub::build("gssapi");
    let mechanism = mechanism(&stub);
    let credentials = credentials(&stub);
    let before = alive(&credentials);
    for flags in [38, 62] {
        let mut seal = established(&*mechanism, &format!("enctype=18 flags={flags}"));
        assert_eq!(alive(&credentials), before);
        let mut token = Vec::new();
        seal.wrap(b"message", true, &mut token).unwrap();
        // TOK_ID, the flags SentByAcceptor, Sealed and AcceptorSubkey, the filler, EC and RRC, the
        // sequence number.
        assert_eq!(token[..16], [5, 4, 7, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(token.len(), 16 + 16 + 7 + 16 + 12);
        assert_eq!(seal.unwrap(&mut token), Err(Broken), "what is ours is not our client's");
    }
}

#[test]
fn a_library_that_does_not_protect_breaks_the_context() {
    let stub = Stub::build("gssapi");
    let mechanism = mechanism(&stub);
    let wrap = |token: &str, confidential| {
        established(&*mechanism, token).wrap(b"message", confidential, &mut Vec::new())
    };
    assert_eq!(wrap("wrap=fail", false), Err(Broken));
    assert_eq!(wrap("wrap=empty", false), Err(Broken));
    assert_eq!(wrap("wrap=clear", true), Err(Broken));
    assert_eq!(wrap("wrap=clear", false), Ok(()));
    for token in ["unwrap=fail", "unwrap=long"] {
        let mut seal = established(&*mechanism, token);
        assert_eq!(seal.unwrap(&mut stubs::seal(0, b"message", false)), Err(Broken), "{token}");
    }
}

#[test]
fn the_longest_message_is_what_the_library_says() {
    let stub = Stub::build("gssapi");
    let mechanism = mechanism(&stub);
    let seal = established(&*mechanism, "ok");
    for (token_max, expected) in [(TOKEN_MAX, 65_519), (100, 84), (16, 0), (0, 0)] {
        for confidential in [false, true, true] {
            assert_eq!(seal.message_max(token_max, confidential), expected);
        }
    }
    assert_eq!(established(&*mechanism, "limit=fail").message_max(100, true), 0);
    assert_eq!(established(&*mechanism, "limit=7").message_max(100, true), 7);
    assert_eq!(established(&*mechanism, "limit=4000000000").message_max(100, true), 100);
}

#[test]
fn a_context_is_exported_and_gone() {
    let stub = Stub::build("gssapi");
    let (mut exporting, credentials) = context(&stub, "ok");
    exporting.wrap(b"one", false, &mut Vec::new()).unwrap();
    let lucid = exporting.export().unwrap();
    assert!(!lucid.is_initiator);
    assert_eq!((lucid.send_seq, lucid.recv_seq), (1, 0));
    let subkey = lucid.acceptor_subkey.as_ref().unwrap();
    assert_eq!((lucid.key.enctype, subkey.enctype), (18, 18));
    assert_eq!((&lucid.key.bytes[..], &subkey.bytes[..]), (&[0x11; 32][..], &[0x22; 32][..]));
    assert!(!format!("{lucid:?}").contains("17"), "{lucid:?}");
    assert_eq!(alive(&credentials), 1);

    for (token, enctype) in [("ok", 23), ("enctype=18", 18), ("enctype=16383", 16383)] {
        assert_eq!(context(&stub, token).0.enctype(), Some(enctype));
    }
    assert_eq!(context(&stub, "enctype=0").0.enctype(), None);
    for token in ["lucid=fail", "lucid=none", "lucid=old", "lucid=key"] {
        let (context, _) = context(&stub, token);
        assert!(context.export().is_err(), "{token}");
        assert_eq!(alive(&credentials), 1, "{token}");
    }
}

#[test]
fn whatever_comes_nothing_is_kept() {
    let stub = Stub::build("gssapi");
    let credentials = credentials(&stub);
    assert_eq!(alive(&credentials), 1);
    {
        let mechanism = mechanism(&stub);
        for token in [
            "ok",
            "garbage",
            "major=2",
            "no-context",
            "answer=65536",
            "no-client",
            "no-service",
            "nameless",
            "no-inquiry",
            "mech=other",
            "enctype=0",
            "enctype=18",
            "enctype=18 lucid=key",
            "flags=54",
            "user=alice@OTHER.TEST",
        ] {
            let _ = begin(&*mechanism, token);
        }
        for token in ["ok", "unwrap=long", "wrap=clear", "wrap=empty"] {
            let mut seal = established(&*mechanism, token);
            let _ = seal.wrap(b"message", true, &mut Vec::new());
            let _ = seal.unwrap(&mut stubs::seal(0, b"message", true));
        }
        let Stepped::Continue { acceptor, .. } = mechanism.begin().step(b"continue") else {
            panic!("it goes on");
        };
        drop(acceptor);
        // The mechanism's own credentials.
        assert_eq!(alive(&credentials), 2);
    }
    assert_eq!(alive(&credentials), 1);
}

#[test]
fn what_a_library_says_is_one_short_line() {
    let stub = Stub::build("gssapi");
    let credentials = credentials(&stub);
    let Err(status) = Accepting::new(&credentials).accept(b"major=0xd0000 minor=666") else {
        panic!("it fails");
    };
    let text = status.to_string();
    assert!(text.starts_with("major 851968: minor 666?xxx"), "{text}");
    assert!(text.len() <= 510 && !text.contains('\n'), "{text}");
    assert_eq!(alive(&credentials), 1);
}
