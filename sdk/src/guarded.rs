//! What a write can be guarded by.

use crate::hold::{Hold, Part};
use crate::name;

/// Something whose fence a write can be guarded by: a [`Lock`](crate::Lock), one of a [`MultiLock`](crate::MultiLock),
/// [`Permits`](crate::Permits) or a [`Leadership`](crate::Leadership).
///
/// ```
/// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
/// use tenure::{Client, Error, Fenced};
///
/// /// Written only by who holds what is given.
/// async fn report(client: &Client, held: &impl Fenced, text: &str) -> Result<(), Error> {
///     client.put("jobs/nightly/report", text.to_owned()).guard(held).await?;
///     Ok(())
/// }
///
/// let lock = client.lock("jobs/nightly").acquire().await?;
/// report(&client, &lock, "begun").await?;
/// client.break_lock("jobs/nightly", lock.fence(), "an example").now().await?;
/// assert!(report(&client, &lock, "done").await.is_err());
/// # Ok(()) });
/// ```
#[expect(private_bounds, reason = "only this crate knows what has a fence")]
pub trait Fenced: Sealed {}

pub(crate) trait Sealed {
    fn fencing(&self) -> Fencing<'_>;
}

/// A fence, and what is believed of it.
#[derive(Clone, Copy)]
pub(crate) struct Fencing<'a> {
    pub(crate) hold: &'a Hold,
    pub(crate) part: &'a Part,
}

impl Fencing<'_> {
    /// What may be believed of it.
    pub(crate) fn state(self) -> crate::State {
        match self.part.is_given_up() {
            true => crate::State::Lost(crate::Loss::GivenUp),
            false => self.hold.belief.look(),
        }
    }

    /// The header that guards a write by it.
    pub(crate) fn header(self) -> String {
        let name = name::encoded(&self.part.name, true);
        format!(
            "{}={name}; fence={}",
            self.hold.kind.word(),
            self.part.fence
        )
    }
}
