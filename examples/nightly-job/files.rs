//! A store of plain files, for those without a database.
//!
//! `fence` has the highest fence that was seen, and `lock` is locked from the look at it until the file that it lets
//! in is there. The system frees that lock when a process dies. Hosts share such a directory where their file system
//! has locks that all of them see; a local disk has, and so has NFS 4.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::NamedTempFile;

use crate::inventory::Item;
use crate::store::{Progress, Store, StoreError};

/// How long another process may have the directory for itself: each write takes milliseconds.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);
/// The mark of a night that is done. Items end in `.item`, so none is called so.
const FINISHED: &str = "finished";

/// A directory with a folder for each night.
pub(crate) struct Files {
    directory: PathBuf,
}

impl Files {
    pub(crate) fn open(directory: PathBuf) -> Result<Files, StoreError> {
        fs::create_dir_all(&directory).map_err(at(&directory))?;
        Ok(Files { directory })
    }

    /// Has the directory for itself, and a fence that is not stale.
    async fn admit(&self, fence: u64) -> Result<Admitted, StoreError> {
        let lock = self.lock().await?;
        let path = self.directory.join("fence");
        let highest = match fs::read_to_string(&path) {
            Ok(text) => text.trim().parse().map_err(|_| StoreError::File {
                path: path.display().to_string(),
                source: io::Error::other(format!("{text:?} is not a fence")),
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(at(&path)(error)),
        };
        if fence < highest {
            return Err(StoreError::Stale { fence, highest });
        }
        if fence > highest {
            replace(&self.directory, "fence", fence.to_string().as_bytes())?;
        }
        Ok(Admitted { _lock: lock })
    }

    async fn lock(&self) -> Result<File, StoreError> {
        let path = self.directory.join("lock");
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path);
        let file = file.map_err(at(&path))?;
        let began = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) if began.elapsed() < LOCK_PATIENCE => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                Err(error) => return Err(at(&path)(error.into())),
            }
        }
    }

    fn night(&self, night: &str) -> Result<PathBuf, StoreError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if night.is_empty() || !night.chars().all(plain) {
            return Err(StoreError::Name(format!(
                "--night is {night:?}; this store takes letters, digits and `-`, such as 2026-11-30"
            )));
        }
        Ok(self.directory.join(format!("night-{night}")))
    }
}

/// While this is there, no other process changes the directory.
struct Admitted {
    _lock: File,
}

impl Store for Files {
    async fn begin(&mut self, night: &str, fence: u64) -> Result<Progress, StoreError> {
        let folder = self.night(night)?;
        let _admitted = self.admit(fence).await?;
        fs::create_dir_all(&folder).map_err(at(&folder))?;
        let mut progress = Progress::default();
        for entry in fs::read_dir(&folder).map_err(at(&folder))? {
            let name = entry.map_err(at(&folder))?.file_name();
            let name = name.to_string_lossy();
            progress.finished |= name == FINISHED;
            progress
                .done
                .extend(name.strip_suffix(".item").map(str::to_owned));
        }
        Ok(progress)
    }

    async fn write(&mut self, night: &str, fence: u64, item: &Item) -> Result<(), StoreError> {
        let folder = self.night(night)?;
        let _admitted = self.admit(fence).await?;
        let line = format!("{} {:08x} fence {fence}\n", item.bytes, item.checksum);
        replace(&folder, &format!("{}.item", item.name), line.as_bytes())
    }

    async fn finish(&mut self, night: &str, fence: u64) -> Result<(), StoreError> {
        let folder = self.night(night)?;
        let _admitted = self.admit(fence).await?;
        replace(&folder, FINISHED, format!("fence {fence}\n").as_bytes())
    }
}

/// A file is there whole or not at all, also after a crash.
fn replace(folder: &Path, name: &str, content: &[u8]) -> Result<(), StoreError> {
    let write = || {
        let mut file = NamedTempFile::new_in(folder)?;
        file.write_all(content)?;
        file.as_file().sync_all()?;
        file.persist(folder.join(name))?;
        File::open(folder)?.sync_all()
    };
    write().map_err(at(&folder.join(name)))
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.display().to_string();
    move |source| StoreError::File { path, source }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn item(name: &str) -> Item {
        Item {
            name: name.into(),
            bytes: 3,
            checksum: 7,
        }
    }

    #[tokio::test]
    async fn a_fence_that_was_passed_by_another_is_refused_for_every_call_and_changes_nothing() {
        let dir = tempfile::tempdir().expect("there is room for a directory");
        let mut store = Files::open(dir.path().into()).expect("it is opened");
        store.begin("n1", 5).await.expect("the first fence");
        store
            .write("n1", 5, &item("a"))
            .await
            .expect("its own fence");
        let mut other = Files::open(dir.path().into()).expect("it is opened");
        let progress = other.begin("n1", 9).await.expect("a greater fence");
        assert_eq!(progress.done, BTreeSet::from(["a".to_owned()]));
        let stale = |result| {
            assert!(
                matches!(
                    result,
                    Err(StoreError::Stale {
                        fence: 5,
                        highest: 9
                    })
                ),
                "{result:?}"
            );
        };
        stale(store.write("n1", 5, &item("b")).await);
        stale(store.finish("n1", 5).await);
        stale(store.begin("n2", 5).await.map(drop));
        let progress = other.begin("n1", 9).await.expect("its own fence");
        assert_eq!(
            progress,
            Progress {
                done: BTreeSet::from(["a".to_owned()]),
                finished: false
            }
        );
    }

    #[tokio::test]
    async fn a_night_cannot_name_a_folder_elsewhere() {
        let dir = tempfile::tempdir().expect("there is room for a directory");
        let mut store = Files::open(dir.path().into()).expect("it is opened");
        for night in ["", "../x", "a/b", "."] {
            let refused = store.begin(night, 1).await;
            assert!(
                matches!(refused, Err(StoreError::Name(_))),
                "{night:?}: {refused:?}"
            );
        }
    }

    #[tokio::test]
    async fn a_fence_file_that_holds_no_fence_is_an_error_and_not_a_fence_of_zero() {
        let dir = tempfile::tempdir().expect("there is room for a directory");
        fs::write(dir.path().join("fence"), "many").expect("it is written");
        let mut store = Files::open(dir.path().into()).expect("it is opened");
        let refused = store
            .begin("n1", 1)
            .await
            .expect_err("nothing can be compared");
        assert!(
            refused.to_string().contains("\"many\" is not a fence"),
            "{refused}"
        );
    }
}
