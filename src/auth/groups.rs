use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::path::Path;

use super::error::{Error, Place};
use super::load;
use super::users::check_name;

const LINE: &str = "each line is `group: user user ...`; # begins a comment";

/// Who belongs together.
#[derive(Default)]
pub struct Groups {
    members: BTreeMap<String, HashSet<Box<[u8]>>>,
}

impl Groups {
    /// Groups by name, each with its members.
    pub fn new<N, G, M>(groups: impl IntoIterator<Item = (N, G)>) -> Groups
    where
        N: Into<String>,
        G: IntoIterator<Item = M>,
        M: AsRef<[u8]>,
    {
        let mut compiled = Groups::default();
        for (name, members) in groups {
            compiled.add(name, members);
        }
        compiled
    }

    /// Whether there is this group.
    pub fn contains(&self, group: &str) -> bool {
        self.members.contains_key(group)
    }

    /// Whether a user is in a group.
    pub fn has_member(&self, group: &str, user: &[u8]) -> bool {
        self.members.get(group).is_some_and(|members| members.contains(user))
    }

    /// Groups with members that nobody knows, and those.
    pub(super) fn strangers(
        &self,
        is_known: impl Fn(&[u8]) -> bool,
    ) -> impl Iterator<Item = (&str, Vec<&[u8]>)> {
        self.members.iter().filter_map(move |(group, members)| {
            let members = members.iter().map(|member| &**member);
            let mut strangers: Vec<_> = members.filter(|member| !is_known(member)).collect();
            strangers.sort();
            (!strangers.is_empty()).then_some((&**group, strangers))
        })
    }

    fn add<M: AsRef<[u8]>>(
        &mut self,
        name: impl Into<String>,
        members: impl IntoIterator<Item = M>,
    ) {
        let members = members.into_iter().map(|member| Box::from(member.as_ref()));
        self.members.entry(name.into()).or_default().extend(members);
    }

    /// Adds those of a file of Apache's form; a group may have several lines.
    pub(super) fn add_file(&mut self, path: &Path, text: &[u8]) -> Result<(), Error> {
        let mut own = Groups::default();
        for (number, line) in load::lines(text) {
            let error = |problem: &str| Error::new(Place::line(path, number), problem).hint(LINE);
            let line = str::from_utf8(line).map_err(|_| error("this is not UTF-8"))?;
            let (group, members) = line
                .split_once(':')
                .ok_or_else(|| error("there is no colon after a group's name"))?;
            let group = group.trim();
            if group.is_empty() || group.contains(char::is_whitespace) {
                return Err(error("before the colon stands the name of one group"));
            }
            if self.contains(group) {
                let problem = format!("the group {group:?} is also one of the configuration");
                return Err(error(&problem));
            }
            for name in members.split_whitespace().chain([group]) {
                check_name(name.as_bytes()).map_err(|problem| error(&problem.to_string()))?;
            }
            own.add(group, members.split_whitespace());
        }
        if own.members.is_empty() {
            return Err(Error::new(Place::file(path), "there is no group in it").hint(LINE));
        }
        self.members.append(&mut own.members);
        Ok(())
    }
}

impl fmt::Debug for Groups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.members.keys()).finish()
    }
}
