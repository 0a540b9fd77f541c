//! Search for a router by SSDP (UPnP Device Architecture 2.0, section 1.3).

use std::net::{Ipv4Addr, SocketAddr};

use super::http::Url;
use crate::drops::DropReason;

/// Where devices listen, together and each by itself.
const GROUP: Ipv4Addr = Ipv4Addr::new(239, 255, 255, 250);
const PORT: u16 = 1900;
/// What is searched for. A device of the second version answers to the first as well, but not each does.
const TARGETS: [&str; 2] =
    ["urn:schemas-upnp-org:device:InternetGatewayDevice:1", "urn:schemas-upnp-org:device:InternetGatewayDevice:2"];
const MAX_HEADERS: usize = 32;

/// All datagrams of a search: to the group, and to the router alone, since the firewall of this machine may let in only
/// what comes from where it went to.
pub(super) fn search(router: Ipv4Addr) -> impl Iterator<Item = (SocketAddr, Vec<u8>)> {
    [GROUP, router].into_iter().flat_map(|host| {
        let to = SocketAddr::from((host, PORT));
        TARGETS.map(|target| {
            let text =
                format!("M-SEARCH * HTTP/1.1\r\nHOST: {to}\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\nST: {target}\r\n\r\n");
            (to, text.into_bytes())
        })
    })
}

/// Where the router that answered so describes itself.
pub(super) fn location(bytes: &[u8], router: Ipv4Addr) -> Result<Url, DropReason> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Response::new(&mut headers);
    // Some leave the last empty line out; what they have said by then counts.
    parsed.parse(bytes).map_err(|_| DropReason::UnknownType)?;
    let value = |name: &str| {
        let header = parsed.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        header.and_then(|header| std::str::from_utf8(header.value).ok())
    };
    match (parsed.code, value("ST")) {
        (Some(200), Some(target)) if TARGETS.contains(&target.trim()) => {}
        _ => return Err(DropReason::UnknownType),
    }
    Url::parse(value("LOCATION").ok_or(DropReason::BadAnswer)?, router)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 1);

    fn answer(target: &str, location: &str) -> Vec<u8> {
        format!("HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=120\r\nST: {target}\r\nEXT:\r\nLocation: {location}\r\n\r\n")
            .into_bytes()
    }

    #[test]
    fn a_router_is_searched_for_in_the_group_and_by_itself() {
        let sent: Vec<_> = search(ROUTER).collect();
        let to: Vec<_> = sent.iter().map(|(to, _)| to.to_string()).collect();
        assert_eq!(to, ["239.255.255.250:1900", "239.255.255.250:1900", "192.168.1.1:1900", "192.168.1.1:1900"]);
        let text = String::from_utf8(sent[0].1.clone()).unwrap();
        assert_eq!(
            text,
            "M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\n\
             ST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n\r\n"
        );
    }

    #[test]
    fn an_answer_names_a_place_on_the_router_and_no_other() {
        let url = location(&answer(TARGETS[1], "http://192.168.1.1:5000/d.xml"), ROUTER).unwrap();
        assert_eq!(url.host.port(), 5000);
        let elsewhere = answer(TARGETS[0], "http://127.0.0.1:5000/d.xml");
        assert_eq!(location(&elsewhere, ROUTER), Err(DropReason::BadLocation));
        let other = answer("urn:schemas-upnp-org:device:MediaServer:1", "http://192.168.1.1:5000/d.xml");
        assert_eq!(location(&other, ROUTER), Err(DropReason::UnknownType));
        assert_eq!(location(b"NOTIFY * HTTP/1.1\r\n\r\n", ROUTER), Err(DropReason::UnknownType));
        assert_eq!(location(b"HTTP/1.1 404 Not Found\r\n\r\n", ROUTER), Err(DropReason::UnknownType));
        let nowhere = format!("HTTP/1.1 200 OK\r\nST: {}\r\n\r\n", TARGETS[0]);
        assert_eq!(location(nowhere.as_bytes(), ROUTER), Err(DropReason::BadAnswer));
    }
}
