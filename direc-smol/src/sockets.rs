//! A node's sockets: the main one first, and a peer's spare ones for as long as its rounds of punching need them.

use std::{net::SocketAddr, sync::Arc};

use direc_core::Link;

use crate::{BindError, socket::Socket};

/// Shared by whoever sends; who changes the set makes another one.
#[derive(Clone)]
pub(crate) struct Sockets(Arc<[Arc<Socket>]>);

impl Sockets {
    pub(crate) fn new(sockets: Vec<Socket>) -> Self {
        Self(sockets.into_iter().map(Arc::new).collect())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Socket> {
        self.0.iter().map(Arc::as_ref)
    }

    /// The one that everything begins on.
    pub(crate) fn first(&self) -> Option<&Socket> {
        self.iter().next()
    }

    pub(crate) fn get(&self, link: Link) -> Option<&Socket> {
        self.iter().find(|socket| socket.link == link)
    }

    /// Puts another socket in the first one's place.
    pub(crate) fn replace_first(&mut self, socket: Socket) {
        self.0 = std::iter::once(Arc::new(socket)).chain(self.0.iter().skip(1).cloned()).collect();
    }

    /// Opens a spare socket, beside the first one and like it, on any port.
    pub(crate) fn open(&mut self, link: Link) -> Result<(), BindError> {
        let Some(like) = self.first().map(Socket::local_addr) else { return Ok(()) };
        let socket = Socket::bind(link, SocketAddr::new(like.ip(), 0))?;
        self.0 = self.0.iter().cloned().chain([Arc::new(socket)]).collect();
        Ok(())
    }

    /// Closes sockets, as soon as nobody is sending from them.
    pub(crate) fn close(&mut self, links: &[Link]) {
        self.0 = self.0.iter().filter(|socket| !links.contains(&socket.link)).cloned().collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spare_sockets_come_and_go_beside_the_first() {
        let mut sockets = Sockets::new(vec![Socket::bind(Link::Main, "127.0.0.1:0".parse().unwrap()).unwrap()]);
        let shared = sockets.clone();
        for number in 0..3 {
            sockets.open(Link::Spare(number)).unwrap();
        }
        let ports: std::collections::BTreeSet<u16> = sockets.iter().map(|socket| socket.local_addr().port()).collect();
        assert_eq!(ports.len(), 4);
        assert!(sockets.iter().all(|socket| socket.local_addr().ip().is_loopback()));
        sockets.close(&[Link::Spare(0), Link::Spare(2)]);
        assert!(sockets.get(Link::Spare(1)).is_some() && sockets.get(Link::Spare(2)).is_none());
        assert_eq!(shared.iter().count(), 1);
        sockets.replace_first(Socket::bind(Link::Main, "127.0.0.1:0".parse().unwrap()).unwrap());
        assert_eq!(sockets.first().unwrap().link, Link::Main);
        assert!(sockets.get(Link::Spare(1)).is_some());
    }
}
