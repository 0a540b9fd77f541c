//! An account at an authority: its requests are signed, and each has a number that is good once.

use std::{sync::Arc, time::Duration};

use async_io::Timer;
use rustls::ClientConfig;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{
    account::AccountKey,
    error::{AcmeError, Problem},
    web::{Ask, Reply, ask},
};

/// Requests with a number that the authority did not like are repeated with another (RFC 8555, section 6.5).
const TRIES: u32 = 5;
/// What can be read again is tried so often, if the authority does not answer.
const LOOKS: u32 = 3;
/// Before something is looked at again, unless the authority says how long; doubled up to the last.
const FIRST_LOOK: Duration = Duration::from_secs(1);
const LAST_LOOK: Duration = Duration::from_secs(30);

/// Where an authority takes what (RFC 8555, section 7.1.1).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Directory {
    new_nonce: String,
    new_account: String,
    new_order: String,
    #[serde(default)]
    meta: Meta,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Meta {
    external_account_required: bool,
}

/// The account, as the authority knows it.
pub(super) struct Session {
    tls: Arc<ClientConfig>,
    directory: Directory,
    pub(super) key: AccountKey,
    /// Its URL, once it has one.
    account: Option<String>,
    nonce: Option<String>,
}

impl Session {
    /// With the account that has this key; it is made if there is none (RFC 8555, section 7.3).
    pub(super) async fn open(
        tls: Arc<ClientConfig>,
        directory: &str,
        key: AccountKey,
        contact: &[String],
    ) -> Result<Self, AcmeError> {
        let reply = ask(&tls, directory, Ask::Get).await.map_err(AcmeError::Reach)?;
        let directory: Directory = read("directory", &checked("directory", reply)?)?;
        if directory.meta.external_account_required {
            return Err(AcmeError::ExternalAccount);
        }
        let url = directory.new_account.clone();
        let mut session = Self { tls, directory, key, account: None, nonce: None };
        let wish = json!({"termsOfServiceAgreed": true, "contact": contact});
        let reply = session.post("account", &url, Some(&wish)).await?;
        session.account = Some(reply.location.ok_or(AcmeError::foreign("account", "it has no URL"))?);
        Ok(session)
    }

    /// Orders a certificate for these hosts; gives the order's URL, and what it says.
    pub(super) async fn order<T: DeserializeOwned>(&mut self, hosts: &[String]) -> Result<(String, T), AcmeError> {
        let identifiers: Vec<_> = hosts.iter().map(|host| json!({"type": "dns", "value": host})).collect();
        let url = self.directory.new_order.clone();
        let reply = self.post("order", &url, Some(&json!({ "identifiers": identifiers }))).await?;
        let order = read("order", &reply)?;
        Ok((reply.location.ok_or(AcmeError::foreign("order", "it has no URL"))?, order))
    }

    /// Sends this to there; nothing, to read what is there. `what` is for people.
    pub(super) async fn post(
        &mut self,
        what: &'static str,
        url: &str,
        payload: Option<&Value>,
    ) -> Result<Reply, AcmeError> {
        let payload = payload.map(Value::to_string).unwrap_or_default();
        let mut tries = 1;
        loop {
            let nonce = self.nonce().await?;
            let request = self.key.sign(self.account.as_deref(), &nonce, url, &payload)?;
            let mut reply = ask(&self.tls, url, Ask::Post(&request)).await.map_err(AcmeError::Reach)?;
            self.nonce = reply.nonce.take();
            match checked(what, reply) {
                Err(AcmeError::Refused { problem, .. }) if problem.is("badNonce") && tries < TRIES => tries += 1,
                checked => return checked,
            }
        }
    }

    /// What is at this URL. A connection that breaks is no reason to begin an order anew.
    pub(super) async fn look(&mut self, what: &'static str, url: &str) -> Result<Reply, AcmeError> {
        for _ in 1..LOOKS {
            match self.post(what, url, None).await {
                Err(AcmeError::Reach(_)) => Timer::after(FIRST_LOOK).await,
                looked => return looked,
            };
        }
        self.post(what, url, None).await
    }

    /// The same, understood.
    pub(super) async fn get<T: DeserializeOwned>(&mut self, what: &'static str, url: &str) -> Result<T, AcmeError> {
        read(what, &self.look(what, url).await?)
    }

    /// What is at this URL, as soon as that is `done`.
    pub(super) async fn settled<T: DeserializeOwned>(
        &mut self,
        what: &'static str,
        url: &str,
        done: impl Fn(&T) -> bool,
    ) -> Result<T, AcmeError> {
        let mut pause = FIRST_LOOK;
        loop {
            let reply = self.look(what, url).await?;
            let found = read(what, &reply)?;
            if done(&found) {
                return Ok(found);
            }
            Timer::after(reply.wait.unwrap_or(pause).clamp(FIRST_LOOK, LAST_LOOK)).await;
            pause = (pause * 2).min(LAST_LOOK);
        }
    }

    /// A number that is good once: the last answer's, or else a new one.
    async fn nonce(&mut self) -> Result<String, AcmeError> {
        if let Some(nonce) = self.nonce.take() {
            return Ok(nonce);
        }
        let reply = ask(&self.tls, &self.directory.new_nonce, Ask::Head).await.map_err(AcmeError::Reach)?;
        checked("nonce", reply)?.nonce.ok_or(AcmeError::foreign("nonce", "there is none"))
    }
}

/// The answer, unless it is a refusal.
fn checked(what: &'static str, reply: Reply) -> Result<Reply, AcmeError> {
    match reply.status {
        200..300 => Ok(reply),
        status => {
            // Not every refusal is the authority's own: what stands in front of it speaks for itself.
            let problem = serde_json::from_slice(&reply.body).unwrap_or_else(|_| Problem::default());
            Err(AcmeError::Refused { what, status, problem, wait: reply.wait })
        }
    }
}

fn read<T: DeserializeOwned>(what: &'static str, reply: &Reply) -> Result<T, AcmeError> {
    serde_json::from_slice(&reply.body).map_err(|error| AcmeError::foreign(what, &error.to_string()))
}
