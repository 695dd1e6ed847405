//! What a file says of who may log in, and how: users, groups, rules.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::{Item, Name, Source, in_file_order, to_value};
use crate::config::auth::AuthRule;
use crate::config::error::{Error, Origin, Problem};
use crate::config::login;
use crate::config::schema::{self, Layer};
use crate::config::secret::Password;

/// The keys of one rule.
const RULE_KEYS: [&str; 3] = ["from", "methods", "groups"];

impl Source<'_> {
    /// No error in here shows more of the file than a user's name.
    pub(super) fn read_users(
        &self,
        users_key: &Name,
        item: &Item,
        layer: &mut Layer,
    ) -> Result<BTreeMap<String, Password>, Error> {
        let DeValue::Table(entries) = item.get_ref() else {
            let meant = "users = { alice = \"plain:PASSWORD\" }";
            let problem = to_value(item).wrong_type("a table of users", meant);
            return Err(self.secret_error(users_key, Some(item), problem));
        };
        let mut users = BTreeMap::new();
        for (name, item) in in_file_order(entries) {
            let password = match item.get_ref() {
                DeValue::String(text) => login::parse_password(text.as_bytes()),
                _ => Err(to_value(item).wrong_type("a string", login::PASSWORD)),
            }
            .map_err(|problem| self.secret_error(name, Some(item), problem))?;
            let place = Origin::new(self.place(item.span().start));
            layer.origins.insert(format!("users.{}", name.get_ref()), place);
            schema::add_user(&mut users, name.get_ref(), password)
                .map_err(|problem| self.secret_error(name, None, problem))?;
        }
        Ok(users)
    }

    pub(super) fn read_groups(&self, item: &Item) -> Result<BTreeMap<String, Vec<String>>, Error> {
        let DeValue::Table(entries) = item.get_ref() else {
            let problem = to_value(item).wrong_type("a table of groups", login::GROUP);
            return Err(self.error(item.span(), problem));
        };
        let mut groups = BTreeMap::new();
        for (name, item) in in_file_order(entries) {
            let members = self.read_value(item, |it| it.to_members())?;
            schema::add_group(&mut groups, name.get_ref(), members)
                .map_err(|problem| self.error(name.span(), problem))?;
        }
        Ok(groups)
    }

    /// Reads the rules of the listener with this number.
    pub(super) fn read_auth(
        &self,
        item: &Item,
        listener: usize,
        layer: &mut Layer,
    ) -> Result<Vec<AuthRule>, Error> {
        let DeValue::Array(tables) = item.get_ref() else {
            let problem = to_value(item).wrong_type("a list of rules", login::AUTH);
            return Err(self.error(item.span(), problem));
        };
        let mut rules = Vec::new();
        for (index, table) in tables.iter().enumerate() {
            let DeValue::Table(entries) = table.get_ref() else {
                let problem = to_value(table).wrong_type("a rule", login::AUTH);
                return Err(self.error(table.span(), problem));
            };
            rules.push(self.read_rule(table.span(), entries)?);
            layer.origins.insert(schema::rule_path(listener, index), self.origin(table.span()));
        }
        AuthRule::check_all(&rules).map_err(|problem| {
            let wrong = problem.item().and_then(|index| tables.get(index)).unwrap_or(item);
            self.error(wrong.span(), problem)
        })?;
        Ok(rules)
    }

    fn read_rule(&self, span: Range<usize>, entries: &DeTable) -> Result<AuthRule, Error> {
        let (mut from, mut methods, mut groups) = (Vec::new(), None, Vec::new());
        for (name, item) in in_file_order(entries) {
            match name.get_ref().as_ref() {
                "from" => from = self.read_value(item, |it| it.to_from())?,
                "methods" => methods = Some(self.read_value(item, |it| it.to_methods())?),
                "groups" => groups = self.read_value(item, |it| it.to_groups())?,
                _ => return Err(self.unknown_key("listen.auth", RULE_KEYS.to_vec(), name)),
            }
        }
        let Some(methods) = methods else {
            let problem = Problem::new("this rule has no `methods`").hint(login::METHODS);
            return Err(self.error(span, problem));
        };
        AuthRule::new(from, methods, groups).map_err(|problem| self.error(span, problem))
    }
}
