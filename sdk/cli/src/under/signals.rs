//! The signals that are meant for the command and reach this program instead.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use rustix::process::Signal;
use tokio::signal::unix::{self, SignalKind};

/// What is passed on. A stop (Ctrl-Z) is answered by stopping both; whatever else there is keeps its usual effect on this program.
const PASSED_ON: [(Signal, SignalKind); 6] = [
    (Signal::TERM, SignalKind::terminate()),
    (Signal::INT, SignalKind::interrupt()),
    (Signal::HUP, SignalKind::hangup()),
    (Signal::QUIT, SignalKind::quit()),
    (Signal::USR1, SignalKind::user_defined1()),
    (Signal::USR2, SignalKind::user_defined2()),
];

pub(super) struct Signals(Vec<(Signal, unix::Signal)>);

impl Signals {
    /// From now on these signals do not end this program. One that it was started to ignore, as by `nohup`, is ignored by it
    /// and by the command.
    pub(super) fn listen() -> io::Result<Signals> {
        let ignored = ignored();
        let stop = SignalKind::from_raw(Signal::TSTP.as_raw());
        let kinds = PASSED_ON.into_iter().chain([(Signal::TSTP, stop)]);
        let kinds = kinds.filter(|(signal, _)| ignored & (1 << (signal.as_raw() - 1)) == 0);
        let streams = kinds.map(|(signal, kind)| Ok((signal, unix::signal(kind)?)));
        streams.collect::<io::Result<_>>().map(Signals)
    }

    /// The next that arrives. Dropping the future loses none.
    pub(super) async fn next(&mut self) -> Signal {
        poll_fn(|context| {
            let arrived = |(signal, stream): &mut (Signal, unix::Signal)| {
                matches!(stream.poll_recv(context), Poll::Ready(Some(()))).then_some(*signal)
            };
            match self.0.iter_mut().find_map(arrived) {
                Some(signal) => Poll::Ready(signal),
                None => Poll::Pending,
            }
        })
        .await
    }
}

/// The signals that this process ignores, one bit each; none where the system does not say.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.unwrap_or_default()
}
