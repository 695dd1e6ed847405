//! The `ringsocks` binary: arguments in, exit status out.

use std::env;
use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

use ringsocks::config::{self, Args, Config};
use ringsocks::logging::LogWriter;
use ringsocks::process::{self, Error, Plan};
use ringsocks::sys;

fn main() -> ExitCode {
    sys::configure_system_resolver();
    let args = Args::read();
    if let Some(name) = args.passwd() {
        return passwd(name);
    }
    let config = match Config::load(&args, env::vars_os()) {
        Ok(config) => config,
        Err(error) => return fail(&error.to_string(), config::Error::EXIT_STATUS),
    };
    if let Err(error) = args.hide_passwords() {
        complain(&format!("passwords that were given are still shown by `ps`: {error}"));
    }
    if args.is_check() { check(&config) } else { serve(&config) }
}

fn passwd(name: &OsStr) -> ExitCode {
    match process::users_line(name.as_bytes()) {
        Ok(line) => match io::stdout().write_all(&line) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&format!("cannot write: {error}"), 1),
        },
        Err(error) => fail(&error.to_string(), 1),
    }
}

fn check(config: &Config) -> ExitCode {
    match Plan::new(config) {
        Ok(plan) => match writeln!(io::stdout(), "{config}\n# {plan}") {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&format!("cannot write: {error}"), 1),
        },
        Err(error) => fail(&error.to_string(), error.exit_status()),
    }
}

fn serve(config: &Config) -> ExitCode {
    let log = match LogWriter::start(config.log) {
        Ok(log) => log,
        Err(error) => return fail(&format!("cannot start a thread: {error}"), 1),
    };
    let result = Plan::new(config).and_then(|plan| process::serve(plan, &log));
    let status = result.as_ref().err().map_or(0, Error::exit_status);
    if let Err(error) = result {
        log.say(&format!("ringsocks: {error}"));
    }
    log.finish();
    ExitCode::from(status)
}

fn fail(message: &str, status: u8) -> ExitCode {
    complain(message);
    ExitCode::from(status)
}

fn complain(message: &str) {
    // Nobody may be there to read it.
    let _ = writeln!(io::stderr(), "ringsocks: {message}");
}
