//! `ringsocks passwd NAME`: a password in, a line of a users' file out.

use std::error;
use std::fmt;
use std::io::{self, IsTerminal, Read};

use zeroize::Zeroizing;

use crate::auth::{self, FIELD_MAX, NameError};

/// Why there is no line.
#[derive(Debug)]
pub enum PasswdError {
    /// No user of a file can have this name.
    Name(NameError),
    /// There is no password.
    Empty,
    /// No client can send it.
    TooLong,
    /// There is a NUL in it, or a second line: what is meant is not clear.
    Unclear,
    /// It was not the same when it was asked for again.
    Different,
    /// It cannot be read.
    Unreadable(io::Error),
}

impl fmt::Display for PasswdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PasswdError::Name(error) => write!(f, "{error}"),
            PasswdError::Empty => f.write_str("there is no password"),
            PasswdError::TooLong => {
                write!(f, "a password may have {FIELD_MAX} bytes, no client can send more")
            }
            PasswdError::Unclear => f.write_str("a password is one line of text"),
            PasswdError::Different => f.write_str("these were two different passwords"),
            PasswdError::Unreadable(error) => write!(f, "cannot read the password: {error}"),
        }
    }
}

impl error::Error for PasswdError {}

/// Asks for the password of a user, twice on a terminal that shows nothing of it, else by one line
/// of the standard input, and makes their line of a users' file.
pub fn users_line(name: &[u8]) -> Result<Vec<u8>, PasswdError> {
    auth::check_name(name).map_err(PasswdError::Name)?;
    let password = match io::stdin().is_terminal() {
        true => ask()?,
        false => read_line(io::stdin().lock())?,
    };
    check(&password)?;
    Ok([name, b":", auth::hash_password(&password).as_bytes(), b"\n"].concat())
}

fn check(password: &[u8]) -> Result<(), PasswdError> {
    match password.len() {
        0 => Err(PasswdError::Empty),
        1..=FIELD_MAX if password.contains(&0) => Err(PasswdError::Unclear),
        1..=FIELD_MAX => Ok(()),
        _ => Err(PasswdError::TooLong),
    }
}

fn ask() -> Result<Zeroizing<Vec<u8>>, PasswdError> {
    let password = prompt("Password: ")?;
    check(&password)?;
    match prompt("The same again: ")? == password {
        true => Ok(password),
        false => Err(PasswdError::Different),
    }
}

fn prompt(text: &str) -> Result<Zeroizing<Vec<u8>>, PasswdError> {
    let typed = rpassword::prompt_password(text).map_err(PasswdError::Unreadable)?;
    Ok(Zeroizing::new(typed.into_bytes()))
}

/// Reads all there is, which must be one line.
fn read_line(input: impl Read) -> Result<Zeroizing<Vec<u8>>, PasswdError> {
    // With room for one byte too many, or two that end a line.
    let mut text = Zeroizing::new(Vec::with_capacity(FIELD_MAX + 3));
    let most = text.capacity() as u64 - 1;
    input.take(most).read_to_end(&mut text).map_err(PasswdError::Unreadable)?;
    if text.ends_with(b"\n") {
        text.pop();
        if text.ends_with(b"\r") {
            text.pop();
        }
    }
    match text.contains(&b'\n') {
        false => Ok(text),
        true => Err(PasswdError::Unclear),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(input: &[u8]) -> Result<Vec<u8>, String> {
        let password = read_line(input).and_then(|it| check(&it).map(|()| it));
        password.map(|it| it.to_vec()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_password_is_one_line() {
        let longest = "x".repeat(FIELD_MAX);
        for password in ["wonder", " won der ", "a:b#c", "\u{e9}", "wonder\r ", &longest] {
            for end in ["", "\n", "\r\n"] {
                let input = format!("{password}{end}");
                assert_eq!(read(input.as_bytes()), Ok(password.into()), "{input:?}");
            }
        }
        assert_eq!(read(b"\xff\n"), Ok(b"\xff".to_vec()));
    }

    #[test]
    fn what_is_no_password_is_refused() {
        for (input, problem) in [
            ("", "there is no password"),
            ("\n", "there is no password"),
            ("\r\n", "there is no password"),
            ("\n\n", "one line"),
            ("wonder\nwonder\n", "one line"),
            ("wonder\n\n", "one line"),
            ("won\0der\n", "one line"),
        ] {
            let error = read(input.as_bytes()).unwrap_err();
            assert!(error.contains(problem), "{input:?}: {error}");
        }
        for len in [FIELD_MAX + 1, FIELD_MAX + 2, FIELD_MAX + 3, 100_000] {
            for end in ["", "\n", "\r\n"] {
                let error = read(format!("{}{end}", "x".repeat(len)).as_bytes()).unwrap_err();
                assert!(error.contains("255 bytes"), "{len}: {error}");
            }
        }
    }
}
