//! Who may use the relay, what its peers are called, and how much they may ask of it.

use std::{collections::BTreeMap, time::Duration};

use direc_smol::{Access as Rules, AccessList, NodeId, PeerName, Quotas as Meters, Rate, Rights, Scopes, TokenHash};
use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// Who may use the relay.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(in super::super) struct Access {
    pub(in super::super) mode: Mode,
    pub(in super::super) peers: BTreeMap<Who, Grant>,
    pub(in super::super) tokens: BTreeMap<Hash, Grant>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(in super::super) enum Mode {
    #[default]
    Open,
    Listed,
}

/// What an entry allows.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(in super::super) enum Grant {
    Register,
    Connect,
    All,
}

impl Grant {
    fn rights(self) -> Rights {
        Rights { register: self != Self::Connect, connect: self != Self::Register }
    }
}

/// What parses from text and prints as the same.
macro_rules! written {
    ($(#[$doc:meta])* $name:ident, $inner:ty) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord, Serialize)]
        #[serde(try_from = "String", into = "String")]
        pub(in super::super) struct $name($inner);

        impl TryFrom<String> for $name {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                text.parse().map(Self).map_err(|why: <$inner as std::str::FromStr>::Err| why.to_string())
            }
        }

        impl From<$name> for String {
            fn from(written: $name) -> Self {
                written.0.to_string()
            }
        }
    };
}

written!(
    /// A peer's ID.
    Id,
    NodeId
);
written!(
    /// A peer's name.
    Name,
    PeerName
);

/// A token's hash, as `relay token` prints it: kept as text, which has one spelling and an order.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(try_from = "String")]
pub(in super::super) struct Hash(String);

impl TryFrom<String> for Hash {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse::<TokenHash>().map(|_| Self(text)).map_err(|why| why.to_string())
    }
}

/// A peer: its ID, or a name of `[names]`.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(try_from = "String", into = "String")]
pub(in super::super) enum Who {
    Id(Id),
    Name(Name),
}

impl TryFrom<String> for Who {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let name = || Name::try_from(text.clone()).map(Self::Name);
        let neither = |why| format!("neither a name nor an ID: {why}");
        Id::try_from(text.clone()).map(Self::Id).or_else(|_| name()).map_err(neither)
    }
}

impl From<Who> for String {
    fn from(who: Who) -> Self {
        match who {
            Who::Id(id) => id.into(),
            Who::Name(name) => name.into(),
        }
    }
}

/// Names of peers.
pub(in super::super) type Names = BTreeMap<Name, Id>;

/// The names as the relay takes them.
pub(in super::super) fn names(names: &Names) -> BTreeMap<PeerName, NodeId> {
    names.iter().map(|(name, id)| (name.0.clone(), id.0)).collect()
}

impl Access {
    /// What the operator can hardly mean.
    pub(in super::super) fn doubt(&self) -> Option<String> {
        let empty = self.peers.is_empty() && self.tokens.is_empty();
        match self.mode {
            Mode::Listed if empty => Some(
                "access.mode is \"listed\" and the list is empty: the relay lets nobody in (add entries to [access.peers] or \
                 [access.tokens])"
                    .into(),
            ),
            Mode::Open if !empty => Some(
                "access.mode is \"open\", so the entries in [access.peers] and [access.tokens] change nothing: the relay \
                 lets everybody in (access.mode = \"listed\" lets in those alone)"
                    .into(),
            ),
            Mode::Listed | Mode::Open => None,
        }
    }

    /// The rules as the relay takes them.
    ///
    /// # Errors
    /// [`Failure::Usage`] if an entry is for a name that is none.
    pub(in super::super) fn rules(&self, names: &Names) -> Result<Rules, Failure> {
        if self.mode == Mode::Open {
            return Ok(Rules::Open);
        }
        let id = |who: &Who| match who {
            Who::Id(id) => Ok(id.0),
            Who::Name(name) => names.get(name).map(|id| id.0).ok_or_else(|| {
                Failure::Usage(format!("access.peers.{}: no name of that kind stands in [names]", name.0))
            }),
        };
        let ids = self.peers.iter().map(|(who, grant)| Ok((id(who)?, grant.rights())));
        let tokens =
            self.tokens.iter().filter_map(|(hash, grant)| Some((hash.0.parse().ok()?, grant.rights()))).collect();
        Ok(Rules::Listed(AccessList { ids: ids.collect::<Result<_, Failure>>()?, tokens }))
    }
}

/// So much in such a time: `100/hour`, `10G/day`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub(in super::super) struct Quota(u64, Unit);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Unit {
    Second,
    Minute,
    Hour,
    Day,
}

/// Each unit's word and its seconds.
const UNITS: [(Unit, &str, u64); 4] =
    [(Unit::Second, "second", 1), (Unit::Minute, "minute", 60), (Unit::Hour, "hour", 3600), (Unit::Day, "day", 86_400)];
/// What a number may end in.
const FACTORS: [(char, u64); 3] = [('k', 1_000), ('M', 1_000_000), ('G', 1_000_000_000)];

impl TryFrom<String> for Quota {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let misfit =
            || format!("a number, perhaps with k, M or G, a slash, and second, minute, hour or day, not '{text}'");
        let (amount, word) = text.split_once('/').ok_or_else(misfit)?;
        let &(unit, ..) = UNITS.iter().find(|(_, unit, _)| *unit == word).ok_or_else(misfit)?;
        let factor = FACTORS.iter().find_map(|&(end, factor)| Some((amount.strip_suffix(end)?, factor)));
        let (digits, factor) = factor.unwrap_or((amount, 1));
        let amount = digits.parse::<u64>().ok().and_then(|amount| amount.checked_mul(factor)).ok_or_else(misfit)?;
        Ok(Self(amount, unit))
    }
}

impl From<Quota> for String {
    fn from(Quota(amount, unit): Quota) -> Self {
        let word = UNITS.iter().find(|(known, ..)| *known == unit).map_or("", |(_, word, _)| word);
        format!("{amount}/{word}")
    }
}

impl Quota {
    fn rate(self) -> Rate {
        let seconds = UNITS.iter().find(|(unit, ..)| *unit == self.1).map_or(1, |&(.., seconds)| seconds);
        Rate { amount: self.0, per: Duration::from_secs(seconds) }
    }
}

/// What peers may ask for in a time; what is not set is not limited.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(in super::super) struct Quotas {
    registrations_per_peer: Option<Quota>,
    registrations_per_address: Option<Quota>,
    registrations_total: Option<Quota>,
    introductions_per_peer: Option<Quota>,
    introductions_per_address: Option<Quota>,
    introductions_total: Option<Quota>,
    relayed_bytes_per_peer: Option<Quota>,
    relayed_bytes_per_address: Option<Quota>,
    relayed_bytes_total: Option<Quota>,
    relayed_rate_per_peer: Option<Quota>,
    relayed_rate_per_address: Option<Quota>,
    relayed_rate_total: Option<Quota>,
}

impl Quotas {
    /// The quotas as the relay takes them.
    pub(in super::super) fn meters(&self) -> Meters {
        let scopes = |of: [Option<Quota>; 3]| {
            let [peer, address, total] = of.map(|quota| quota.map(Quota::rate));
            Scopes { peer, address, total }
        };
        Meters {
            registrations: scopes([
                self.registrations_per_peer,
                self.registrations_per_address,
                self.registrations_total,
            ]),
            introductions: scopes([
                self.introductions_per_peer,
                self.introductions_per_address,
                self.introductions_total,
            ]),
            relayed_bytes: scopes([
                self.relayed_bytes_per_peer,
                self.relayed_bytes_per_address,
                self.relayed_bytes_total,
            ]),
            relayed_rate: scopes([self.relayed_rate_per_peer, self.relayed_rate_per_address, self.relayed_rate_total]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;

    fn error(toml: &str) -> String {
        let config = toml::from_str::<Config>(toml).map_err(|why| why.message().to_owned());
        config.and_then(|config| config.check().map_err(|why| why.to_string())).unwrap_err()
    }

    #[test]
    fn an_entry_for_a_name_means_who_is_called_so() {
        let id = direc_smol::ephemeral_key().unwrap().id();
        let config =
            format!("access = {{ mode = 'listed', peers = {{ office = 'all' }} }}\nnames = {{ office = '{id}' }}");
        let config: Config = toml::from_str(&config).unwrap();
        let direc_smol::Access::Listed(list) = config.access.rules(&config.names).unwrap() else { panic!("open") };
        assert_eq!(list.ids.into_iter().collect::<Vec<_>>(), [(id, direc_smol::Rights::ALL)]);
    }

    #[test]
    fn a_list_that_is_empty_is_doubted_and_one_that_is_not_used_is_not() {
        let doubt = |toml: &str| toml::from_str::<Config>(toml).unwrap().access.doubt();
        assert!(doubt("[access]\nmode = 'listed'").unwrap().contains("nobody"));
        assert_eq!(doubt("[access]\nmode = 'open'"), None);
        assert_eq!(doubt("[access]\nmode = 'listed'\npeers = { office = 'all' }"), None);
        let hash = format!("sha256-{}", "0".repeat(64));
        assert_eq!(doubt(&format!("[access]\nmode = 'listed'\ntokens = {{ '{hash}' = 'all' }}")), None);
    }

    #[test]
    fn what_is_misspelt_is_named() {
        assert!(error("[access]\nmode = 'shut'").contains("expected `open` or `listed`"));
        assert!(error("[access.peers]\nOffice = 'all'").contains("neither a name nor an ID"));
        assert!(error("[access.tokens]\n'sha256-00' = 'all'").contains("hash"));
        assert!(error("[names]\noffice = 'x'").contains("not an ID"));
        assert!(error("[quotas]\nregistrations_total = '5/fortnight'").contains("not '5/fortnight'"));
        let nobody = error("[access]\nmode = 'listed'\npeers = { office = 'all' }");
        assert!(nobody.contains("access.peers.office"), "{nobody}");
    }

    #[test]
    fn a_quota_is_a_number_in_a_time() {
        let config: Config = toml::from_str("[quotas]\nrelayed_bytes_per_peer = '10G/day'").unwrap();
        let rate = config.quotas.meters().relayed_bytes.peer.unwrap();
        assert_eq!((rate.amount, rate.per.as_secs()), (10_000_000_000, 86_400));
    }
}
