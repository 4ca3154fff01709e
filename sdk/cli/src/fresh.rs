//! Files that are for nobody else: backups, which have every value in them, and tokens.
//!
//! Owns the rule that under the name that was asked for there is all of a file or nothing of ours: it is written under
//! another name beside it, synced, and only then given its own.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::exit::{Exit, Trouble};

const PRIVATE: u32 = 0o600;

/// A file that is written under another name until it is whole; without its name it is removed.
pub(crate) struct Fresh {
    pub(crate) file: File,
    path: PathBuf,
    name: PathBuf,
    force: bool,
}

impl Fresh {
    /// Begins one. Nothing has its name yet.
    pub(crate) fn beside(name: &Path, force: bool) -> Result<Fresh, Trouble> {
        let Some(own) = name.file_name() else {
            let what = format!("{} is no name of a file", name.display());
            return Err(
                Trouble::usage(what).then("name a file that is to be made, or - for stdout")
            );
        };
        match name.symlink_metadata() {
            Ok(metadata) if metadata.is_dir() => {
                let what = format!("{} is a directory", name.display());
                return Err(Trouble::usage(what).then("name a file in it"));
            }
            Ok(_) if !force => return Err(there_already(name)),
            Ok(_) | Err(_) => {}
        }
        let own = own.to_string_lossy();
        let path = name.with_file_name(format!(".{own}.{}.part", std::process::id()));
        let opened = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(PRIVATE)
            .open(&path);
        let file = opened.map_err(|error| cannot("make", &path, &error))?;
        Ok(Fresh {
            file,
            path,
            name: name.to_owned(),
            force,
        })
    }

    /// What is told where it cannot be written.
    pub(crate) fn failed(&self, error: io::Error) -> Trouble {
        cannot("write", &self.path, &error)
    }

    /// On the disk first, then by its name, then the name on the disk.
    pub(crate) fn give_name(self) -> Result<(), Trouble> {
        self.file.sync_all().map_err(|error| self.failed(error))?;
        let named = match self.force {
            true => std::fs::rename(&self.path, &self.name),
            // A second name is refused where the file has come to be meanwhile; the first one goes at the end.
            false => std::fs::hard_link(&self.path, &self.name),
        };
        named.map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => there_already(&self.name),
            _ => cannot("give its name to", &self.name, &error),
        })?;
        let folder = match self.name.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let synced = File::open(folder).and_then(|folder| folder.sync_all());
        synced.map_err(|error| cannot("sync", folder, &error))
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        // Where it has its name by now, there is nothing of the other.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn there_already(name: &Path) -> Trouble {
    let what = format!("{} is there already", name.display());
    Trouble::usage(what).then("choose another name, or replace it with --force")
}

fn cannot(what: &str, path: &Path, error: &io::Error) -> Trouble {
    Trouble::new(
        Exit::FAILED,
        format!("cannot {what} {}: {error}", path.display()),
    )
}
