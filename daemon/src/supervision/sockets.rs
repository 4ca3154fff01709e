//! Listeners that the service manager has bound before this process was started (`sd_listen_fds(3)`).
//!
//! Owns the match between them and the settings, by address: the settings say where a member listens, and a socket that
//! is given for another address is a mistake to be told, not a listener to be served silently.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpListener};

use listenfd::ListenFd;

/// Listeners that nobody has taken yet.
#[derive(Debug, Default)]
pub struct Inherited(VecDeque<(SocketAddr, TcpListener)>);

/// What the service manager gave cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// It is no TCP listener.
    #[error(
        "the service manager hands over a socket that cannot be listened on, number {number}: {source}"
    )]
    Unusable {
        /// Which of them, from 0.
        number: usize,
        /// Why.
        source: io::Error,
    },
    /// No setting names its address.
    #[error(
        "the service manager listens on {given}, and neither client_listen ({clients}) nor peer_listen ({peers}) is that address: make ListenStream= of the socket unit and the setting the same"
    )]
    Unknown {
        /// Where it listens.
        given: SocketAddr,
        /// Where clients are to be served.
        clients: SocketAddr,
        /// Where members are to be served.
        peers: SocketAddr,
    },
}

impl Inherited {
    /// What this process was started with. To be called once, before any thread is there.
    ///
    /// # Errors
    /// Where one of them is no TCP listener.
    pub fn of_this_process() -> Result<Inherited, SocketError> {
        let mut given = ListenFd::from_env();
        let mut listeners = VecDeque::new();
        for number in 0..given.len() {
            let unusable = |source| SocketError::Unusable { number, source };
            if let Some(listener) = given.take_tcp_listener(number).map_err(unusable)? {
                listener.set_nonblocking(true).map_err(unusable)?;
                let address = listener.local_addr().map_err(unusable)?;
                listeners.push_back((address, listener));
            }
        }
        Ok(Inherited(listeners))
    }

    /// The listeners for clients and for members, where they are among them.
    ///
    /// # Errors
    /// Where one is left that is neither.
    pub fn split(
        mut self,
        clients: SocketAddr,
        peers: SocketAddr,
    ) -> Result<(Option<TcpListener>, Option<TcpListener>), SocketError> {
        let split = (self.take(clients), self.take(peers));
        match self.0.pop_front() {
            None => Ok(split),
            Some((given, _)) => Err(SocketError::Unknown {
                given,
                clients,
                peers,
            }),
        }
    }

    fn take(&mut self, address: SocketAddr) -> Option<TcpListener> {
        let place = self.0.iter().position(|(given, _)| *given == address)?;
        self.0.remove(place).map(|(_, listener)| listener)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener() -> (SocketAddr, TcpListener) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
        (listener.local_addr().expect("it is bound"), listener)
    }

    #[test]
    fn each_listener_goes_to_the_setting_of_its_address_in_whatever_order_they_come() {
        let (peers, clients) = (listener(), listener());
        let (of_peers, of_clients) = (peers.0, clients.0);
        let inherited = Inherited(VecDeque::from([peers, clients]));
        let (clients, peers) = inherited
            .split(of_clients, of_peers)
            .expect("both are known");
        let address = |listener: Option<TcpListener>| {
            listener.map(|listener| listener.local_addr().expect("it is bound"))
        };
        assert_eq!(address(clients), Some(of_clients));
        assert_eq!(address(peers), Some(of_peers));
    }

    #[test]
    fn what_is_not_given_is_left_to_be_bound() {
        let (clients, peers) = (listener(), listener().0);
        let of_clients = clients.0;
        let (clients, peers) = Inherited(VecDeque::from([clients]))
            .split(of_clients, peers)
            .expect("it is known");
        assert!(clients.is_some() && peers.is_none());
    }

    #[test]
    fn a_listener_for_neither_is_refused_with_all_three_addresses() {
        let (given, clients, peers) = (listener(), listener().0, listener().0);
        let address = given.0;
        let error = Inherited(VecDeque::from([given]))
            .split(clients, peers)
            .expect_err("nobody wants it");
        let text = error.to_string();
        for named in [address, clients, peers] {
            assert!(text.contains(&named.to_string()), "{text}");
        }
    }
}
