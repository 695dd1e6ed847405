//! The configuration file: TOML, every error with its line and a caret.

mod login;

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};
use zeroize::Zeroizing;

use super::error::{self, Error, Origin, Problem};
use super::keys::KEYS;
use super::listen::{self, Listen};
use super::schema::{self, Form, LISTEN_KEYS, Layer};
use super::value::{self, Value};

/// Reads the file at `path` over what `layer` says. `named_by` is what told us of it.
pub(super) fn read(path: &Path, named_by: &str, layer: &mut Layer) -> Result<(), Error> {
    let unreadable = |problem: String| {
        let hint = format!("it is the configuration named by {named_by}");
        Error::at(path.display(), Problem::new(problem).hint(hint))
    };
    let bytes = read_whole(path).map_err(|error| unreadable(format!("cannot read it: {error}")))?;
    if bytes.len() > MAX_LEN {
        return Err(unreadable(format!("it is larger than {} KiB", MAX_LEN >> 10)));
    }
    let text = std::str::from_utf8(&bytes).map_err(|error| {
        let line = 1 + bytes[..error.valid_up_to()].iter().filter(|&&b| b == b'\n').count();
        unreadable(format!("it is not UTF-8 text (line {line})"))
    })?;
    parse(&path.display().to_string(), text, layer)
}

/// Reads `text`, the content of the file called `name`, over what `layer` says.
pub(super) fn parse(name: &str, text: &str, layer: &mut Layer) -> Result<(), Error> {
    let source = Source { name, text };
    let table = DeTable::parse(text).map_err(|error| source.syntax_error(&error))?;
    source.read_table("", table.get_ref(), layer)
}

const MAX_LEN: usize = 1 << 20;

/// One byte more than the limit is enough to know that there is more, whatever kind of file it is.
/// The room is taken at once, so that no growing leaves copies of passwords behind.
fn read_whole(path: &Path) -> std::io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_LEN + 1));
    File::open(path)?.take(MAX_LEN as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

type Name<'t> = Spanned<DeString<'t>>;
type Item<'t> = Spanned<DeValue<'t>>;

struct Source<'a> {
    name: &'a str,
    text: &'a str,
}

impl Source<'_> {
    fn read_table(&self, table: &str, entries: &DeTable, layer: &mut Layer) -> Result<(), Error> {
        for (name, item) in in_file_order(entries) {
            let key = schema::find(table, name.get_ref());
            match key.map(|key| (key, &key.form)) {
                Some((key, Form::Value { set, .. })) => {
                    self.read_value(item, |value| set(layer, value))?;
                    layer.origins.insert(key.path, self.origin(item.span()));
                }
                Some((_, Form::Users)) => layer.users = Some(self.read_users(name, item, layer)?),
                Some((_, Form::Groups)) => layer.groups = Some(self.read_groups(item)?),
                Some((_, Form::Listen)) => layer.listen = Some(self.read_listeners(item, layer)?),
                None if table.is_empty() && schema::is_table(name.get_ref()) => {
                    let DeValue::Table(entries) = item.get_ref() else {
                        return Err(self.not_a_table(name, item));
                    };
                    layer.origins.insert(name.get_ref().as_ref(), self.origin(name.span()));
                    self.read_table(name.get_ref(), entries, layer)?;
                }
                None => return Err(self.unknown_key(table, schema::names(table), name)),
            }
        }
        Ok(())
    }

    fn read_listeners(&self, item: &Item, layer: &mut Layer) -> Result<Vec<Listen>, Error> {
        let meant = "a [[listen]] table with `address` and, if you like, `clients`, `targets`, \
                     `commands`, `auth`";
        let DeValue::Array(tables) = item.get_ref() else {
            let problem = to_value(item).wrong_type("[[listen]] tables", meant);
            return Err(self.error(item.span(), problem));
        };
        if tables.is_empty() {
            let problem = Problem::new("there is nothing to listen on");
            let hint = format!("{meant}; without any it is 1080 on this host");
            return Err(self.error(item.span(), problem.hint(hint)));
        }
        let mut listeners = Vec::new();
        for table in tables.iter() {
            let DeValue::Table(entries) = table.get_ref() else {
                let problem = to_value(table).wrong_type("a [[listen]] table", meant);
                return Err(self.error(table.span(), problem));
            };
            self.read_listener(table.span(), entries, &mut listeners, layer)?;
        }
        Ok(listeners)
    }

    fn read_listener(
        &self,
        span: Range<usize>,
        entries: &DeTable,
        listeners: &mut Vec<Listen>,
        layer: &mut Layer,
    ) -> Result<(), Error> {
        let (mut address, mut clients) = (None, Vec::new());
        let (mut targets, mut commands, mut auth) = (None, None, None);
        for (name, item) in in_file_order(entries) {
            match name.get_ref().as_ref() {
                "address" => {
                    address = Some((self.read_value(item, |it| it.to_address())?, item.span()));
                }
                "clients" => clients = self.read_value(item, |it| it.to_clients())?,
                "targets" => targets = Some(self.read_value(item, |it| it.to_targets())?),
                "commands" => commands = Some(self.read_value(item, |it| it.to_commands())?),
                "auth" => auth = Some(self.read_auth(item, listeners.len(), layer)?),
                _ => return Err(self.unknown_key("listen", LISTEN_KEYS.to_vec(), name)),
            }
        }
        let Some((address, span)) = address else {
            let problem = Problem::new("this [[listen]] has no `address`").hint(value::ADDRESS);
            return Err(self.error(span, problem));
        };
        listen::add(listeners, Listen { address, clients, targets, commands, auth })
            .map_err(|problem| self.error(span, problem))
    }

    /// Reads a value; an error points to it, or to the item of it that is wrong.
    fn read_value<T>(
        &self,
        item: &Item,
        read: impl FnOnce(Value<'_>) -> Result<T, Problem>,
    ) -> Result<T, Error> {
        let DeValue::Array(list) = item.get_ref() else {
            return read(to_value(item)).map_err(|problem| self.error(item.span(), problem));
        };
        let values: Vec<_> = list.iter().map(to_value).collect();
        read(Value::List(&values)).map_err(|problem| {
            let wrong = problem.item().and_then(|index| list.get(index)).unwrap_or(item);
            self.error(wrong.span(), problem)
        })
    }

    fn not_a_table(&self, name: &Name, item: &Item) -> Error {
        let table = name.get_ref();
        let keys = schema::list(schema::names(table));
        let problem = to_value(item).wrong_type(&format!("the table [{table}]"), &keys);
        self.error(item.span(), problem)
    }

    /// The value of a key that resembles nothing, or `users`, may be a password: it is not shown.
    fn unknown_key(&self, table: &str, known: Vec<&'static str>, name: &Name) -> Error {
        let problem = Problem::new(match table {
            "" => format!("unknown key `{}`", name.get_ref()),
            _ => format!("unknown key `{}` in `{table}`", name.get_ref()),
        });
        let elsewhere = || {
            let mut keys = KEYS.iter();
            keys.find(|key| key.split().1 == name.get_ref()).map(|key| key.path)
        };
        match schema::nearest(name.get_ref(), known.iter().copied()).or_else(elsewhere) {
            Some("users") => self.secret_error(name, None, problem.hint("did you mean `users`?")),
            Some(near) => self.error(name.span(), problem.hint(format!("did you mean `{near}`?"))),
            None => self.secret_error(name, None, problem.hint(schema::list(known))),
        }
    }

    fn syntax_error(&self, error: &toml::de::Error) -> Error {
        let span = error.span().unwrap_or(0..0);
        if self.may_hold_password() {
            let problem = Problem::new(error.message());
            let hint = "the line is not shown: the file may hold a password";
            return Error::at(self.place(span.start), problem.hint(hint));
        }
        self.error(span, Problem::new(error.message()))
    }

    /// An error with the line it is in.
    fn error(&self, span: Range<usize>, problem: Problem) -> Error {
        Error::about(self.origin(span), problem)
    }

    /// A place with its line, if that may be shown.
    fn origin(&self, span: Range<usize>) -> Origin {
        let (number, column, line) = self.locate(span.start);
        let end = span.end.min(span.start + line.len()).max(span.start);
        let length = self.text.get(span.start..end).map_or(1, |marked| {
            marked.split(['\r', '\n']).next().unwrap_or_default().chars().count().max(1)
        });
        let marked = column - 1..column - 1 + length;
        let origin = Origin::new(self.place(span.start));
        match error::may_be_secret(line) {
            true => origin,
            false => origin.showing_line(number, line, marked),
        }
    }

    /// An error that shows a key, but neither its value nor what else is in its line; the caret is
    /// below the value if that is what is wrong.
    fn secret_error(&self, name: &Name, wrong: Option<&Item>, problem: Problem) -> Error {
        let (number, ..) = self.locate(name.span().start);
        let key = self.text.get(name.span()).unwrap_or_default();
        let length = key.chars().count();
        let (offset, marked) = match wrong {
            Some(item) => (item.span().start, length + 3..length + 6),
            None => (name.span().start, 0..length),
        };
        let line = format!("{key} = ***");
        Error::about(Origin::new(self.place(offset)).showing_line(number, &line, marked), problem)
    }

    fn place(&self, offset: usize) -> String {
        let (line, column, _) = self.locate(offset);
        format!("{}:{line}:{column}", self.name)
    }

    /// Line and column of a byte, counted from 1, columns in characters; and the line itself.
    fn locate(&self, offset: usize) -> (usize, usize, &str) {
        let offset = offset.min(self.text.len());
        let before = &self.text.as_bytes()[..offset];
        let start = before.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
        let number = 1 + before.iter().filter(|&&b| b == b'\n').count();
        let line = self.text[start..].split('\n').next().unwrap_or_default();
        let column = 1 + self.text.get(start..offset).map_or(0, |text| text.chars().count());
        (number, column, line)
    }

    /// Whether a file that is not TOML may have a password in any of its lines.
    fn may_hold_password(&self) -> bool {
        self.text.to_lowercase().contains("user") || error::may_be_secret(self.text)
    }
}

fn in_file_order<'t, 'i>(table: &'t DeTable<'i>) -> Vec<(&'t Name<'i>, &'t Item<'i>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(name, _)| name.span().start);
    entries
}

fn to_value<'v>(item: &'v Item) -> Value<'v> {
    match item.get_ref() {
        DeValue::String(text) => Value::Text(text),
        DeValue::Integer(number) => {
            let parsed = i128::from_str_radix(number.as_str(), number.radix());
            Value::Integer(parsed.unwrap_or(i128::MAX))
        }
        DeValue::Boolean(boolean) => Value::Boolean(*boolean),
        DeValue::Float(_) => Value::Other("a number with a fraction"),
        DeValue::Datetime(_) => Value::Other("a date or time"),
        DeValue::Array(_) => Value::Other("a list"),
        DeValue::Table(_) => Value::Other("a table"),
    }
}
