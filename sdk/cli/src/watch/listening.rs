//! Listening to a watch, and saying so where nobody answers: a watch goes on for as long as the cluster is away, but whoever
//! reads it should not take that for quiet.

use std::time::Duration;

use tenure::{Error, Told, Watch as Stream};
use tokio::time::{Instant, timeout};

use crate::exit::Trouble;
use crate::output::note;

/// Between two looks at when a member last answered.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// In quiet times a member answers every 10 s; one that has frozen is left after 12, and the next answers 10 later.
const MOST_QUIET: Duration = Duration::from_secs(24);

/// A watch, of which it is told when nobody answers.
pub(super) struct Listening {
    stream: Stream,
    silence: Silence,
    /// When it was last looked at who answered.
    looked: Instant,
}

impl Listening {
    pub(super) fn to(stream: Stream) -> Listening {
        Listening {
            stream,
            silence: Silence::default(),
            looked: Instant::now(),
        }
    }

    /// Everything up to here was told, and is done with if all of that is.
    pub(super) fn revision(&self) -> Option<u64> {
        self.stream.revision()
    }

    /// What comes next; none where the watch has ended. Dropping the future loses nothing.
    ///
    /// # Errors
    ///
    /// Where the watch ended with one, or no member ever answered while the client was patient.
    pub(super) async fn next(&mut self) -> Result<Option<Told>, Trouble> {
        loop {
            let told = timeout(LOOK_EVERY, self.stream.next()).await;
            let (heard, trouble) = (self.stream.heard(), self.stream.trouble());
            if let (None, Some(error)) = (heard, &trouble) {
                return Err(error.clone().into());
            }
            let before = std::mem::replace(&mut self.looked, Instant::now());
            match self.silence.word(self.looked - before, heard) {
                Some(Word::Silent) => note(silent(trouble.as_ref())),
                Some(Word::Heard) => note("a member answers again: the watch goes on"),
                None => {}
            }
            if let Ok(told) = told {
                return Ok(told.transpose()?);
            }
        }
    }
}

fn silent(trouble: Option<&Error>) -> String {
    let why = trouble.and_then(Error::failure);
    let why = why.map_or_else(String::new, |failure| format!(" ({failure})"));
    format!("no member has answered for a while{why}: what happens meanwhile is told when one does")
}

/// For how long nobody has answered, and whether that was told. Time in which this program was stopped or the machine
/// suspended is not counted: nobody was listened to.
#[derive(Default)]
struct Silence {
    lasts: Duration,
    told: bool,
}

/// What is to be said.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Word {
    Silent,
    Heard,
}

impl Silence {
    /// So long after the last look, with a member having answered so long ago.
    fn word(&mut self, looked: Duration, heard: Option<Duration>) -> Option<Word> {
        if heard.is_some_and(|ago| ago <= looked) {
            self.lasts = Duration::ZERO;
            return std::mem::take(&mut self.told).then_some(Word::Heard);
        }
        self.lasts += looked.min(LOOK_EVERY * 2);
        let is_news = self.lasts >= MOST_QUIET && !self.told;
        self.told |= is_news;
        is_news.then_some(Word::Silent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silence_is_told_once_and_so_is_its_end() {
        let mut silence = Silence::default();
        let second = Duration::from_secs(1);
        let mut told = Vec::new();
        for at in 0..100_u64 {
            let answers = [0, 11, 20, 70, 80];
            let last = answers.into_iter().rfind(|answer| *answer <= at);
            let ago = last.map(|last| Duration::from_secs(at - last) + second / 2);
            told.extend(silence.word(second, ago).map(|word| (at, word)));
        }
        assert_eq!(told.len(), 2, "{told:?}");
        assert_eq!(told[0].1, Word::Silent);
        assert!((40..46).contains(&told[0].0), "{told:?}");
        assert_eq!(told[1], (70, Word::Heard));
    }

    #[test]
    fn time_in_which_this_program_was_stopped_is_no_silence_of_the_members() {
        let mut silence = Silence::default();
        let hour = Duration::from_secs(3_600);
        let ago = Some(hour + Duration::from_secs(5));
        assert_eq!(silence.word(hour, ago), None);
        assert_eq!(silence.word(LOOK_EVERY, Some(LOOK_EVERY / 2)), None);
    }
}
