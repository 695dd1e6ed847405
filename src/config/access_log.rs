//! Where every session leaves its line.

use std::fmt;
use std::path::PathBuf;

use super::error::Problem;
use super::schema;
use super::show::show_text;
use super::value;

/// Where every session leaves its line when it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLog {
    /// Nowhere.
    Off,
    /// On standard output.
    Stdout,
    /// At the end of this file.
    File(PathBuf),
}

impl AccessLog {
    const WORDS: [&str; 2] = ["stdout", "off"];

    pub(super) fn parse(text: &str) -> Result<AccessLog, Problem> {
        let problem = match text {
            "off" => return Ok(AccessLog::Off),
            "stdout" => return Ok(AccessLog::Stdout),
            "" => Problem::new("it is empty").hint(value::ACCESS_LOG),
            "stderr" => Problem::new("the access log cannot go to stderr")
                .hint("operations are logged there, as `log` says; \"stdout\" is free"),
            "-" => Problem::new("this is not a file").hint("did you mean \"stdout\"?"),
            _ if text.contains('/') => return Ok(AccessLog::File(text.into())),
            _ => match schema::nearest(text, Self::WORDS) {
                None => return Ok(AccessLog::File(text.into())),
                Some(near) => Problem::new("this is hardly a file")
                    .hint(format!("did you mean \"{near}\"? A file of that name is \"./{text}\"")),
            },
        };
        Err(problem)
    }
}

impl fmt::Display for AccessLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AccessLog::Off => f.write_str("\"off\""),
            AccessLog::Stdout => f.write_str("\"stdout\""),
            AccessLog::File(path) => f.write_str(&show_text(&path.to_string_lossy())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_or_a_path() {
        let parse = |text| AccessLog::parse(text).ok();
        assert_eq!(parse("off"), Some(AccessLog::Off));
        assert_eq!(parse("stdout"), Some(AccessLog::Stdout));
        for path in ["/var/log/ringsocks/access.log", "access.log", "./off", "./stdout"] {
            assert_eq!(parse(path), Some(AccessLog::File(path.into())));
        }
        for bad in ["", "-", "stderr", "Off", "OFF", "of", "STDOUT", "sdtout", "std out"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
