//! From an order to a certificate (RFC 8555, section 7.4): each host is authorized, then the key is certified.

use data_encoding::BASE64URL_NOPAD as BASE64;
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use serde::Deserialize;
use serde_json::json;

use super::{
    challenge::Challenges,
    error::{AcmeError, Problem},
    session::Session,
};

/// How far an order, an authorization or a challenge is (RFC 8555, section 7.1.6).
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Status {
    Pending,
    Ready,
    Processing,
    Valid,
    Invalid,
    #[serde(other)]
    Over,
}

#[derive(Deserialize)]
struct Order {
    status: Status,
    authorizations: Vec<String>,
    finalize: String,
    certificate: Option<String>,
    error: Option<Problem>,
}

#[derive(Deserialize)]
struct Authorization {
    status: Status,
    identifier: Identifier,
    challenges: Vec<Challenge>,
}

#[derive(Deserialize)]
struct Identifier {
    value: String,
}

#[derive(Deserialize)]
struct Challenge {
    #[serde(rename = "type")]
    kind: String,
    url: String,
    #[serde(default)]
    token: String,
    error: Option<Problem>,
}

/// The certificate for these hosts and this key, in PEM, with those that vouch for it behind it.
pub(super) async fn certificate(
    session: &mut Session,
    hosts: &[String],
    key: &PrivateKeyDer<'_>,
    challenges: &Challenges,
) -> Result<String, AcmeError> {
    let request = signing_request(hosts, key)?;
    let (url, order) = session.order::<Order>(hosts).await?;
    for authorization in &order.authorizations {
        authorize(session, authorization, hosts, challenges).await?;
    }
    let settled = |order: &Order| !matches!(order.status, Status::Pending | Status::Processing);
    let order = session.settled("order", &url, settled).await?;
    let certified = certified(session, &url, order, request).await;
    certified.map_err(|error| AcmeError::Late(Box::new(error)))
}

/// The certificate of an order that lacks nothing but the signing request.
async fn certified(session: &mut Session, url: &str, mut order: Order, request: String) -> Result<String, AcmeError> {
    if order.status == Status::Ready {
        session.post("signing request", &order.finalize, Some(&json!({ "csr": request }))).await?;
        let settled = |order: &Order| !matches!(order.status, Status::Ready | Status::Processing);
        order = session.settled("order", url, settled).await?;
    }
    let Some(certificate) = order.certificate.filter(|_| order.status == Status::Valid) else {
        return Err(AcmeError::Order(order.error.unwrap_or_default()));
    };
    let reply = session.look("certificate", &certificate).await?;
    String::from_utf8(reply.body).map_err(|_| AcmeError::foreign("certificate", "it is no text"))
}

/// What the key is to be certified for, signed by itself (RFC 2986).
fn signing_request(hosts: &[String], key: &PrivateKeyDer<'_>) -> Result<String, AcmeError> {
    let failed = |error: rcgen::Error| AcmeError::Make(error.to_string());
    let pair = KeyPair::try_from(key).map_err(failed)?;
    let mut params = CertificateParams::new(hosts.to_vec()).map_err(failed)?;
    params.distinguished_name = DistinguishedName::new();
    Ok(BASE64.encode(params.serialize_request(&pair).map_err(failed)?.der()))
}

/// Shows the authority that a host is this relay, unless it knows that already.
async fn authorize(
    session: &mut Session,
    url: &str,
    hosts: &[String],
    challenges: &Challenges,
) -> Result<(), AcmeError> {
    const KIND: &str = "tls-alpn-01";
    let offered: Authorization = session.get("authorization", url).await?;
    if offered.status == Status::Valid {
        return Ok(());
    }
    let host = offered.identifier.value;
    if !hosts.contains(&host) {
        return Err(AcmeError::foreign("authorization", "it is for a host that was not asked for"));
    }
    let Some(challenge) = offered.challenges.iter().find(|challenge| challenge.kind == KIND) else {
        let kinds = offered.challenges.into_iter().map(|challenge| challenge.kind).collect();
        return Err(AcmeError::Challenge { host, kinds });
    };
    let _answered = challenges.answer(&host, &session.key.authorization(&challenge.token))?;
    session.post("challenge", &challenge.url, Some(&json!({}))).await?;
    let settled = |state: &Authorization| state.status != Status::Pending;
    let state = session.settled("authorization", url, settled).await?;
    if state.status == Status::Valid {
        return Ok(());
    }
    let problem = state.challenges.into_iter().find_map(|challenge| challenge.error).unwrap_or_default();
    Err(AcmeError::Host { host, problem })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_read_with_what_is_unknown_and_without_what_is_not_there_yet() {
        let order = |status: &str| {
            let text =
                json!({"status": status, "authorizations": [], "finalize": "", "expires": "2026-01-01T00:00:00Z"});
            serde_json::from_value::<Order>(text).unwrap().status
        };
        assert_eq!(order("ready"), Status::Ready);
        assert_eq!(order("deactivated"), Status::Over);
    }

    #[test]
    fn a_signing_request_names_the_hosts_and_is_by_the_key() {
        let pair = KeyPair::generate().unwrap();
        let key = PrivateKeyDer::try_from(pair.serialize_der()).unwrap();
        let hosts = ["a.example".to_owned(), "b.example".to_owned()];
        let request = BASE64.decode(signing_request(&hosts, &key).unwrap().as_bytes()).unwrap();
        let holds = |part: &[u8]| request.windows(part.len()).any(|window| window == part);
        assert!(holds(b"a.example") && holds(b"b.example") && holds(pair.public_key_raw()));
    }
}
