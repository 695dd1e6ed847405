use std::cell::RefCell;
use std::fmt;

use argon2::password_hash::phc::{PasswordHash, Salt};
use argon2::{Argon2, Block, Params, PasswordHasher, Version};
use sha_crypt::ShaCrypt;
use sha_crypt::password_hash::{Error as VerifyError, PasswordVerifier};
use subtle::ConstantTimeEq;
use yescrypt::Yescrypt;
use zeroize::Zeroizing;

use super::{FIELD_MAX, Failure};
use crate::sys;

/// What a stored password may be.
pub(super) const ACCEPTED: &str = "accepted are argon2id ($argon2id$v=19$...), bcrypt ($2a$, $2b$, \
    $2y$), sha256-crypt ($5$), sha512-crypt ($6$), yescrypt ($y$) and plain:PASSWORD; \
    `ringsocks passwd NAME` makes a line of them";

/// A hash may take this much memory, in KiB.
const MEMORY_MAX: u32 = 256 << 10;
/// What argon2id may write in all its passes, in KiB: a few seconds.
const ARGON2_WORK_MAX: u64 = 2 << 20;
const BCRYPT_COSTS: std::ops::RangeInclusive<u32> = 4..=14;
const SHA_CRYPT_ROUNDS: std::ops::RangeInclusive<u32> = 1_000..=1_000_000;
/// Smaller ones are not made by any crypt(3).
const YESCRYPT_N_LOG2_MIN: u32 = 10;

/// More of a thread's argon2 memory than this, in KiB, is given back after its use.
const KEPT_MAX: usize = 64 << 10;

/// `.`, `/`, digits, capitals, small letters: how crypt(3) writes six bits.
const CRYPT64: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The lengths of digests as crypt(3) writes them.
const DIGEST_256: usize = 43;
const DIGEST_512: usize = 86;

/// A password as it is stored. All of it is wiped when dropped.
pub(super) enum Stored {
    /// The password itself.
    Plain(Padded),
    /// What must be computed to be compared with.
    Hash(Hash),
}

/// A length octet and a password padded to [`FIELD_MAX`], so that comparing takes the same time
/// whatever the password is. Boxed, because moving it would leave copies that nobody wipes.
type Padded = Box<Zeroizing<[u8; 1 + FIELD_MAX]>>;

/// A hash that is known to be whole and affordable.
pub(super) enum Hash {
    Argon2id { argon2: Box<Argon2<'static>>, salt: Salt, digest: Zeroizing<Vec<u8>> },
    Bcrypt(Zeroizing<String>),
    ShaCrypt(Zeroizing<String>),
    Yescrypt(Zeroizing<String>),
}

/// What is wrong with a stored password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Problem {
    /// There is nothing.
    Missing,
    /// A hash that protects nothing.
    Weak(&'static str),
    /// No form that is known here.
    Unknown,
    /// A hash of this scheme, but cut off or spoilt.
    Garbled(&'static str),
    /// A whole hash of this scheme with parameters other than these.
    Parameters(&'static str, &'static str),
    /// A password that no client can send.
    TooLong,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Missing => f.write_str("there is no hash"),
            Problem::Weak(scheme) => write!(f, "{scheme} hashes are not safe, nor accepted"),
            Problem::Unknown => f.write_str("this is no hash that is known here"),
            Problem::Garbled(scheme) => write!(f, "the {scheme} hash is not whole"),
            Problem::Parameters(scheme, accepted) => {
                write!(f, "the {scheme} hash needs {accepted}")
            }
            Problem::TooLong => {
                write!(f, "a password may have {FIELD_MAX} bytes, no client can send more")
            }
        }
    }
}

impl Stored {
    /// Takes `plain:PASSWORD` or a hash.
    pub(super) fn parse(value: &[u8]) -> Result<Stored, Problem> {
        match value.strip_prefix(b"plain:") {
            Some(password) => pad(password).map(Stored::Plain).ok_or(Problem::TooLong),
            None => Hash::parse(value).map(Stored::Hash),
        }
    }

    /// Whether this is the password. Takes as long whether it is or not.
    pub(super) fn matches(&self, password: &[u8]) -> Result<bool, Failure> {
        match self {
            Stored::Plain(expected) => Ok(pad(password)
                .is_some_and(|padded| expected.as_slice().ct_eq(padded.as_slice()).into())),
            Stored::Hash(hash) => hash.matches(password),
        }
    }
}

impl Hash {
    fn parse(value: &[u8]) -> Result<Hash, Problem> {
        if value.is_empty() {
            return Err(Problem::Missing);
        }
        let text = str::from_utf8(value).map_err(|_| Problem::Unknown)?;
        let scheme = text.strip_prefix('$').and_then(|rest| rest.split_once('$'));
        match scheme {
            Some(("argon2id", _)) => parse_argon2id(text),
            Some(("2a" | "2b" | "2y", _)) => parse_bcrypt(text),
            Some(("5", rest)) => parse_sha_crypt(text, rest, "sha256-crypt", DIGEST_256),
            Some(("6", rest)) => parse_sha_crypt(text, rest, "sha512-crypt", DIGEST_512),
            Some(("y", rest)) => parse_yescrypt(text, rest),
            Some(("1", _)) => Err(Problem::Weak("MD5-crypt ($1$)")),
            Some(("apr1", _)) => Err(Problem::Weak("MD5 ($apr1$)")),
            _ if text.starts_with("{SHA}") || text.starts_with("{SSHA}") => {
                Err(Problem::Weak("SHA-1"))
            }
            _ if text.len() == 13 && sextets(text).is_some() => Err(Problem::Weak("DES-crypt")),
            _ => Err(Problem::Unknown),
        }
    }

    /// Whether this is the password's hash. It takes milliseconds to seconds: never on a reactor.
    fn matches(&self, password: &[u8]) -> Result<bool, Failure> {
        match self {
            Hash::Argon2id { argon2, salt, digest } => {
                with_blocks(argon2.params().block_count(), |blocks| {
                    let mut actual = Zeroizing::new(vec![0; digest.len()]);
                    argon2
                        .hash_password_into_with_memory(password, salt, &mut actual, blocks)
                        .map_err(|_| Failure::Broken)?;
                    Ok(actual.ct_eq(digest.as_slice()).into())
                })
            }
            Hash::Bcrypt(text) => {
                let is_right = bcrypt::verify(password, text).map_err(|_| Failure::Broken)?;
                // It repeats the password and a NUL: "a" and "a\0a" would be the same.
                Ok(is_right & !password.contains(&0))
            }
            Hash::ShaCrypt(text) => {
                is_right(ShaCrypt::default().verify_password(password, text.as_str()))
            }
            Hash::Yescrypt(text) => {
                is_right(Yescrypt::default().verify_password(password, text.as_str()))
            }
        }
    }
}

fn is_right(verified: Result<(), VerifyError>) -> Result<bool, Failure> {
    match verified {
        Ok(()) => Ok(true),
        Err(VerifyError::PasswordInvalid) => Ok(false),
        Err(_) => Err(Failure::Broken),
    }
}

/// A new argon2id hash of a password, with a salt of its own.
///
/// Panics where the kernel has no random numbers.
pub fn hash_password(password: &[u8]) -> String {
    let mut salt = [0; argon2::RECOMMENDED_SALT_LEN];
    sys::fill_random(&mut salt);
    let hash = Argon2::default().hash_password_with_salt(password, &salt);
    hash.expect("the recommended parameters are sound").to_string()
}

/// Lends argon2's memory: a thread that verifies allocates it once.
fn with_blocks<T>(
    count: usize,
    work: impl FnOnce(&mut [Block]) -> Result<T, Failure>,
) -> Result<T, Failure> {
    thread_local! {
        static BLOCKS: RefCell<Vec<Block>> = const { RefCell::new(Vec::new()) };
    }
    BLOCKS.with_borrow_mut(|blocks| {
        let missing = count.saturating_sub(blocks.len());
        blocks.try_reserve_exact(missing).map_err(|_| Failure::Broken)?;
        blocks.resize(blocks.len() + missing, Block::new());
        let result = work(&mut blocks[..count]);
        blocks.truncate(KEPT_MAX);
        blocks.shrink_to(KEPT_MAX);
        result
    })
}

fn parse_argon2id(text: &str) -> Result<Hash, Problem> {
    const SCHEME: &str = "argon2id";
    const NEEDED: &str = "v=19, m (KiB) of at most 262144 and m times t of at most 2097152";
    let garbled = || Problem::Garbled(SCHEME);
    let hash = PasswordHash::new(text).map_err(|_| garbled())?;
    let (Some(salt), Some(digest)) = (hash.salt, hash.hash) else { return Err(garbled()) };
    if ["m", "t", "p"].into_iter().any(|name| hash.params.get(name).is_none())
        || salt.len() < argon2::MIN_SALT_LEN
        // All that is made, and hardly any that is cut off.
        || digest.len() < 16
        || !digest.len().is_multiple_of(8)
    {
        return Err(garbled());
    }
    let params = Params::try_from(&hash).map_err(|_| garbled())?;
    let work = u64::from(params.m_cost()) * u64::from(params.t_cost());
    let is_current = hash.version == Some(Version::V0x13.into());
    if !is_current || params.m_cost() > MEMORY_MAX || work > ARGON2_WORK_MAX {
        return Err(Problem::Parameters(SCHEME, NEEDED));
    }
    let argon2 = Box::new(Argon2::new(argon2::Algorithm::Argon2id, Version::V0x13, params));
    Ok(Hash::Argon2id { argon2, salt, digest: Zeroizing::new(digest.as_bytes().to_vec()) })
}

fn parse_bcrypt(text: &str) -> Result<Hash, Problem> {
    let garbled = Problem::Garbled("bcrypt");
    let hash = text.parse::<bcrypt::HashParts>().map_err(|_| garbled)?;
    if !text.as_bytes()[4..6].iter().all(u8::is_ascii_digit) {
        return Err(garbled);
    }
    if !BCRYPT_COSTS.contains(&hash.get_cost()) {
        return Err(Problem::Parameters("bcrypt", "a cost of 4 to 14"));
    }
    Ok(Hash::Bcrypt(Zeroizing::new(text.to_owned())))
}

/// `rest` is `SALT$DIGEST` or `rounds=N$SALT$DIGEST`.
fn parse_sha_crypt(
    text: &str,
    rest: &str,
    scheme: &'static str,
    digest_len: usize,
) -> Result<Hash, Problem> {
    let garbled = Problem::Garbled(scheme);
    let (rounds, rest) = match rest.strip_prefix("rounds=") {
        Some(rest) => rest.split_once('$').map(|(rounds, rest)| (Some(rounds), rest)),
        None => Some((None, rest)),
    }
    .ok_or(garbled)?;
    let (salt, digest) = rest.split_once('$').ok_or(garbled)?;
    let is_salt = (1..=16).contains(&salt.len()) && sextets(salt).is_some();
    if !is_salt || digest.len() != digest_len || !is_canonical(digest) {
        return Err(garbled);
    }
    let is_affordable = |rounds: &str| {
        let is_number = !rounds.starts_with('0') && rounds.bytes().all(|b| b.is_ascii_digit());
        is_number && rounds.parse().is_ok_and(|rounds| SHA_CRYPT_ROUNDS.contains(&rounds))
    };
    if !rounds.is_none_or(is_affordable) {
        return Err(Problem::Parameters(scheme, "1000 to 1000000 rounds"));
    }
    Ok(Hash::ShaCrypt(Zeroizing::new(text.to_owned())))
}

/// `rest` is `PARAMETERS$SALT$DIGEST`; the parameters are a flavor, N and r, as crypt(3) makes them.
fn parse_yescrypt(text: &str, rest: &str) -> Result<Hash, Problem> {
    const SCHEME: &str = "yescrypt";
    const NEEDED: &str = "parameters as of crypt(3), such as j9T, and at most 256 MiB of memory";
    let mut fields = rest.split('$');
    let (Some(parameters), Some(salt), Some(digest), None) =
        (fields.next(), fields.next(), fields.next(), fields.next())
    else {
        return Err(Problem::Garbled(SCHEME));
    };
    let is_salt = (1..=DIGEST_512).contains(&salt.len()) && is_canonical(salt);
    if !is_salt || digest.len() != DIGEST_256 || !is_canonical(digest) {
        return Err(Problem::Garbled(SCHEME));
    }
    // One character each, which is all that is made: more begin at the 49th.
    const ONE_CHARACTER: std::ops::Range<u8> = 0..48;
    let is_affordable = match sextets(parameters).as_deref() {
        Some(&[_, n, r]) if ONE_CHARACTER.contains(&n) && ONE_CHARACTER.contains(&r) => {
            let (n_log2, r) = (u32::from(n) + 1, u64::from(r) + 1);
            n_log2 >= YESCRYPT_N_LOG2_MIN && (r << n_log2) * 128 <= u64::from(MEMORY_MAX) << 10
        }
        _ => false,
    };
    if !parameters.starts_with('j') || !is_affordable {
        return Err(Problem::Parameters(SCHEME, NEEDED));
    }
    Ok(Hash::Yescrypt(Zeroizing::new(text.to_owned())))
}

/// The values of characters of crypt(3).
fn sextets(text: &str) -> Option<Vec<u8>> {
    let value = |b: u8| CRYPT64.iter().position(|&c| c == b).map(|at| at as u8);
    text.bytes().map(value).collect()
}

/// Whether crypt(3) would write bytes like this: whole ones, and zeros in the bits that are left.
fn is_canonical(text: &str) -> bool {
    let Some(sextets) = sextets(text) else { return false };
    let left = 6 * sextets.len() % 8;
    left < 6 && sextets.last().is_none_or(|&last| last >> (6 - left) == 0)
}

fn pad(password: &[u8]) -> Option<Padded> {
    let len = u8::try_from(password.len()).ok()?;
    let mut padded = Box::new(Zeroizing::new([0; 1 + FIELD_MAX]));
    padded[0] = len;
    padded[1..=password.len()].copy_from_slice(password);
    Some(padded)
}

#[cfg(test)]
mod tests;
