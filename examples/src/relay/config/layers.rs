//! Settings from the defaults, the file, the environment and the command line: each layer over those before it.
//!
//! A layer is keys and values, each with the place that it comes from. Every single one is tried on its own as it comes,
//! so that an error can name that place.

use std::{fs, path::Path};

use direc_smol::FileTrouble;
use toml::{
    Table, Value,
    de::{DeTable, DeValue},
};

use super::Config;
use crate::failure::Failure;

/// Before the name of a key, in capitals and with `_` for the dot behind a table.
pub(in super::super) const ENVIRONMENT: &str = "DIREC_RELAY_";
/// The one variable that is no key: where the file is.
pub(in super::super) const FILE_VARIABLE: &str = "DIREC_RELAY_CONFIG";
/// A file is no longer than this: names of tens of thousands of peers.
const MAX_FILE: u64 = 4 << 20;

/// The settings so far.
#[derive(Default)]
pub(in super::super) struct Layers(Table);

impl Layers {
    /// Everything the file says.
    ///
    /// # Errors
    /// [`Failure::Usage`] names the file, the line, the key and what is expected there; [`Failure::Failed`], a file that
    /// cannot be read.
    pub(in super::super) fn file(&mut self, path: &Path) -> Result<(), Failure> {
        let name = path.display();
        let unread = |error| {
            let trouble = FileTrouble { doing: "cannot read the settings in", path, error: &error };
            Failure::Failed(format!("{trouble}; `relay --sample-config` prints such a file"))
        };
        let about = fs::metadata(path).map_err(unread)?;
        if !about.is_file() || about.len() > MAX_FILE {
            let why = "expected a file of at most 4 MiB; `relay --sample-config` prints one";
            return Err(Failure::Failed(format!("cannot read the settings in {name}: {why}")));
        }
        let text = fs::read_to_string(path).map_err(unread)?;
        self.text(&text, &name.to_string())
    }

    fn text(&mut self, text: &str, name: &str) -> Result<(), Failure> {
        let line = |offset: usize| text.bytes().take(offset).filter(|&byte| byte == b'\n').count() + 1;
        let spoiled = |error: toml::de::Error| {
            let at = error.span().map_or(0, |span| span.start);
            Failure::Usage(format!("{name}, line {}: {}", line(at), error.message()))
        };
        let values: Table = toml::from_str(text).map_err(spoiled)?;
        let spans = DeTable::parse(text).map_err(spoiled)?;
        let mut leaves = Vec::new();
        gather(&values, spans.get_ref(), &[], &mut leaves);
        for (path, value, offset) in leaves {
            self.set(&path, value, &format!("{name}, line {}", line(offset)))?;
        }
        Ok(())
    }

    /// All variables that begin with [`ENVIRONMENT`].
    ///
    /// # Errors
    /// [`Failure::Usage`] names the variable: also one that is no key, lest a misspelt one pass for set.
    pub(in super::super) fn environment(
        &mut self,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<(), Failure> {
        let tables = Table::try_from(Config::default()).unwrap_or_default();
        for (name, text) in variables {
            let Some(key) = name.strip_prefix(ENVIRONMENT).filter(|_| name != FILE_VARIABLE) else { continue };
            let key = key.to_ascii_lowercase();
            let inside = key.split_once('_').filter(|(table, _)| tables.get(*table).is_some_and(Value::is_table));
            match inside {
                Some((table, key)) => self.word(&[table, key], &text, &name)?,
                None => self.word(&[&key], &text, &name)?,
            }
        }
        Ok(())
    }

    /// One key, in the words of the command line or the environment: bare text, or a value as in the file.
    ///
    /// # Errors
    /// [`Failure::Usage`] names `from`, the text and what is wrong with it.
    pub(in super::super) fn word(&mut self, path: &[&str], text: &str, from: &str) -> Result<(), Failure> {
        let path: Vec<_> = path.iter().map(|&key| key.to_owned()).collect();
        let bare = Value::String(text.to_owned());
        let value = match (alone(&path, bare.clone()), text.parse::<Value>()) {
            (Err(_), Ok(value)) if !value.is_str() => value,
            _ => bare,
        };
        self.set(&path, value, &format!("{from} '{text}'"))
    }

    /// One more value at the end of a list.
    ///
    /// # Errors
    /// As [`Layers::word`].
    pub(in super::super) fn add(&mut self, key: &str, values: &[String], from: &str) -> Result<(), Failure> {
        self.word(&[key], &format!("[{}]", values.join(", ")), from)
    }

    fn set(&mut self, path: &[String], value: Value, from: &str) -> Result<(), Failure> {
        let wrong = |why: &str| Failure::Usage(format!("{from}: {}: {why}", path.join(".")));
        alone(path, value.clone()).map_err(|why| wrong(&plain(&why)))?;
        let nothing = matches!(&value, Value::Table(table) if table.is_empty());
        if !cfg!(feature = "acme") && !nothing && path.first().is_some_and(|table| table == "acme") {
            return Err(wrong("this relay has been built without ACME; build it with --features acme"));
        }
        merge(&mut self.0, single(path, value));
        Ok(())
    }

    /// All layers together.
    ///
    /// # Errors
    /// [`Failure::Usage`] if they do not fit together.
    pub(in super::super) fn finish(self) -> Result<Config, Failure> {
        let config: Config = self.0.try_into().map_err(|why: toml::de::Error| Failure::Usage(plain(&why)))?;
        config.check()?;
        Ok(config)
    }
}

/// The keys at which two configurations differ.
pub(in super::super) fn differences(one: &Config, other: &Config) -> Vec<String> {
    fn flat(table: Table, before: &str, into: &mut Vec<(String, Value)>) {
        for (key, value) in table {
            match value {
                Value::Table(inside) => flat(inside, &format!("{before}{key}."), into),
                value => into.push((format!("{before}{key}"), value)),
            }
        }
    }
    let [one, other] = [one, other].map(|config| {
        let mut keys = Vec::new();
        flat(Table::try_from(config).unwrap_or_default(), "", &mut keys);
        keys
    });
    let missing = |from: &[(String, Value)], key: &(String, Value)| !from.contains(key);
    let mut keys: Vec<_> = one.iter().filter(|key| missing(&other, key)).map(|(key, _)| key.clone()).collect();
    keys.extend(other.iter().filter(|key| missing(&one, key)).map(|(key, _)| key.clone()));
    keys.sort();
    keys.dedup();
    keys
}

/// A file's keys with their values, and where they begin. A table without keys has nothing to say.
fn gather(values: &Table, spans: &DeTable<'_>, before: &[String], into: &mut Vec<(Vec<String>, Value, usize)>) {
    for (key, inside) in spans {
        let name: &str = key.get_ref();
        let Some(value) = values.get(name) else { continue };
        let path = [before, &[name.to_owned()]].concat();
        match (value, inside.get_ref()) {
            (Value::Table(values), DeValue::Table(spans)) if !values.is_empty() => gather(values, spans, &path, into),
            _ => into.push((path, value.clone(), key.span().start)),
        }
    }
}

/// Whether this one value is what its key takes.
fn alone(path: &[String], value: Value) -> Result<Config, toml::de::Error> {
    single(path, value).try_into()
}

fn single(path: &[String], value: Value) -> Table {
    let value = match path {
        [_, rest @ ..] if !rest.is_empty() => Value::Table(single(rest, value)),
        _ => value,
    };
    path.first().map(|key| (key.clone(), value)).into_iter().collect()
}

fn merge(into: &mut Table, from: Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Table(into)), Value::Table(from)) => merge(into, from),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

/// What serde expects, in an operator's words.
fn plain(why: &toml::de::Error) -> String {
    let words = [
        ("expected u16", "expected a number from 0 to 65535"),
        ("expected u64", "expected a whole number from 0"),
        ("expected usize", "expected a whole number from 0"),
        ("expected f64", "expected a number"),
        ("expected socket address", "expected an IP address, a colon and a port (IPv6 in brackets)"),
        ("invalid socket address syntax", "expected an IP address, a colon and a port (IPv6 in brackets)"),
        ("expected path string", "expected a path in quotes"),
    ];
    words.iter().fold(why.message().to_owned(), |text, (serde, operator)| text.replace(serde, operator))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        Layers::default().text(text, "relay.toml").unwrap_err().to_string()
    }

    #[test]
    fn what_is_wrong_with_a_file_is_named_with_line_key_and_what_is_expected() {
        let cases = [
            (
                "# hello\nlisen = '0.0.0.0:1'",
                "relay.toml, line 2: lisen: unknown field `lisen`, expected one of `listen`",
            ),
            (
                "\n[https]\n\nprot = 443",
                "relay.toml, line 4: https.prot: unknown field `prot`, expected one of `listen`",
            ),
            ("[htps]\nlisten = 443", "relay.toml, line 2: htps.listen: unknown field `htps`"),
            (
                "listen = 4433",
                "line 1: listen: invalid type: integer `4433`, expected an IP address, a colon and a port",
            ),
            ("listen = '0.0.0.0'", "line 1: listen: expected an IP address, a colon and a port"),
            (
                "punch_ports = [1,\n 70000]",
                "line 1: punch_ports: invalid value: integer `70000`, expected a number from",
            ),
            (
                "knock_port = true",
                "line 1: knock_port: invalid type: boolean `true`, expected a number from 0 to 65535",
            ),
            ("https = 443", "line 1: https: invalid type: integer `443`, expected a table"),
            ("drain_seconds = 90000", "line 1: drain_seconds: 0 to 86400 seconds, not 90000"),
            ("drain_seconds = '1 h'", "line 1: drain_seconds: invalid type: string \"1 h\", expected a number"),
            ("log_format = 'xml'", "line 1: log_format: unknown variant `xml`, expected `text` or `json`"),
            ("[https]\nlisten = true", "line 2: https.listen: a TCP port, or an IP address"),
            ("[https]\ncertificate = 1", "line 2: https.certificate: invalid type: integer `1`, expected a path"),
            ("[limits]\nconnections = -1", "line 2: limits.connections: invalid value: integer `-1`, expected a whole"),
            ("[acme]\nhosts = ['192.0.2.1']", "line 2: acme.hosts: expected a host's name, as relay.example.org, not"),
            ("listen = '0.0.0.0:1'\nlisten = '0.0.0.0:2'", "relay.toml, line 2: duplicate key"),
            ("listen = ", "relay.toml, line 1: "),
        ];
        for (text, words) in cases {
            assert!(error(text).contains(words), "{text:?}: no '{words}' in: {}", error(text));
        }
    }

    #[test]
    #[cfg(not(feature = "acme"))]
    fn a_relay_that_was_built_without_acme_says_so_and_how_to_build_one() {
        let words = "acme.hosts: this relay has been built without ACME; build it with --features acme";
        assert_eq!(error("[acme]\nhosts = ['relay.example']"), format!("relay.toml, line 2: {words}"));
        let variable = ("DIREC_RELAY_ACME_HOSTS".to_owned(), "['relay.example']".to_owned());
        let wrong = Layers::default().environment([variable]).unwrap_err().to_string();
        assert_eq!(wrong, format!("DIREC_RELAY_ACME_HOSTS '['relay.example']': {words}"));
        let whole = ("DIREC_RELAY_ACME".to_owned(), "{hosts = ['relay.example']}".to_owned());
        let wrong = Layers::default().environment([whole]).unwrap_err().to_string();
        assert!(wrong.contains("built without ACME"), "{wrong}");
        Layers::default().text("[acme]", "relay.toml").unwrap();
    }

    #[test]
    fn a_flag_is_over_the_environment_that_over_the_file_and_that_over_the_default() {
        let mut layers = Layers::default();
        let variable = |name: &str, text: &str| (format!("{ENVIRONMENT}{name}"), text.to_owned());
        let file = "knock_port = 1\npublic = 'file'\ndata_dir = 'file'\n[https]\nmax_connections = 1";
        layers.text(file, "relay.toml").unwrap();
        layers.environment([variable("PUBLIC", "7"), variable("DATA_DIR", "environment")]).unwrap();
        layers.word(&["data_dir"], "flag", "--data-dir").unwrap();
        let config = layers.finish().unwrap();
        let expected = Config {
            knock_port: Some(1),
            public: Some("7".to_owned().into()),
            data_dir: Some("flag".into()),
            https: super::super::Https { max_connections: 1, ..Default::default() },
            ..Config::default()
        };
        assert_eq!(config, expected);
        assert_eq!(
            differences(&config, &Config::default()),
            ["data_dir", "https.max_connections", "knock_port", "public"]
        );
    }

    #[test]
    fn the_settings_that_the_operating_guide_shows_are_accepted() {
        let guide = include_str!("../../../../docs/operating.md");
        let blocks: Vec<&str> = guide.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
        assert_eq!(blocks.len(), 3);
        let token = direc_core::AccessToken::from_random([7; 20]).hash().to_string();
        for block in blocks.into_iter().filter(|block| cfg!(feature = "acme") || !block.contains("[acme]")) {
            let mut layers = Layers::default();
            let read = layers.text(&block.replace("sha256-…", &token), "operating.md");
            assert!(read.and_then(|()| layers.finish().map(drop)).is_ok(), "{block}");
        }
    }

    #[test]
    fn the_environment_sets_keys_of_every_kind_and_names_what_is_none() {
        let set = |name: &str, text: &str| {
            let mut layers = Layers::default();
            layers.environment([(name.to_owned(), text.to_owned())])?;
            layers.finish()
        };
        assert_eq!(set("DIREC_RELAY_PUNCH_PORTS", "[1, 2, 3]").unwrap().punch_ports, [1, 2, 3]);
        assert_eq!(set("DIREC_RELAY_HTTPS_MAX_CONNECTIONS", "5").unwrap().https.max_connections, 5);
        assert!(set("DIREC_RELAY_HTTPS_LISTEN", "443").unwrap().https.listen.is_some());
        assert_eq!(set("DIREC_RELAY_CONFIG", "x").unwrap(), Config::default());
        let error = |name: &str, text: &str| set(name, text).unwrap_err().to_string();
        assert!(error("DIREC_RELAY_LISEN", "x").starts_with("DIREC_RELAY_LISEN 'x': lisen: unknown field"));
        let wrong = error("DIREC_RELAY_KNOCK_PORT", "70000");
        assert!(wrong.contains("expected a number from 0 to 65535"), "{wrong}");
    }
}
