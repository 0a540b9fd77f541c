//! An authority that certifies the relay's HTTPS port, RFC 8555.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{
    Config,
    values::{Domain, Https},
};
use crate::failure::Failure;

/// For which names, and by whom. What each key means stands in the sample.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(in super::super) struct Acme {
    hosts: Vec<Domain>,
    contact: Option<String>,
    directory: Option<Https>,
    ca: Option<PathBuf>,
}

impl Acme {
    /// Whether an authority is to be asked.
    pub(in super::super) fn is_on(&self) -> bool {
        !self.hosts.is_empty()
    }

    /// That these keys fit together, and to the others.
    ///
    /// # Errors
    /// [`Failure::Usage`] names the keys.
    pub(super) fn check(&self, config: &Config) -> Result<(), Failure> {
        let misfit = |what: &str| Err(Failure::Usage(what.into()));
        let https = &config.https;
        match self.is_on() {
            false if *self == Self::default() => Ok(()),
            false => misfit("acme.contact, acme.directory and acme.ca belong to acme.hosts, which is missing"),
            true if https.listen.is_none() => misfit("acme.hosts belongs to --https, which is missing (https.listen)"),
            true if https.certificate.is_some() || https.key.is_some() => misfit(
                "acme.hosts and https.certificate (--tls-cert), https.key (--tls-key): the certificate comes from an \
                 authority or from files, not from both",
            ),
            true => match &config.public {
                Some(public) if self.hosts.iter().any(|host| host.0 == public.0.to_ascii_lowercase()) => Ok(()),
                Some(public) => {
                    misfit(&format!("acme.hosts: '{}' is missing, which peers are told (public)", public.0))
                }
                None => misfit("acme.hosts: which of them peers are told is missing (public)"),
            },
        }
    }

    /// The same for the relay, if an authority is to be asked: with the key to be certified, and the folder for the rest.
    #[cfg(feature = "acme")]
    pub(in super::super) fn options(&self, key: PathBuf, folder: PathBuf) -> Option<direc_smol::AcmeOptions> {
        let hosts = self.hosts.iter().map(|host| host.0.clone()).collect();
        let mut options = direc_smol::AcmeOptions::new(hosts, key, folder);
        // An address alone is what people write; any other URL has a scheme.
        let url = |contact: &String| if contact.contains(':') { contact.clone() } else { format!("mailto:{contact}") };
        options.contact = self.contact.iter().map(url).collect();
        if let Some(directory) = &self.directory {
            options.directory = directory.0.clone();
        }
        if let Some(ca) = &self.ca {
            options.trust = direc_smol::Trust::File(ca.clone());
        }
        self.is_on().then_some(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "public = 'relay.example'\n[https]\nlisten = 443\n[acme]\nhosts = ['Relay.example']\n";

    fn check(toml: &str) -> Result<(), String> {
        toml::from_str::<Config>(toml).map_err(|why| why.message().to_owned())?.check().map_err(|why| why.to_string())
    }

    #[test]
    fn an_authority_is_asked_only_where_all_that_it_takes_is_there() {
        assert_eq!(check(GOOD), Ok(()));
        for (what, other, words) in [
            ("listen = 443", "", "acme.hosts belongs to --https"),
            ("listen = 443", "listen = 443\nkey = 'f'", "from an authority or from files, not from both"),
            ("public = 'relay.example'", "", "which of them peers are told is missing (public)"),
            ("public = 'relay.example'", "public = 'x'", "acme.hosts: 'x' is missing, which peers are told (public)"),
            ("hosts = ['Relay.example']", "contact = 'a@b'", "belong to acme.hosts, which is missing"),
            ("'Relay.example'", "'192.0.2.1'", "expected a host's name, as relay.example.org, not \"192.0.2.1\""),
            ("'Relay.example'", "'*.example'", "expected a host's name"),
            ("[acme]", "[acme]\ndirectory = 'acme.example'", "expected an https:// URL, not \"acme.example\""),
        ] {
            let error = check(&GOOD.replace(what, other)).unwrap_err();
            assert!(error.contains(words), "no '{words}' in: {error}");
        }
    }

    #[test]
    #[cfg(feature = "acme")]
    fn the_keys_say_whom_to_ask_and_what_for() {
        let config = |more: &str| toml::from_str::<Config>(&format!("{GOOD}{more}")).unwrap();
        let options = |more: &str| config(more).acme.options("key.pem".into(), "acme".into()).unwrap();
        let plain = options("");
        assert_eq!(plain.hosts, ["relay.example"]);
        assert_eq!((plain.directory.as_str(), plain.contact.len()), (direc_smol::AcmeOptions::LETS_ENCRYPT, 0));
        let other = options("contact = 'a@b.example'\ndirectory = 'https://ca.example/acme'\nca = 'roots.pem'");
        assert_eq!(
            (other.directory.as_str(), other.contact),
            ("https://ca.example/acme", vec!["mailto:a@b.example".into()])
        );
        assert_eq!(other.trust, direc_smol::Trust::File("roots.pem".into()));
        assert!(Config::default().acme.options("key.pem".into(), "acme".into()).is_none());
    }
}
