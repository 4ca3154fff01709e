//! Reads of locks, semaphores and elections alike: of one, and of those that are held or waited for.
//!
//! Owns the parameters of these reads and what bounds a page. How each kind is shown is its own business.

use tenure_state::{
    Clock, Collection, HolderView, Kind, QueueView, Resource, Revision, Scope, prefix_end,
};

use super::failure::Failure;
use super::reading::{Looked, Reading, Settled};
use super::reply::Reply;
use super::rights::{LIST, Needed, READ};
use super::service::Context;
use super::text;

/// How many are on a page unless it is asked for otherwise.
const PAGE_DEFAULT: u64 = 100;
/// The most that are on a page.
const PAGE_MOST: u64 = 1000;
/// A page ends at this many queues and holders together (`design.md`: no read holds the state for more than 256 rows).
const PAGE_ROWS: usize = 256;
/// And where what callers wrote comes to this: the values of elections may have 64 KiB each.
const PAGE_BYTES: usize = 4 << 20;

/// Answers a read of one; where the request says so, it waits for a change of it.
///
/// # Errors
///
/// `invalid-request` for parameters that are wrong, and as [`Reading::answer`].
pub(super) async fn read(
    mut cx: Context<'_>,
    kind: Kind,
    name: &str,
    show: impl Fn(&QueueView, Clock, Revision) -> Result<Reply, Failure>,
) -> Result<Reply, Failure> {
    let reading = Reading::of_resource(&mut cx)?;
    cx.finish_query()?;
    cx.no_body().await?;
    let resource = Resource {
        collection: Collection::of(kind),
        name: name.to_owned().into(),
    };
    let needed = Needed::on(READ, Scope::One(Collection::of(kind), name.as_bytes()));
    let look = |settled: &Settled| {
        let (view, clock, revision) = cx.read(&needed, |state| {
            let view = state.queue(kind, name);
            (view, settled.clock(state), state.revision())
        })?;
        Ok(Looked::there(
            view.mod_revision,
            show(&view, clock, revision),
        ))
    };
    reading.answer(&cx, (resource, &needed), look).await
}

/// A page of a list.
pub(super) struct Page {
    /// Names and what they are, in the order of names.
    pub(super) queues: Vec<(String, QueueView)>,
    /// What to send as `start_after` for those behind them, where there are any.
    pub(super) next: Option<String>,
    /// How many match in all.
    pub(super) count: u64,
    /// The clock by which what remains is told.
    pub(super) clock: Clock,
    /// The revision that it reflects.
    pub(super) revision: Revision,
    settled: Settled,
}

impl Page {
    /// Reads the page that the query asks for.
    ///
    /// # Errors
    ///
    /// `invalid-request` for parameters that are wrong, and as [`Reading::settle`].
    pub(super) async fn read(cx: &mut Context<'_>, kind: Kind) -> Result<Page, Failure> {
        let reading = Reading::of(cx)?;
        let prefix = text::prefix("prefix", cx.query.take("prefix")?.unwrap_or_default())?;
        let start_after = cx.query.take("start_after")?;
        let start_after = start_after
            .map(|name| text::prefix("start_after", name))
            .transpose()?;
        let limit = cx.query.take("limit")?;
        let limit = limit.map(|text| text::number("limit", &text, 1, PAGE_MOST));
        let limit = limit.transpose()?.unwrap_or(PAGE_DEFAULT);
        cx.finish_query()?;
        cx.no_body().await?;
        let end = prefix_end(prefix.as_bytes());
        let range = Scope::Range {
            collection: Collection::of(kind),
            start: prefix.as_bytes(),
            end: end.as_deref(),
        };
        let needed = Needed::on(LIST, range);
        let settled = reading.settle(cx, &needed).await?;
        let (mut page, clock, revision) = cx.read(&needed, |state| {
            let limit = usize::try_from(limit).unwrap_or(usize::MAX);
            let start_after = start_after.as_deref();
            let page = state.queues_page(kind, &prefix, start_after, limit, PAGE_ROWS);
            (page, settled.clock(state), state.revision())
        })?;
        let fitting = fitting(&page.queues);
        page.more |= fitting < page.queues.len();
        page.queues.truncate(fitting);
        let last = page.queues.last().filter(|_| page.more);
        Ok(Page {
            next: last.map(|(name, _)| name.clone()),
            queues: page.queues,
            count: page.count,
            clock,
            revision,
            settled,
        })
    }

    /// The answer that shows it.
    pub(super) fn answer(&self, reply: Reply) -> Reply {
        self.settled.mark(reply)
    }
}

/// How many of these a page has room for; one at least, so that a caller gets on.
fn fitting(queues: &[(String, QueueView)]) -> usize {
    let mut bytes = 0;
    let fits = |(name, view): &&(String, QueueView)| {
        bytes += name.len() + view.holders.iter().map(size).sum::<usize>();
        bytes <= PAGE_BYTES
    };
    queues.iter().take_while(fits).count().max(1)
}

/// About the bytes by which callers can make a holder long.
fn size(view: &HolderView) -> usize {
    let labels = view.metadata.iter();
    let labels = labels.map(|(key, value)| key.len() + value.len());
    view.owner.len() + view.lease_name.len() + view.value.len() + labels.sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tenure_state::{Fence, LeaseId, Share};

    fn with_value(bytes: usize) -> (String, QueueView) {
        let holder = HolderView {
            owner: String::new(),
            lease: LeaseId::new(1).expect("it is positive"),
            lease_name: String::new(),
            metadata: Default::default(),
            share: Share::Exclusive,
            fence: Fence(2),
            acquired_revision: Revision(2),
            acquired_at: None,
            deadline: Clock(0),
            value: "x".repeat(bytes),
        };
        let view = QueueView {
            holders: vec![holder],
            ..QueueView::default()
        };
        ("e".to_owned(), view)
    }

    #[test]
    fn a_page_ends_where_it_is_long_and_has_one_at_least() {
        let check = |sizes: &[usize], expected| {
            let queues: Vec<_> = sizes.iter().copied().map(with_value).collect();
            assert_eq!(fitting(&queues), expected, "{sizes:?}");
        };
        check(&[0, 0, 0], 3);
        check(&[PAGE_BYTES - 1, 0], 1);
        check(&[PAGE_BYTES - 2, 0], 2);
        check(&[2 * PAGE_BYTES, 0], 1);
    }
}
