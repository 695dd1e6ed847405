//! What each key allows and all of them together do not.

use super::auth::{AuthMethod, AuthRule};
use super::choice::Choice;
use super::error::{Error, Problem};
use super::gssapi::Protection;
use super::listen::Listen;
use super::show::{show_duration, show_text};
use super::{Config, schema};

/// Fails on the first thing that does not fit the rest.
pub(super) fn check(config: &Config) -> Result<(), Error> {
    let at = |paths: &[&str], problem| config.origins.error(paths, problem);
    check_sources(config).map_err(|problem| at(&["pam_service"], problem))?;
    check_penalty(config).map_err(|problem| at(&["penalty.threshold", "penalty.max"], problem))?;
    check_protection(config).map_err(|problem| at(&["gssapi.clear"], problem))?;
    for (number, listen) in config.listen.iter().enumerate() {
        for (index, rule) in listen.auth.iter().flatten().enumerate() {
            let of_file = schema::rule_path(number, index);
            check_rule(config, rule)
                .map_err(|problem| at(&[schema::LISTEN_AUTH, &of_file], problem))?;
        }
    }
    refuse_open_proxy(config)
}

fn check_sources(config: &Config) -> Result<(), Problem> {
    let ours = match (config.users.is_empty(), &config.users_file) {
        _ if config.pam.service.is_none() => return Ok(()),
        (false, _) => "users",
        (true, Some(_)) => "users_file",
        (true, None) => return Ok(()),
    };
    let problem = format!("`pam_service` and `{ours}` exclude each other");
    Err(Problem::new(problem).hint(format!(
        "passwords are either compared by PAM or by us: leave out `pam_service` or `{ours}`"
    )))
}

fn check_penalty(config: &Config) -> Result<(), Problem> {
    let penalty = &config.penalty;
    if penalty.failure.is_zero() || penalty.threshold <= penalty.max {
        return Ok(());
    }
    let [threshold, max] = [penalty.threshold, penalty.max].map(show_duration);
    let problem = format!("nobody would be locked: never more than {max} gathers");
    Err(Problem::new(problem).hint(format!(
        "a `penalty.max` of {threshold} or more; without penalties: penalty.failure = 0"
    )))
}

fn check_protection(config: &Config) -> Result<(), Problem> {
    if !config.gssapi.clear || config.gssapi.require == Protection::Integrity {
        return Ok(());
    }
    let required = config.gssapi.require.show();
    let problem = format!("nothing could be clear where gssapi.require = {required}");
    Err(Problem::new(problem)
        .hint(format!("leave it out, or say gssapi.require = {}", Protection::Integrity.show())))
}

fn check_rule(config: &Config, rule: &AuthRule) -> Result<(), Problem> {
    if rule.methods.contains(&AuthMethod::Password) && !config.has_passwords() {
        return Err(Problem::new("no password would be right: there are no users")
            .hint("say who they are: `users`, `users_file` or `pam_service`"));
    }
    let is_unknown = |group: &&String| !config.groups.contains_key(*group);
    match rule.groups.iter().find(is_unknown) {
        Some(group) if config.groups_file.is_none() => {
            let problem = Problem::new(format!("there is no group {}", show_text(group)));
            let known = config.groups.keys().map(String::as_str);
            Err(match schema::nearest(group, known) {
                Some(near) => problem.hint(format!("did you mean {}?", show_text(near))),
                None => problem.hint("say who is in it: `groups` or `groups_file`"),
            })
        }
        _ => Ok(()),
    }
}

/// Fails if anyone who can reach a listener from another host would be served, without that
/// having been asked for.
fn refuse_open_proxy(config: &Config) -> Result<(), Error> {
    let serves_strangers =
        |listen: &Listen| config.auth_rules(listen).iter().any(AuthRule::serves_strangers);
    let is_open = |listen: &&Listen| {
        !listen.address.is_loopback() && listen.clients.is_empty() && serves_strangers(listen)
    };
    let Some(listen) = config.listen.iter().find(is_open).filter(|_| !config.open) else {
        return Ok(());
    };
    let address = listen.address;
    let why = match &listen.auth {
        None => "with neither users nor clients, everyone who can reach it may use it",
        Some(_) => "without clients, whoever its `auth` asks for nothing may use it",
    };
    let ask = match &listen.auth {
        None => {
            "require a password:    users = { alice = \"plain:PASSWORD\" }\n\
             \x20                           or RINGSOCKS_USERS_alice=plain:PASSWORD"
        }
        Some(_) => "ask them who they are: auth = [{ methods = [\"password\"] }]",
    };
    let problem = format!("the listener \"{address}\" would be an open proxy: {why}");
    let ways = format!(
        "do one of these:\n\
         \x20    {ask}\n\
         \x20    say who may connect:   [[listen]]\n\
         \x20                           address = \"{address}\"\n\
         \x20                           clients = [\"10.0.0.0/8\"]\n\
         \x20    serve all on purpose:  open = true\n\
         \x20                           or --open, or RINGSOCKS_OPEN=true"
    );
    Err(Error::new(Problem::new(problem).hint(ways)))
}
