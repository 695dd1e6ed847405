use proptest::prelude::*;

use super::*;

/// Hashes of "wonder", but for the named ones: by the reference implementations of argon2 and
/// bcrypt, by `openssl passwd` and by the crypt(3) of libxcrypt.
const VECTORS: &[(&str, &str)] = &[
    (
        "password",
        "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
    ),
    (
        "password",
        "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
    ),
    (
        "password",
        "$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc",
    ),
    ("", "$2a$06$DCq7YPn5Rq63x1Lad4cll.TV4S6ytwfsfvkgY8jIucDrjc8deX1s."),
    ("abcdefghijklmnopqrstuvwxyz", "$2a$08$aTsUwsyowQuzRrDqFflhgekJ8d9/7Z3GV3UcgvzQW3J5zMyrTvlz."),
    ("wonder", "$2a$05$bvIG6Nmid91Mu9RcmmWZfO2s17pG3n7xIjtQdcxcs3zPCpiOGwWWy"),
    ("wonder", "$2b$04$abcdefghijklmnopqrstuuetGRvO6QNMBbbIoo5tpQkbPXg26U9Qu"),
    ("wonder", "$2y$04$abcdefghijklmnopqrstuuetGRvO6QNMBbbIoo5tpQkbPXg26U9Qu"),
    ("wonder", "$5$saltstring$r0ljLmR0qe67foXE83BscZye7K5cffM/0wQo7sJExn."),
    ("wonder", "$5$saltstringsaltst$ClCKebOfGazsyTzodtWDoAd8UGHj.3KgHPyHr850yf2"),
    ("wonder", "$5$rounds=1000$saltstring$Z4xLbzgmCD3nbrfsc5CyyT2VowNm8Go7JkTLgVWPj0A"),
    ("", "$5$rounds=1000$saltstring$TzAJABAaJwl111nyuH1uQy8kjHahyMHq1D7Y09hLQV1"),
    (
        "wonder",
        "$6$saltstring$Vo31sIbMBgRBnEbSSIn2tUy7ZcexEnmSgaxFjW6/6mqFCQQ4HPLBBokIeuZ0E0cwMIKvxH151IhvIMz4mgGGe.",
    ),
    (
        "wonder",
        "$6$rounds=1000$saltstring$uBoZdlN1nycsR8aSfQJ9iGabvmouxfrMLxEMu0CDIi6VUU51F9q1.TBeKq6jmRhf7R8.AfTyKX/uw098zVp4m/",
    ),
    ("wonder", "$y$j9T$F5Jx5fExrKuPp53xLKQ..1$dNRorKXNLofKXFJcAXkJQpj7qwAdje7LnbBB5hy0Bh7"),
    ("wonder", "$y$jAT$LdJMENpBABJJ3hIHjB1Bi.$Mhax45lmIM2yN1mQ0vDt20BxPaouf/t.Nojf3zz1Xm1"),
    ("wonder", "$y$j75$LdJMENpBABJJ3hIHjB1Bi.$r0sSJ3W98P8JQHFmSurkG0jq4O.Lgh3lUlPPB4eeXF8"),
    ("", "$y$j75$LdJMENpBABJJ3hIHjB1Bi.$tUlUF19mIl6XpRTpX7LBp5ABKS8KSmDfP1gXFrZ6Sy8"),
];

/// One of each scheme that takes no time, and where its salt begins.
const CHEAP: &[(&str, usize)] = &[
    ("$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4", 29),
    ("$2b$04$abcdefghijklmnopqrstuuetGRvO6QNMBbbIoo5tpQkbPXg26U9Qu", 7),
    ("$5$rounds=1000$saltstring$Z4xLbzgmCD3nbrfsc5CyyT2VowNm8Go7JkTLgVWPj0A", 15),
    (
        "$6$rounds=1000$saltstring$uBoZdlN1nycsR8aSfQJ9iGabvmouxfrMLxEMu0CDIi6VUU51F9q1.TBeKq6jmRhf7R8.AfTyKX/uw098zVp4m/",
        15,
    ),
    ("$y$j75$LdJMENpBABJJ3hIHjB1Bi.$r0sSJ3W98P8JQHFmSurkG0jq4O.Lgh3lUlPPB4eeXF8", 7),
];

fn matches(stored: &str, password: &[u8]) -> bool {
    let stored =
        Stored::parse(stored.as_bytes()).unwrap_or_else(|problem| panic!("{stored}: {problem}"));
    stored.matches(password).expect("it can be computed")
}

fn problem(stored: &str) -> Problem {
    match Stored::parse(stored.as_bytes()) {
        Err(problem) => problem,
        Ok(_) => panic!("accepted: {stored}"),
    }
}

#[test]
fn the_hashes_of_others_match_their_password_and_no_other() {
    for (password, stored) in VECTORS {
        assert!(matches(stored, password.as_bytes()), "{stored}");
        for wrong in ["wonderl", "Wonder", "wonder\0", "\0", "x"] {
            assert!(!matches(stored, wrong.as_bytes()), "{stored} {wrong:?}");
        }
    }
}

#[test]
fn a_password_is_what_stands_behind_plain() {
    for password in ["wonder", "", ":", "plain:x", "$6$", " a ", "wonder\0"] {
        assert!(matches(&format!("plain:{password}"), password.as_bytes()));
        assert!(!matches(&format!("plain:{password}"), b"other"));
    }
    let longest = "x".repeat(FIELD_MAX);
    assert!(matches(&format!("plain:{longest}"), longest.as_bytes()));
    assert!(!matches(&format!("plain:{longest}"), format!("{longest}x").as_bytes()));
    assert_eq!(problem(&format!("plain:{longest}x")), Problem::TooLong);
}

#[test]
fn the_longest_passwords_are_hashed_whole() {
    let longest = "é".repeat(127) + "x";
    assert_eq!(longest.len(), FIELD_MAX);
    let stored = hash_password(longest.as_bytes());
    assert!(matches(&stored, longest.as_bytes()));
    assert!(!matches(&stored, &longest.as_bytes()[..FIELD_MAX - 1]));
}

#[test]
fn bcrypt_repeats_no_password_behind_its_end() {
    let stored = "$2b$04$abcdefghijklmnopqrstuuetGRvO6QNMBbbIoo5tpQkbPXg26U9Qu";
    assert!(matches(stored, b"wonder"));
    assert!(!matches(stored, b"wonder\0wonder"));
    let empty = "$2a$06$DCq7YPn5Rq63x1Lad4cll.TV4S6ytwfsfvkgY8jIucDrjc8deX1s.";
    assert!(matches(empty, b""));
    assert!(!matches(empty, b"\0\0"));
}

#[test]
fn our_own_hashes_have_the_recommended_parameters_and_a_salt_of_their_own() {
    let (one, other) = (hash_password(b"wonder"), hash_password(b"wonder"));
    assert!(one.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{one}");
    assert_ne!(one, other);
    assert!(matches(&one, b"wonder"));
    assert!(!matches(&one, b"wonders"));
}

#[test]
fn what_protects_nothing_is_refused_by_name() {
    for (stored, scheme) in [
        ("ab5da3hZp5iFU", "DES-crypt"),
        ("$1$abcdefgh$hqvCbNwzGGtJDzHd8m2pC1", "MD5-crypt ($1$)"),
        ("$apr1$saltstri$riN4ZzSK8ZdP5yRn/zrQi0", "MD5 ($apr1$)"),
        ("{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", "SHA-1"),
        ("{SSHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", "SHA-1"),
    ] {
        assert_eq!(problem(stored), Problem::Weak(scheme));
    }
}

#[test]
fn what_is_no_hash_is_refused() {
    assert_eq!(problem(""), Problem::Missing);
    for stored in [
        "wonder",
        "*",
        "!",
        "x",
        "$",
        "$$",
        "$6",
        "6$salt$x",
        "PLAIN:wonder",
        "$2x$04$x",
        "$7$x$y",
        "$argon2i$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR",
        "$argon2d$v=19$x",
        "$scrypt$x",
        "é",
        "ab5da3hZp5iF",
        "ab5da3hZp5iF!",
    ] {
        assert_eq!(problem(stored), Problem::Unknown, "{stored}");
    }
    assert!(matches!(Stored::parse(b"\xff$6$"), Err(Problem::Unknown)));
}

#[test]
fn what_is_cut_off_anywhere_is_refused() {
    for (_, stored) in VECTORS {
        for end in 0..stored.len() {
            let cut = &stored[..end];
            // These are a whole argon2 digest too, of 16 and of 24 bytes.
            let is_whole = cut.starts_with("$argon2id")
                && [22, 32].map(|len| stored.rfind('$').unwrap() + 1 + len).contains(&end);
            assert!(is_whole || Stored::parse(cut.as_bytes()).is_err(), "{cut}");
        }
        for more in ["x", "$", ":", " ", "\r", "é"] {
            let stored = format!("{stored}{more}");
            assert!(Stored::parse(stored.as_bytes()).is_err(), "{stored}");
        }
    }
}

#[test]
fn what_would_take_gigabytes_or_minutes_is_refused() {
    let digest_256 = "r0ljLmR0qe67foXE83BscZye7K5cffM/0wQo7sJExn.";
    let argon2 =
        |parameters: &str| format!("$argon2id${parameters}$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEg");
    let bcrypt =
        |cost: &str| format!("$2b${cost}$abcdefghijklmnopqrstuuetGRvO6QNMBbbIoo5tpQkbPXg26U9Qu");
    let sha = |rounds: &str| format!("$5$rounds={rounds}$salt${digest_256}");
    let yescrypt =
        |parameters: &str| format!("$y${parameters}$LdJMENpBABJJ3hIHjB1Bi.${digest_256}");
    for stored in [
        argon2("v=19$m=262144,t=8,p=1"),
        argon2("v=19$m=64,t=32768,p=8"),
        bcrypt("04"),
        bcrypt("14"),
        sha("1000"),
        sha("1000000"),
        yescrypt("j75"),
        yescrypt("jDT"),
    ] {
        assert!(Stored::parse(stored.as_bytes()).is_ok(), "{stored}");
    }
    for stored in [
        argon2("v=19$m=262145,t=1,p=1"),
        argon2("v=19$m=262144,t=9,p=1"),
        argon2("v=19$m=64,t=32769,p=1"),
        argon2("v=16$m=256,t=2,p=1"),
        argon2("m=256,t=2,p=1"),
        bcrypt("03"),
        bcrypt("15"),
        bcrypt("31"),
        bcrypt("99"),
        sha("999"),
        sha("1000001"),
        sha("01000"),
        sha("+5000"),
        sha(""),
        sha("99999999999999999999"),
        yescrypt("jET"),
        yescrypt("j65"),
        yescrypt("jj."),
        yescrypt("j95.0"),
        yescrypt("j953/"),
        yescrypt("/95"),
        yescrypt("j"),
        yescrypt("jz5"),
    ] {
        assert!(
            matches!(problem(&stored), Problem::Parameters(..)),
            "{stored}: {}",
            problem(&stored)
        );
    }
    for stored in [argon2("v=19$m=7,t=1,p=1"), argon2("v=19$m=256,t=2"), argon2("v=19$m=0,t=0,p=0")]
    {
        assert!(matches!(problem(&stored), Problem::Garbled(_)), "{stored}");
    }
}

#[test]
fn a_thread_keeps_its_argon2_memory_but_not_much() {
    let lent = |count| with_blocks(count, |blocks| Ok((blocks.len(), blocks.as_ptr())));
    let (len, small) = lent(1000).unwrap();
    assert_eq!(len, 1000);
    assert_eq!(lent(1000), Ok((1000, small)), "the same memory again");
    assert_eq!(lent(500), Ok((500, small)));
    assert_eq!(lent(KEPT_MAX + 1).unwrap().0, KEPT_MAX + 1);
    assert_eq!(lent(usize::MAX / 1024), Err(Failure::Broken), "no machine has that much");
}

/// Bytes as they are, with one replaced, left out or put in.
fn spoil(bytes: &[u8], at: usize, by: u8, how: u8) -> Vec<u8> {
    let mut spoilt = bytes.to_vec();
    match how {
        0 => spoilt[at] = by,
        1 => drop(spoilt.remove(at)),
        _ => spoilt.insert(at, by),
    }
    spoilt
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn parsing_takes_any_bytes(value in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Stored::parse(&value);
    }

    #[test]
    fn parsing_takes_any_spoilt_hash(
        which in 0..VECTORS.len(), at: prop::sample::Index, by: u8, how in 0..3_u8,
    ) {
        let bytes = VECTORS[which].1.as_bytes();
        let _ = Stored::parse(&spoil(bytes, at.index(bytes.len()), by, how));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn what_is_accepted_can_be_computed(
        which in 0..CHEAP.len(), at: prop::sample::Index, by in prop::sample::select(b"./0189AZaz$+=".as_slice()), how in 0..3_u8,
    ) {
        let (stored, salt) = CHEAP[which];
        let (parameters, rest) = stored.as_bytes().split_at(salt);
        let spoilt = [parameters, &spoil(rest, at.index(rest.len()), by, how)].concat();
        if let Ok(stored) = Stored::parse(&spoilt) {
            let is_spoilt = spoilt != CHEAP[which].0.as_bytes();
            prop_assert_eq!(stored.matches(b"nobody's"), Ok(false));
            prop_assert!(!is_spoilt || stored.matches(b"wonder") == Ok(false));
        }
    }
}
