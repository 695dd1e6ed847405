//! The `ringsocks` binary: arguments in, exit status out.

use std::env;
use std::process::ExitCode;

use clap::Parser;
use ringsocks::config::{self, Args, Config};
use ringsocks::process;

fn main() -> ExitCode {
    let args = Args::parse();
    let config = match Config::load(&args, env::vars_os()) {
        Ok(config) => config,
        Err(error) => return fail(&error.to_string(), config::Error::EXIT_STATUS),
    };
    env_logger::Builder::new().filter_level(config.log).init();
    let result = if args.is_check() {
        process::check(&config).map(|cpus| print!("{config}\n# reactors on CPUs {cpus:?}\n"))
    } else {
        process::serve(&config)
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string(), error.exit_status()),
    }
}

fn fail(message: &str, status: u8) -> ExitCode {
    eprintln!("ringsocks: {message}");
    ExitCode::from(status)
}
