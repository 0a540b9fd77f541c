//! What a router says of itself, and calls of its actions (UPnP Device Architecture 2.0, sections 2.3 and 3.1.1;
//! WANIPConnection:2).

use std::net::Ipv4Addr;

use roxmltree::{Document, Node, ParsingOptions};

use super::http::{Answer, Url};
use crate::drops::DropReason;

/// Elements and texts of one document: descriptions of whole routers have some hundreds.
const MAX_NODES: u32 = 4096;
/// Ways out that one router may offer, and are tried.
const MAX_SERVICES: usize = 4;

/// What kind of way out a service stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Ip1,
    Ip2,
    Ppp1,
}

const KINDS: [Kind; 3] = [Kind::Ip2, Kind::Ip1, Kind::Ppp1];

impl Kind {
    fn urn(self) -> &'static str {
        match self {
            Self::Ip1 => "urn:schemas-upnp-org:service:WANIPConnection:1",
            Self::Ip2 => "urn:schemas-upnp-org:service:WANIPConnection:2",
            Self::Ppp1 => "urn:schemas-upnp-org:service:WANPPPConnection:1",
        }
    }
}

/// A way out of the router's, and where its actions are called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Service {
    pub(super) kind: Kind,
    pub(super) control: Url,
}

/// The ways out that the description at `base` names.
pub(super) fn services(answer: &Answer, base: &Url) -> Result<Vec<Service>, DropReason> {
    if answer.status != 200 {
        return Err(DropReason::BadAnswer);
    }
    let text = text(answer)?;
    let document = parse(text)?;
    // Devices of the first version may say so (UPnP Device Architecture 1.0, section 2.1).
    let base = match child(document.root_element(), "URLBase") {
        Some(absolute) => Url::parse(absolute, *base.host.ip())?,
        None => base.clone(),
    };
    let mut found = Vec::new();
    for service in document.descendants().filter(|node| node.tag_name().name() == "service") {
        let (Some(kind), Some(control)) = (child(service, "serviceType"), child(service, "controlURL")) else {
            continue;
        };
        if let Some(kind) = KINDS.into_iter().find(|known| known.urn() == kind) {
            found.push(Service { kind, control: base.join(control)? });
        }
    }
    found.truncate(MAX_SERVICES);
    if found.is_empty() { Err(DropReason::BadAnswer) } else { Ok(found) }
}

/// A mapping's terms. `lease` in seconds; 0: until it is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Terms {
    pub(super) external: u16,
    pub(super) internal: u16,
    pub(super) client: Ipv4Addr,
    pub(super) lease: u32,
}

/// What a service is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    ExternalAddress,
    Add(Terms),
    /// At another port, if need be.
    AddAny(Terms),
    Delete {
        external: u16,
    },
}

impl Call {
    fn action(self) -> &'static str {
        match self {
            Self::ExternalAddress => "GetExternalIPAddress",
            Self::Add(_) => "AddPortMapping",
            Self::AddAny(_) => "AddAnyPortMapping",
            Self::Delete { .. } => "DeletePortMapping",
        }
    }

    /// The request: addresses, numbers and constants alone, so nothing has to be escaped.
    pub(super) fn request(self, service: &Service) -> Vec<u8> {
        let (urn, action, arguments) = (service.kind.urn(), self.action(), self.arguments());
        let body = format!(
            "<?xml version=\"1.0\"?>\r\n<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" \
             s:encodingStyle=\"http://schemas.xmlsoap.org/soap/encoding/\"><s:Body><u:{action} xmlns:u=\"{urn}\">\
             {arguments}</u:{action}></s:Body></s:Envelope>\r\n"
        );
        super::http::post(&service.control, &format!("{urn}#{action}"), &body)
    }

    fn arguments(self) -> String {
        let place = |external: u16| {
            format!(
                "<NewRemoteHost></NewRemoteHost><NewExternalPort>{external}</NewExternalPort>\
                 <NewProtocol>UDP</NewProtocol>"
            )
        };
        match self {
            Self::ExternalAddress => String::new(),
            Self::Delete { external } => place(external),
            Self::Add(terms) | Self::AddAny(terms) => {
                let (place, Terms { internal, client, lease, .. }) = (place(terms.external), terms);
                format!(
                    "{place}<NewInternalPort>{internal}</NewInternalPort><NewInternalClient>{client}</NewInternalClient>\
                     <NewEnabled>1</NewEnabled><NewPortMappingDescription>direc</NewPortMappingDescription>\
                     <NewLeaseDuration>{lease}</NewLeaseDuration>"
                )
            }
        }
    }
}

/// What came of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// To [`Call::ExternalAddress`]; none, if the router is not connected that way.
    Address(Option<Ipv4Addr>),
    /// To [`Call::Add`] and [`Call::AddAny`].
    Mapped {
        external: u16,
    },
    Deleted,
    /// An error by its number.
    Refused(u16),
}

impl Reply {
    pub(super) fn read(answer: &Answer, call: Call) -> Result<Self, DropReason> {
        let document = parse(text(answer)?)?;
        let said = |name: &str| {
            let node = document.descendants().find(|node| node.is_element() && node.tag_name().name() == name);
            node.map(|node| node.text().unwrap_or_default().trim())
        };
        if let Some(code) = said("errorCode") {
            return code.parse().map(Self::Refused).map_err(|_| DropReason::BadAnswer);
        }
        let confirmed = said(&format!("{}Response", call.action())).is_some();
        if answer.status != 200 || !confirmed {
            return Err(DropReason::BadAnswer);
        }
        match call {
            Call::ExternalAddress => Ok(Self::Address(said("NewExternalIPAddress").and_then(|text| text.parse().ok()))),
            Call::Add(terms) => Ok(Self::Mapped { external: terms.external }),
            Call::AddAny(_) => {
                let external = said("NewReservedPort").and_then(|text| text.parse().ok());
                external.map(|external| Self::Mapped { external }).ok_or(DropReason::BadAnswer)
            }
            Call::Delete { .. } => Ok(Self::Deleted),
        }
    }
}

fn text(answer: &Answer) -> Result<&str, DropReason> {
    let text = std::str::from_utf8(&answer.body).map_err(|_| DropReason::BadAnswer)?;
    // Some end what they say with a zero byte.
    Ok(text.trim_end_matches('\0'))
}

/// Without a DTD, and so without entities of its own that could grow.
fn parse(text: &str) -> Result<Document<'_>, DropReason> {
    let options = ParsingOptions { nodes_limit: MAX_NODES, ..ParsingOptions::default() };
    Document::parse_with_options(text, options).map_err(|_| DropReason::BadAnswer)
}

/// The text of the element's child of this name; of none that is empty.
fn child<'a>(node: Node<'a, '_>, name: &str) -> Option<&'a str> {
    let child = node.children().find(|child| child.is_element() && child.tag_name().name() == name)?;
    Some(child.text()?.trim()).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 1);

    fn answer(status: u16, body: &str) -> Answer {
        Answer { status, body: body.into() }
    }

    fn base() -> Url {
        Url::parse("http://192.168.1.1:5000/igd/root.xml", ROUTER).unwrap()
    }

    fn description(inner: &str) -> Answer {
        let text = format!("<?xml version=\"1.0\"?>\n<root xmlns=\"urn:schemas-upnp-org:device-1-0\">{inner}</root>\n");
        answer(200, &text)
    }

    fn service(urn: &str, control: &str) -> String {
        format!(
            "<device><serviceList><service><serviceType>{urn}</serviceType><controlURL>{control}</controlURL></service></serviceList></device>"
        )
    }

    #[test]
    fn a_description_names_the_ways_out_and_where_they_are_controlled() {
        let text = [
            service("urn:schemas-upnp-org:service:Layer3Forwarding:1", "/l3f"),
            service(Kind::Ip2.urn(), "ctl/IP"),
            service(Kind::Ppp1.urn(), "http://192.168.1.1:99/ppp"),
        ]
        .concat();
        let found = services(&description(&text), &base()).unwrap();
        let shown: Vec<_> = found
            .iter()
            .map(|service| format!("{:?} {}{}", service.kind, service.control.host, service.control))
            .collect();
        assert_eq!(shown, ["Ip2 192.168.1.1:5000/igd/ctl/IP", "Ppp1 192.168.1.1:99/ppp"]);
        let based = format!("<URLBase>http://192.168.1.1:80/</URLBase>{}", service(Kind::Ip1.urn(), "c"));
        assert_eq!(services(&description(&based), &base()).unwrap()[0].control.host.port(), 80);
    }

    #[test]
    fn a_description_that_points_elsewhere_is_dropped_whole() {
        for text in [
            service(Kind::Ip1.urn(), "http://127.0.0.1:631/admin"),
            format!("<URLBase>http://10.0.0.7/</URLBase>{}", service(Kind::Ip1.urn(), "/c")),
        ] {
            assert_eq!(services(&description(&text), &base()), Err(DropReason::BadLocation));
        }
    }

    #[test]
    fn hostile_documents_are_dropped_before_they_grow() {
        let laughs = "<!DOCTYPE r [<!ENTITY a \"ha\"><!ENTITY b \"&a;&a;&a;\">]><r>&b;</r>";
        let many = format!("<r>{}</r>", "<a/>".repeat(10_000));
        let deep = format!("{}{}", "<a>".repeat(10_000), "</a>".repeat(10_000));
        let external = "<!DOCTYPE r SYSTEM \"file:///etc/passwd\"><r/>";
        let none = description(&service("urn:schemas-upnp-org:service:Printer:1", "/c"));
        for text in [laughs, &many, &deep, external, "", "<r>", "not xml"] {
            assert_eq!(services(&answer(200, text), &base()), Err(DropReason::BadAnswer));
            assert_eq!(Reply::read(&answer(200, text), Call::ExternalAddress), Err(DropReason::BadAnswer));
        }
        assert_eq!(services(&none, &base()), Err(DropReason::BadAnswer));
        let latin = Answer { status: 200, body: vec![b'<', 0xe9, b'/', b'>'] };
        assert_eq!(services(&latin, &base()), Err(DropReason::BadAnswer));
        assert_eq!(services(&answer(404, "<r/>"), &base()), Err(DropReason::BadAnswer));
    }

    #[test]
    fn a_call_has_its_arguments_in_the_order_of_the_standard() {
        let service = Service { kind: Kind::Ip1, control: base() };
        let terms = Terms { external: 41_234, internal: 5000, client: Ipv4Addr::new(192, 168, 1, 10), lease: 3600 };
        let text = String::from_utf8(Call::Add(terms).request(&service)).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("POST /igd/root.xml HTTP/1.1\r\nHost: 192.168.1.1:5000\r\n"), "{head}");
        assert!(head.contains("SOAPAction: \"urn:schemas-upnp-org:service:WANIPConnection:1#AddPortMapping\"\r\n"));
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())));
        let document = Document::parse(body).unwrap();
        let action = document.descendants().find(|node| node.tag_name().name() == "AddPortMapping").unwrap();
        let said: Vec<_> = action.children().map(|node| (node.tag_name().name(), node.text().unwrap_or(""))).collect();
        assert_eq!(
            said,
            [
                ("NewRemoteHost", ""),
                ("NewExternalPort", "41234"),
                ("NewProtocol", "UDP"),
                ("NewInternalPort", "5000"),
                ("NewInternalClient", "192.168.1.10"),
                ("NewEnabled", "1"),
                ("NewPortMappingDescription", "direc"),
                ("NewLeaseDuration", "3600")
            ]
        );
    }

    fn envelope(inner: &str) -> String {
        format!(
            "<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\"><s:Body>{inner}</s:Body></s:Envelope>"
        )
    }

    #[test]
    fn replies_say_what_was_done_or_why_not() {
        let read = |status, inner: &str, call| Reply::read(&answer(status, &envelope(inner)), call);
        let terms = Terms { external: 7, internal: 7, client: ROUTER, lease: 0 };
        let address = |text: &str| {
            let inner = format!(
                "<u:GetExternalIPAddressResponse xmlns:u=\"x\"><NewExternalIPAddress>{text}</NewExternalIPAddress></u:GetExternalIPAddressResponse>"
            );
            read(200, &inner, Call::ExternalAddress)
        };
        assert_eq!(address("198.51.100.2"), Ok(Reply::Address(Some(Ipv4Addr::new(198, 51, 100, 2)))));
        assert_eq!(address(""), Ok(Reply::Address(None)));
        assert_eq!(read(200, "<AddPortMappingResponse/>", Call::Add(terms)), Ok(Reply::Mapped { external: 7 }));
        let any = "<AddAnyPortMappingResponse><NewReservedPort>9</NewReservedPort></AddAnyPortMappingResponse>";
        assert_eq!(read(200, any, Call::AddAny(terms)), Ok(Reply::Mapped { external: 9 }));
        let fault = "<s:Fault><detail><UPnPError><errorCode>725</errorCode></UPnPError></detail></s:Fault>";
        assert_eq!(read(500, fault, Call::Add(terms)), Ok(Reply::Refused(725)));
        assert_eq!(read(200, "<DeletePortMappingResponse/>", Call::Delete { external: 7 }), Ok(Reply::Deleted));
        for (status, inner) in [(200, "<AddPortMappingResponse/>"), (500, ""), (500, "<errorCode>99999</errorCode>")] {
            assert_eq!(read(status, inner, Call::AddAny(terms)), Err(DropReason::BadAnswer), "{inner}");
        }
    }
}
