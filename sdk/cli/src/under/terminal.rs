//! The terminal: a command in a group of its own may read it only while that group is in the foreground.

use std::io::stdin;

use nix::sys::signal::{SigSet, Signal};
use rustix::process::{Pid, getpgrp};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetpgrp, tcsetattr, tcsetpgrp};

/// The terminal on stdin. None is used where stdin is something else: then the command reads no terminal, and in a
/// pipeline the other programs keep theirs.
pub(super) struct Terminal {
    /// How it was set when the command got it.
    modes: Option<Termios>,
}

impl Terminal {
    /// The terminal, where this program is in its foreground.
    pub(super) fn in_foreground() -> Option<Terminal> {
        let foreground = tcgetpgrp(stdin()).ok()?;
        let modes = tcgetattr(stdin()).ok();
        (foreground == getpgrp()).then_some(Terminal { modes })
    }

    /// Makes another group its foreground: what is typed, and Ctrl-C, goes there.
    pub(super) fn give(&self, group: Pid) {
        set_foreground(group);
    }

    /// Makes the group of this program its foreground.
    pub(super) fn take_back(&self) {
        set_foreground(getpgrp());
    }

    /// Sets it as it was: a command that was killed had no time for that.
    pub(super) fn restore(&self) {
        if let Some(modes) = &self.modes {
            let _ = tcsetattr(stdin(), OptionalActions::Drain, modes);
        }
    }
}

fn set_foreground(group: Pid) {
    // From the background this is answered by a signal that stops the caller, unless it is blocked.
    let mut blocked = SigSet::empty();
    blocked.add(Signal::SIGTTOU);
    if blocked.thread_block().is_ok() {
        // Fails where the terminal has gone: then nobody needs it any more.
        let _ = tcsetpgrp(stdin(), group);
        let _ = blocked.thread_unblock();
    }
}
