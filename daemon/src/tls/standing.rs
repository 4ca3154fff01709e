//! Connections whose other side has shown a certificate, for as long as they stand.
//!
//! Owns cutting those whose certificate does not hold any more when other authorities or another list of revoked ones are
//! taken: one that was looked at once, when the connection was made, would count for as long as somebody keeps that open.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use rustls::pki_types::{CertificateDer, ServerName};
use tokio_util::sync::CancellationToken;

/// So many are kept before it is looked which of them are gone.
const FEW: usize = 64;

/// What the other side of a connection has shown. The connection keeps it.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) chain: Vec<CertificateDer<'static>>,
    /// By which name it was dialled; none where it has dialled.
    pub(super) dialled: Option<ServerName<'static>>,
    /// Cancelled when the certificate does not hold any more.
    pub(super) cut: CancellationToken,
}

impl Shown {
    /// None where there was no certificate.
    pub(super) fn of(
        chain: Option<&[CertificateDer<'static>]>,
        dialled: Option<ServerName<'static>>,
    ) -> Option<Arc<Shown>> {
        let chain = chain.filter(|chain| !chain.is_empty())?;
        Some(Arc::new(Shown {
            chain: chain.to_vec(),
            dialled,
            cut: CancellationToken::new(),
        }))
    }
}

/// All that stand at a port.
#[derive(Default)]
pub(super) struct Standing(Mutex<Vec<Weak<Shown>>>);

impl Standing {
    pub(super) fn add(&self, shown: &Arc<Shown>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() == all.capacity() && FEW <= all.len() {
            all.retain(|shown| 0 < shown.strong_count());
        }
        all.push(Arc::downgrade(shown));
    }

    /// Cuts those that do not hold, and says how many, and why the last of them.
    pub(super) fn cut_unless(
        &self,
        holds: impl Fn(&Shown) -> Result<(), rustls::Error>,
    ) -> Option<(usize, rustls::Error)> {
        let all: Vec<_> = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            all.retain(|shown| 0 < shown.strong_count());
            all.iter().filter_map(Weak::upgrade).collect()
        };
        let mut cut = None;
        for shown in all {
            if let Err(why) = holds(&shown) {
                shown.cut.cancel();
                let before = cut.map_or(0, |(count, _)| count);
                cut = Some((before + 1, why));
            }
        }
        cut
    }
}
