//! The data directory: locked by one process, and the place where a member's identity is drawn.
//!
//! ```text
//! <data dir>/lock          held locked while a process runs; says its process id
//! <data dir>/member.json   {"format":1,"member":"<16 hex digits>","name":"n1","cluster":"<32 hex digits>"}
//! ```
//!
//! The member id is drawn at the first start and never again: where `member.json` is gone but the files of a cluster
//! are there, the directory is damaged, because a member that forgot who it is could vote twice. The cluster is noted
//! when the member's log is there: from then on a missing log is damage too, and not a first start.

use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tenure_raft::MemberId;

use super::error::{RESTORE, StorageError};
use super::files;
use super::identity::ClusterId;

const FORMAT: u32 = 1;
const LOCK: &str = "lock";
pub(super) const MEMBER: &str = "member.json";
pub(super) const LOG: &str = "log.redb";
pub(super) const STATE: &str = "state.redb";

/// A data directory that this process has locked. Dropping it gives it up.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    file: MemberFile,
    member: MemberId,
    cluster: Option<ClusterId>,
    /// Its lock ends with the file, also by `kill -9`.
    _lock: File,
}

/// `member.json`.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct MemberFile {
    format: u32,
    member: String,
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cluster: Option<String>,
}

/// As much of `member.json` as every version has.
#[derive(Deserialize)]
struct Format {
    format: u32,
}

impl DataDir {
    /// Makes the directory at the first start, locks it, and draws a member id into it unless it has one. `name` is
    /// the member's label at this start, or empty where the last one stays; the id is what counts.
    ///
    /// # Errors
    /// [`StorageError::InUse`] where another process has it; [`StorageError::NotADirectory`] for a symbolic link;
    /// damage where `member.json` makes no sense or is gone.
    pub fn open(path: &Path, name: &str) -> Result<DataDir, StorageError> {
        // A trailing slash would make the system follow a symbolic link.
        let path: PathBuf = path.components().collect();
        make(&path)?;
        let lock = lock(&path)?;
        let file = member_file(&path, name)?;
        let (member, cluster) = parse(&path, &file)?;
        Ok(DataDir {
            path,
            file,
            member,
            cluster,
            _lock: lock,
        })
    }

    /// The id of the member that this directory belongs to.
    pub fn member(&self) -> MemberId {
        self.member
    }

    /// The member's label.
    pub fn name(&self) -> &str {
        &self.file.name
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The same, to be looked at: this process has it locked already.
    pub fn held(&self) -> Held {
        Held {
            path: self.path.clone(),
            _lock: None,
        }
    }

    /// The cluster that the member was part of when the directory was opened, where that was noted.
    pub(super) fn cluster(&self) -> Option<ClusterId> {
        self.cluster
    }

    /// Notes that the member's log is there and belongs to this cluster.
    pub(super) fn note_cluster(&self, cluster: ClusterId) -> Result<(), StorageError> {
        let file = MemberFile {
            cluster: Some(cluster.to_string()),
            ..self.file.clone()
        };
        write_member_file(&self.path.join(MEMBER), &file)
    }

    pub(super) fn log(&self) -> PathBuf {
        self.path.join(LOG)
    }

    pub(super) fn state(&self) -> PathBuf {
        self.path.join(STATE)
    }

    /// Where snapshots in transit are.
    pub(super) fn snapshots(&self) -> PathBuf {
        self.path.join("snapshots")
    }
}

/// What `member.json` says of a member.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Labelled {
    /// Its id.
    pub member: MemberId,
    /// Its name at its last start.
    pub name: String,
    /// Its cluster, where that was noted.
    pub cluster: Option<ClusterId>,
    /// The format of the file.
    pub format: u32,
}

/// A directory that no member runs on for as long as this lives. Nothing was written for it.
#[derive(Debug)]
pub struct Held {
    pub(super) path: PathBuf,
    _lock: Option<File>,
}

impl Held {
    /// Keeps members off a directory, beside others who only look.
    ///
    /// # Errors
    /// [`StorageError::InUse`] where a member runs on it; [`StorageError::NotADirectory`] for a symbolic link or a file.
    pub fn of(path: &Path) -> Result<Held, StorageError> {
        let path: PathBuf = path.components().collect();
        if let Some(found) = not_a_directory(&path)? {
            return Err(StorageError::NotADirectory { path, found });
        }
        let lock = match files::open_to_read(&path.join(LOCK))? {
            Some(lock) => {
                locked(&path, &lock, lock.try_lock_shared())?;
                Some(lock)
            }
            // No member has ever run on it.
            None => None,
        };
        Ok(Held { path, _lock: lock })
    }

    /// What `member.json` says; `None` where there is none, though other files of a member may be there.
    ///
    /// # Errors
    /// Damage or a newer format.
    pub fn labelled(&self) -> Result<Option<Labelled>, StorageError> {
        let Some(contents) = files::read(&self.path.join(MEMBER))? else {
            return Ok(None);
        };
        let file = read_member_file(&self.path, &contents)?;
        let (member, cluster) = parse(&self.path, &file)?;
        Ok(Some(Labelled {
            member,
            name: file.name,
            cluster,
            format: file.format,
        }))
    }

    /// Whether a member has come to be part of a cluster here; a directory in which that was cut off is as good as empty.
    ///
    /// # Errors
    /// Damage, or a directory that cannot be looked at.
    pub fn is_formed(&self) -> Result<bool, StorageError> {
        let noted = self
            .labelled()?
            .is_some_and(|label| label.cluster.is_some());
        Ok(noted || files::exists(&self.log())?)
    }

    /// Whether any file of a member is there.
    ///
    /// # Errors
    /// Where the directory cannot be looked at.
    pub fn has_data(&self) -> Result<bool, StorageError> {
        for file in [MEMBER, LOG, STATE] {
            if files::exists(&self.path.join(file))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(super) fn log(&self) -> PathBuf {
        self.path.join(LOG)
    }

    pub(super) fn state(&self) -> PathBuf {
        self.path.join(STATE)
    }
}

/// What is there in place of a directory.
fn not_a_directory(path: &Path) -> Result<Option<&'static str>, StorageError> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => Ok(None),
        Ok(metadata) if metadata.is_symlink() => Ok(Some("a symbolic link")),
        Ok(_) => Ok(Some("not a directory")),
        Err(error) => Err(StorageError::io("look at", path, error)),
    }
}

fn make(path: &Path) -> Result<(), StorageError> {
    let found = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => return Ok(()),
        Ok(metadata) if metadata.is_symlink() => "a symbolic link",
        Ok(_) => "not a directory",
        Err(error) if error.kind() == ErrorKind::NotFound => return files::create_dir(path),
        Err(error) => return Err(StorageError::io("look at", path, error)),
    };
    Err(StorageError::NotADirectory {
        path: path.to_owned(),
        found,
    })
}

fn lock(dir: &Path) -> Result<File, StorageError> {
    let path = dir.join(LOCK);
    let mut file = files::open_or_create(&path)?;
    locked(dir, &file, file.try_lock())?;
    let written = file
        .set_len(0)
        .and_then(|()| writeln!(file, "{}", std::process::id()));
    written.map_err(|e| StorageError::io("write", &path, e))?;
    Ok(file)
}

/// What came of locking a directory's file.
fn locked(dir: &Path, file: &File, result: Result<(), TryLockError>) -> Result<(), StorageError> {
    match result {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let read = file.take(16).read_to_string(&mut pid);
            let pid = read.ok().and_then(|_| pid.trim().parse().ok());
            Err(StorageError::InUse {
                path: dir.to_owned(),
                pid,
            })
        }
        Err(TryLockError::Error(error)) => Err(StorageError::io("lock", &dir.join(LOCK), error)),
    }
}

fn member_file(dir: &Path, name: &str) -> Result<MemberFile, StorageError> {
    let path = dir.join(MEMBER);
    let Some(contents) = files::read(&path)? else {
        return draw(dir, &path, name);
    };
    let mut file = read_member_file(dir, &contents)?;
    if !name.is_empty() && file.name != name {
        file.name = name.to_owned();
        parse(dir, &file)?;
        write_member_file(&path, &file)?;
    }
    Ok(file)
}

fn read_member_file(dir: &Path, contents: &[u8]) -> Result<MemberFile, StorageError> {
    let damaged = |error: serde_json::Error| damaged(dir, error.to_string());
    let Format { format } = serde_json::from_slice(contents).map_err(damaged)?;
    if format > FORMAT {
        return Err(StorageError::Newer {
            path: dir.join(MEMBER),
            found: format,
            supported: FORMAT,
        });
    }
    serde_json::from_slice(contents).map_err(damaged)
}

fn draw(dir: &Path, path: &Path, name: &str) -> Result<MemberFile, StorageError> {
    for file in [LOG, STATE] {
        if files::exists(&dir.join(file))? {
            return Err(damaged(
                dir,
                format!("it is missing, though {file} is there"),
            ));
        }
    }
    let number = loop {
        let drawn = getrandom::u64().map_err(|e| {
            StorageError::io(
                "draw a member id for",
                path,
                std::io::Error::other(e.to_string()),
            )
        })?;
        if drawn != 0 {
            break drawn;
        }
    };
    let member = MemberId(number).to_string();
    let file = MemberFile {
        format: FORMAT,
        member,
        name: name.to_owned(),
        cluster: None,
    };
    write_member_file(path, &file)?;
    Ok(file)
}

fn write_member_file(path: &Path, file: &MemberFile) -> Result<(), StorageError> {
    let mut json =
        serde_json::to_vec(file).map_err(|e| StorageError::io("encode", path, e.into()))?;
    json.push(b'\n');
    files::replace(path, &json)
}

fn parse(dir: &Path, file: &MemberFile) -> Result<(MemberId, Option<ClusterId>), StorageError> {
    let member = parse_hex(&file.member, 16).ok_or_else(|| {
        damaged(
            dir,
            format!(
                "`{}` is no member id: 16 lower-case hex digits, not all zero",
                file.member
            ),
        )
    })?;
    let cluster = match &file.cluster {
        None => None,
        Some(text) => Some(parse_hex(text, 32).map(ClusterId).ok_or_else(|| {
            damaged(
                dir,
                format!("`{text}` is no cluster id: 32 lower-case hex digits, not all zero"),
            )
        })?),
    };
    Ok((MemberId(member as u64), cluster))
}

fn parse_hex(text: &str, digits: usize) -> Option<u128> {
    let hex = text.len() == digits && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    u128::from_str_radix(text, 16)
        .ok()
        .filter(|number| hex && *number != 0)
}

fn damaged(dir: &Path, reason: String) -> StorageError {
    StorageError::Damaged {
        path: dir.join(MEMBER),
        reason,
        remedy: RESTORE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn temp() -> tempfile::TempDir {
        tempfile::tempdir().expect("a temporary directory")
    }

    #[test]
    fn member_keeps_the_id_that_it_drew_and_takes_a_new_name() {
        let dir = temp();
        let path = dir.path().join("a/b");
        let id = DataDir::open(&path, "n1").expect("first start").member();
        assert_ne!(id.0, 0);
        assert_eq!(
            DataDir::open(&path, "n2").expect("second start").member(),
            id
        );
        let unnamed = DataDir::open(&path, "").expect("a start without a name");
        assert_eq!((unnamed.member(), unnamed.name()), (id, "n2"));
        drop(unnamed);
        let json = fs::read_to_string(path.join("member.json")).expect("member.json");
        assert_eq!(
            json,
            format!("{{\"format\":1,\"member\":\"{id}\",\"name\":\"n2\"}}\n")
        );
        let mode = |path: &Path| fs::metadata(path).expect("metadata").permissions().mode() & 0o777;
        assert_eq!(
            (
                mode(&path),
                mode(&path.join("member.json")),
                mode(&path.join("lock"))
            ),
            (0o700, 0o600, 0o600)
        );
    }

    #[test]
    fn second_process_is_told_who_has_the_directory() {
        let dir = temp();
        let first = DataDir::open(dir.path(), "n1").expect("first");
        match DataDir::open(dir.path(), "n1") {
            Err(StorageError::InUse { pid, .. }) => assert_eq!(pid, Some(std::process::id())),
            other => panic!("{other:?}"),
        }
        drop(first);
        DataDir::open(dir.path(), "n1").expect("free again");
    }

    #[test]
    fn symbolic_link_and_file_are_refused() {
        let dir = temp();
        let link = dir.path().join("link");
        symlink(dir.path(), &link).expect("link");
        let file = dir.path().join("file");
        fs::write(&file, b"").expect("file");
        for path in [link.clone(), link.join(""), file] {
            let error = DataDir::open(&path, "n1").expect_err("refused");
            assert!(
                matches!(error, StorageError::NotADirectory { .. }),
                "{error}"
            );
        }
    }

    #[test]
    fn member_file_that_is_lost_senseless_or_newer_is_not_replaced() {
        let check = |contents: Option<&str>, expected: &str| {
            let dir = temp();
            drop(DataDir::open(dir.path(), "n1").expect("first start"));
            fs::write(dir.path().join("log.redb"), b"log").expect("log");
            let path = dir.path().join("member.json");
            match contents {
                Some(contents) => fs::write(&path, contents).expect("write"),
                None => fs::remove_file(&path).expect("remove"),
            }
            let error = DataDir::open(dir.path(), "n1").expect_err("refused");
            assert_eq!(error.exit_code(), 3, "{error}");
            assert!(error.to_string().contains(expected), "{error}");
        };
        check(None, "is missing");
        check(Some(""), "EOF");
        check(
            Some("{\"format\":2}"),
            "has format 2 and this version reads up to 1",
        );
        check(
            Some("{\"format\":1,\"member\":\"0000000000000000\",\"name\":\"\"}"),
            "is no member id",
        );
        check(
            Some("{\"format\":1,\"member\":\"+000000000000001\",\"name\":\"\"}"),
            "is no member id",
        );
    }
}
