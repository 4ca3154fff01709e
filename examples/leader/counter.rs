//! What the service does: it counts, in a key that only the leader may write.

use tenure::api::Code;
use tenure::{Client, Error, Leadership};

/// How often to begin anew where the key was changed by somebody in between.
const ATTEMPTS: u32 = 5;

/// Why it was not counted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CountError {
    /// Another instance leads; nothing was changed.
    #[error("this instance does not lead any longer")]
    NotLeading,
    /// The key has something else in it.
    #[error("{0}")]
    Unreadable(String),
    /// The cluster did not do it, or it is not known.
    #[error(transparent)]
    Tenure(Error),
}

impl From<Error> for CountError {
    fn from(error: Error) -> CountError {
        match error {
            Error::Lost(_) => CountError::NotLeading,
            error if error.code() == Some(Code::FenceStale) => CountError::NotLeading,
            error => CountError::Tenure(error),
        }
    }
}

fn key(election: &str) -> String {
    format!("{election}/count")
}

/// The count and the revision of the key; no revision where nothing was counted yet.
async fn look(client: &Client, key: &str) -> Result<(u64, Option<u64>), CountError> {
    let Some(entry) = client.get(key).await? else {
        return Ok((0, None));
    };
    let count = std::str::from_utf8(&entry.value)
        .ok()
        .and_then(|text| text.parse().ok());
    let count = count.ok_or_else(|| {
        CountError::Unreadable(format!(
            "the key {key} is {:?}; it has to be a number",
            entry.value
        ))
    })?;
    Ok((count, Some(entry.mod_revision)))
}

pub(crate) async fn read(client: &Client, election: &str) -> Result<u64, CountError> {
    Ok(look(client, &key(election)).await?.0)
}

/// Counts one more: only while this leadership is the one that counts, and only from what was just read.
pub(crate) async fn add(
    client: &Client,
    election: &str,
    leadership: &Leadership,
) -> Result<u64, CountError> {
    let key = key(election);
    let mut attempt = 0;
    loop {
        attempt += 1;
        let (count, revision) = look(client, &key).await?;
        let put = client.put(&key, (count + 1).to_string()).guard(leadership);
        let put = match revision {
            Some(revision) => put.if_revision(revision),
            None => put.if_absent(),
        };
        match put.await {
            Ok(_) => return Ok(count + 1),
            // Two requests of this instance at the same time.
            Err(error) if error.code() == Some(Code::ConditionFailed) && attempt < ATTEMPTS => {}
            Err(error) => return Err(error.into()),
        }
    }
}
