//! The data directory: locked by one process, and the place where a member's identity is drawn.
//!
//! ```text
//! <data dir>/lock              held locked while a process runs; says its process id
//! <data dir>/member.json       {"format":1,"member":"<16 hex digits>","name":"n1"}
//! <data dir>/cluster/          made whole by one rename when the member joins a cluster; see the module above
//! <data dir>/cluster.new/      the same, unfinished: removed at every start
//! <data dir>/snapshots/        snapshots being sent or received
//! ```
//!
//! The member id is drawn at the first start and never again: where `member.json` is gone but a cluster's files are
//! there, the directory is damaged, because a member that forgot who it is could vote twice.

use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tenure_raft::MemberId;

use super::error::{RESTORE, StorageError};
use super::files;

const FORMAT: u32 = 1;

/// A data directory that this process has locked. Dropping it gives it up.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    member: MemberId,
    /// Its lock ends with the file, also by `kill -9`.
    _lock: File,
}

/// `member.json`.
#[derive(Debug, Deserialize, Serialize)]
struct MemberFile {
    format: u32,
    member: String,
    name: String,
}

/// As much of `member.json` as every version has.
#[derive(Deserialize)]
struct Format {
    format: u32,
}

impl DataDir {
    /// Makes the directory at the first start, locks it, and draws a member id into it unless it has one. `name` is
    /// the member's label at this start; the id is what counts.
    ///
    /// # Errors
    /// [`StorageError::InUse`] where another process has it; [`StorageError::NotADirectory`] for a symbolic link;
    /// damage where `member.json` makes no sense or is gone.
    pub fn open(path: &Path, name: &str) -> Result<DataDir, StorageError> {
        // A trailing slash would make the system follow a symbolic link.
        let path: PathBuf = path.components().collect();
        make(&path)?;
        let lock = lock(&path)?;
        files::remove_dir(&path.join("cluster.new"))?;
        let member = member(&path, name)?;
        Ok(DataDir {
            path,
            member,
            _lock: lock,
        })
    }

    /// The id of the member that this directory belongs to.
    pub fn member(&self) -> MemberId {
        self.member
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the files of a formed member are.
    pub(super) fn cluster(&self) -> PathBuf {
        self.path.join("cluster")
    }

    /// Where they are while they are being made.
    pub(super) fn unfinished_cluster(&self) -> PathBuf {
        self.path.join("cluster.new")
    }

    /// Where snapshots in transit are.
    pub(super) fn snapshots(&self) -> PathBuf {
        self.path.join("snapshots")
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
    let path = dir.join("lock");
    let mut file = files::open_or_create(&path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let read = (&file).take(16).read_to_string(&mut pid);
            let pid = read.ok().and_then(|_| pid.trim().parse().ok());
            return Err(StorageError::InUse {
                path: dir.to_owned(),
                pid,
            });
        }
        Err(TryLockError::Error(error)) => return Err(StorageError::io("lock", &path, error)),
    }
    let written = file
        .set_len(0)
        .and_then(|()| writeln!(file, "{}", std::process::id()));
    written.map_err(|e| StorageError::io("write", &path, e))?;
    Ok(file)
}

fn member(dir: &Path, name: &str) -> Result<MemberId, StorageError> {
    let path = dir.join("member.json");
    let Some(contents) = files::read(&path)? else {
        return draw(dir, &path, name);
    };
    let damaged = |reason: String| StorageError::Damaged {
        path: path.clone(),
        reason,
        remedy: RESTORE,
    };
    let Format { format } =
        serde_json::from_slice(&contents).map_err(|e| damaged(e.to_string()))?;
    if format > FORMAT {
        return Err(StorageError::Newer {
            path: path.clone(),
            found: format,
            supported: FORMAT,
        });
    }
    let file: MemberFile = serde_json::from_slice(&contents).map_err(|e| damaged(e.to_string()))?;
    let id = parse_member(&file.member).ok_or_else(|| {
        damaged(format!(
            "`{}` is no member id: 16 lower-case hex digits, not all zero",
            file.member
        ))
    })?;
    if file.name != name {
        write_member(&path, id, name)?;
    }
    Ok(id)
}

fn draw(dir: &Path, path: &Path, name: &str) -> Result<MemberId, StorageError> {
    if files::exists(&dir.join("cluster"))? {
        let reason = "it is missing, though this member belongs to a cluster".to_owned();
        return Err(StorageError::Damaged {
            path: path.to_owned(),
            reason,
            remedy: RESTORE,
        });
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
    let id = MemberId(number);
    write_member(path, id, name)?;
    Ok(id)
}

fn write_member(path: &Path, id: MemberId, name: &str) -> Result<(), StorageError> {
    let file = MemberFile {
        format: FORMAT,
        member: id.to_string(),
        name: name.to_owned(),
    };
    let mut json =
        serde_json::to_vec(&file).map_err(|e| StorageError::io("encode", path, e.into()))?;
    json.push(b'\n');
    files::replace(path, &json)
}

fn parse_member(text: &str) -> Option<MemberId> {
    let hex = text.len() == 16 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let number = u64::from_str_radix(text, 16).ok()?;
    (hex && number != 0).then_some(MemberId(number))
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
            fs::create_dir(dir.path().join("cluster")).expect("cluster");
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
