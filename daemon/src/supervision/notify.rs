//! The socket of the service manager.
//!
//! Owns the socket, which is opened once: a process that has no file descriptors left would otherwise feed its watchdog
//! no more, and be killed for what ends by itself. The messages are those of `sd_notify(3)`.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use sd_notify::NotifyState;

/// Who is told.
#[derive(Debug)]
pub(super) struct Manager {
    address: OsString,
    socket: Option<UnixDatagram>,
}

impl Manager {
    /// The one with this address, as `NOTIFY_SOCKET` has it. Where it cannot be reached yet, it is tried again with
    /// each message.
    pub(super) fn at(address: OsString) -> Manager {
        let socket = connected(&address).ok();
        Manager { address, socket }
    }

    /// Tells it.
    ///
    /// # Errors
    /// Where it cannot be reached.
    pub(super) fn tell(&mut self, states: &[NotifyState<'_>]) -> io::Result<()> {
        let mut message = String::new();
        for state in states {
            writeln!(message, "{state}").expect("a string takes everything");
        }
        // One that began anew listens on another socket at the same address.
        if let Some(socket) = &self.socket
            && socket.send(message.as_bytes()).is_ok()
        {
            return Ok(());
        }
        let socket = connected(&self.address)?;
        let sent = socket.send(message.as_bytes());
        self.socket = Some(socket);
        sent.map(drop)
    }
}

/// A path, or after an `@` a name that is no file (`unix(7)`, abstract).
fn connected(address: &OsStr) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    match address.as_bytes() {
        [b'@', name @ ..] => socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?,
        _ => socket.connect(address)?,
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut message = [0; 64];
        let length = socket.recv(&mut message).expect("it was told");
        String::from_utf8_lossy(&message[..length]).into_owned()
    }

    #[test]
    fn it_is_told_by_one_socket_also_after_it_began_anew() {
        let dir = tempfile::tempdir().expect("there is room for a directory");
        let path = dir.path().join("notify");
        let mut manager = Manager::at(path.clone().into());
        assert!(
            manager.tell(&[NotifyState::Ready]).is_err(),
            "nobody listens"
        );
        for _ in 0..2 {
            let listens = UnixDatagram::bind(&path).expect("it can be bound");
            manager.tell(&[NotifyState::Ready]).expect("it is told");
            assert_eq!(heard(&listens), "READY=1\n");
            let state = [NotifyState::Watchdog, NotifyState::Status("well")];
            manager.tell(&state).expect("it is told");
            assert_eq!(heard(&listens), "WATCHDOG=1\nSTATUS=well\n");
            drop(listens);
            std::fs::remove_file(&path).expect("it is there");
        }
    }

    #[test]
    fn a_name_that_is_no_file_is_reached() {
        let name = format!("tenured-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("it is a name");
        let listens = UnixDatagram::bind_addr(&address).expect("it can be bound");
        let mut manager = Manager::at(format!("@{name}").into());
        manager.tell(&[NotifyState::Stopping]).expect("it is told");
        assert_eq!(heard(&listens), "STOPPING=1\n");
    }
}
