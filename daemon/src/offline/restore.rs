//! `tenured restore`: a member that is alone in a new cluster, out of a backup.

use std::io::Write;
use std::path::Path;

use tenure_raft::MemberInfo;

use super::{
    OfflineError, Second, alone, begin, draw_cluster, root_token, state_of_backup, tell_access,
    told_of_restored, utc,
};
use crate::config::{Config, ConfigError, RestoreFlags};
use crate::storage::{Backup, DataDir, Held, found};

/// Makes the data directory of a member out of a backup.
///
/// # Errors
///
/// Where the backup is not whole, the directory holds a member, or the disk fails. The backup is read before the directory
/// is touched, and a directory that was cut off on the way may be restored into again.
pub fn restore(flags: RestoreFlags, out: &mut impl Write) -> Result<(), OfflineError> {
    let file = flags.file.clone();
    let root = root_token(flags.root_token_file.as_deref())?;
    let config = Config::load(flags.into())?;
    if config.name.is_empty() {
        return Err(ConfigError::Missing {
            setting: "name",
            needed: "say what the member is called: --name NAME, TENURED_NAME or name in the file",
        }
        .into());
    }
    check_empty(&config.data_dir)?;
    let Backup {
        origin,
        cluster: of,
        meta,
        digest,
        rows,
        ..
    } = Backup::open(&file)?;
    let state = state_of_backup(&file, rows, digest)?;
    let at = state.revision();
    let second = Second::now();
    let restored = begin(state, &file, second, root.as_ref())?;
    let version = restored.state.version();
    if config.state_version_at_most < version {
        return Err(OfflineError::HeldBack {
            path: file,
            found: version,
            most: config.state_version_at_most,
        });
    }
    second.pass(restored.state.revision());

    let dir = DataDir::open(&config.data_dir, &config.name)?;
    let (member, cluster) = (dir.member(), draw_cluster()?);
    let info = MemberInfo {
        name: config.name.clone(),
        peer_url: config.peer_advertise.clone(),
        client_url: config.client_advertise.clone(),
        start: None,
    };
    let base = alone(member, info, &restored.state);
    found(&dir, cluster, &base, &restored.state)?;
    drop(dir);

    let data_dir = config.data_dir.display();
    writeln!(
        out,
        "restored {} to {data_dir}: the state of cluster {of} at revision {at} (entry {}), as member {} had it at {}",
        file.display(),
        meta.position.index,
        origin.name,
        utc(origin.unix_ms / 1000)
    )?;
    writeln!(
        out,
        "{} {member} is alone in the new cluster {cluster}, which begins at revision {}; {}",
        config.name,
        second.base(),
        told_of_restored(&restored)
    )?;
    tell_access(&restored.state, root.as_ref(), out)?;
    writeln!(
        out,
        "it is reached at {} by clients and at {} by members: start it with `tenured serve` and these settings, then add the \
         others, with empty data directories",
        config.client_advertise, config.peer_advertise
    )?;
    Ok(())
}

/// A directory that is not there, or in which no member has come to be.
fn check_empty(path: &Path) -> Result<(), OfflineError> {
    if std::fs::symlink_metadata(path).is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound) {
        return Ok(());
    }
    match Held::of(path)?.is_formed()? {
        true => Err(OfflineError::NotEmpty(path.to_owned())),
        false => Ok(()),
    }
}
