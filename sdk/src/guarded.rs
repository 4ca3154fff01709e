//! What a write can be guarded by.

use crate::hold::Hold;

/// Something whose fence a write can be guarded by: a [`Lock`](crate::Lock),
/// [`Permits`](crate::Permits) or a [`Leadership`](crate::Leadership).
#[expect(private_bounds, reason = "only this crate knows what has a fence")]
pub trait Fenced: Sealed {}

pub(crate) trait Sealed {
    fn hold(&self) -> &Hold;
}
