//! The tasks of a transport: who owns them, and how they end.
//!
//! Every task here, those that hyper makes for its connections too, is counted by one tracker, so that stopping can
//! wait for all of them, and hangs on a token, so that a connection that is given up is gone at once, whatever state
//! its protocol is in.

use std::future::Future;

use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

/// A group of tasks that ends together.
#[derive(Clone, Debug, Default)]
pub(super) struct Tasks {
    tracker: TaskTracker,
    token: CancellationToken,
}

impl Tasks {
    /// A group inside this one: it ends with it, or earlier on its own.
    pub(super) fn child(&self) -> Tasks {
        Tasks {
            tracker: self.tracker.clone(),
            token: self.token.child_token(),
        }
    }

    /// Ends when the group is told to.
    pub(super) async fn stopped(&self) {
        self.token.cancelled().await;
    }

    /// Whether it was told to.
    #[cfg(test)]
    pub(super) fn is_stopped(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Tells every task of the group to end.
    pub(super) fn stop(&self) {
        self.token.cancel();
    }

    /// Tells every task of the group to end when the guard is dropped.
    pub(super) fn stop_on_drop(&self) -> DropGuard {
        self.token.clone().drop_guard()
    }

    /// Starts a task that looks at [`Tasks::stopped`] itself.
    pub(super) fn spawn_on(
        &self,
        handle: &tokio::runtime::Handle,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        self.tracker.spawn_on(task, handle);
    }

    /// The same, on the runtime of the caller.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn(task);
    }

    /// Waits until every task of this group and of all groups around it has ended. They must have been told to.
    pub(super) async fn ended(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}

/// What hyper starts for a connection ends with the connection's group, in the middle of whatever it does.
impl<F> hyper::rt::Executor<F> for Tasks
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, task: F) {
        let token = self.token.clone();
        self.tracker.spawn(async move {
            token.run_until_cancelled(task).await;
        });
    }
}
